"""Binary cross-entropy, of probabilities and of logits: yes-or-no classification."""

import torch
from torch import Tensor

from minifw.nn.loss import Loss, reduce
from minifw.nn.rule import Pullback, constant

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
]  # fmt: skip

# 1e-12, which PyTorch's kernel holds in float32 whatever it computes in.
_SMALLEST = 9.999999960041972e-13


def _check_pair(input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ValueError(
            f"target shape {list(target.shape)} must be the same as input shape "
            f"{list(input.shape)}; reshape one of them"
        )
    if not target.is_floating_point():
        raise RuntimeError(
            f"expected a floating-point target, got {target.dtype}; convert it with "
            f".to({input.dtype})"
        )


def _weigh(tensor: Tensor, weight: Tensor | None) -> Tensor:
    return tensor if weight is None else tensor * weight.expand(tensor.shape)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> tuple[Tensor, Pullback]:
    """-(t log x + (1 - t) log(1 - x)), reduced; its derivative in x is (x - t) / (x (1 - x)).

    Both are multiplied by ``weight``. As in torch, each logarithm is at least -100 and the
    denominator at least 1e-12, so that both are finite for x of exactly 0 and 1.

    Shape:
        - input and target: (\\*), equal; weight: broadcast to them.
        - output: scalar, or (\\*) for reduction "none".

    Raises:
        ValueError: shapes differ, or reduction is unknown.
        RuntimeError: an entry of input or target is not in [0, 1]; dtypes differ; weight cannot be
            broadcast.
    """
    _check_pair(input, target)
    if input.dtype != target.dtype:
        raise RuntimeError(f"expected a target of {input.dtype}, as the input, got {target.dtype}")
    for name, tensor in (("input", input), ("target", target)):
        if not torch.equal(tensor.clamp(0, 1), tensor):  # nor is NaN equal to itself
            low, high = [bound.item() for bound in torch.aminmax(tensor)]
            raise RuntimeError(
                f"all elements of {name} should be between 0 and 1, got {low} to {high}; "
                + ("put a Sigmoid before the loss" if name == "input" else "use labels 0 and 1")
            )
    unit = constant(1.0, input.dtype, input.device)
    log_no, log_yes = (-input).log1p_().clamp_(min=-100), input.log().clamp_(min=-100)
    loss = (target - unit).mul_(log_no).sub_(log_yes.mul_(target))
    output, pullback_reduce = reduce(_weigh(loss, weight), reduction)

    def pullback(grad_output: Tensor) -> Tensor:
        derivative = (input - target).div_((unit - input).mul_(input).clamp_(min=_SMALLEST))
        return _weigh(derivative, weight) * pullback_reduce(grad_output)

    return output, pullback


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> tuple[Tensor, Pullback]:
    """-(p t log s(x) + (1 - t) log(1 - s(x))), reduced, with s the sigmoid and p pos_weight.

    Its derivative in x is (p t + 1 - t) s(x) - p t; both are multiplied by ``weight``. Computed as
    (1 - t) x - (p t + 1 - t) log s(x), and log s(x) as min(x, 0) - log(1 + exp(-abs(x))), so that
    every finite x gives finite values.

    Shape:
        - input and target: (\\*), equal; weight and pos_weight: broadcast to them.
        - output: scalar, or (\\*) for reduction "none".

    Raises:
        ValueError: shapes differ, or reduction is unknown.
        RuntimeError: the target is not floating-point; weights cannot be broadcast.
    """
    _check_pair(input, target)
    negative = 1 - target
    positive = target if pos_weight is None else target * pos_weight.expand(input.shape)
    total = 1 if pos_weight is None else positive + negative
    log_sigmoid = input.clamp(max=0) - torch.log1p(torch.exp(-input.abs()))
    loss = negative * input - log_sigmoid * total
    output, pullback_reduce = reduce(_weigh(loss, weight), reduction)

    def pullback(grad_output: Tensor) -> Tensor:
        derivative = _weigh(torch.sigmoid(input) * total - positive, weight)
        return (derivative * pullback_reduce(grad_output)).to(input.dtype)

    return output, pullback


class BCELoss(Loss, capturable=True):
    """Binary cross-entropy -(t log x + (1 - t) log(1 - x)) of probabilities x.

    Args:
        weight: factor of each entry's loss, broadcast; a buffer. Default: None, all 1.
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*), equal; output: scalar, or (\\*) for reduction "none".

    Source: report 000; :class:`torch.nn.BCELoss`.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return binary_cross_entropy(input, target, self.weight, reduction)


class BCEWithLogitsLoss(Loss, capturable=True):
    """Binary cross-entropy -(p t log s(x) + (1 - t) log(1 - s(x))) of logits x, s the sigmoid.

    Args:
        weight: factor of each entry's loss, broadcast; a buffer. Default: None, all 1.
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".
        pos_weight: factor p of the positive term, broadcast; a buffer. Default: None, all 1.

    Shape: input and target (\\*), equal; output: scalar, or (\\*) for reduction "none".

    Source: :class:`torch.nn.BCEWithLogitsLoss`.
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction, self.pos_weight
        )
