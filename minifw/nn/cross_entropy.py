"""Cross-entropy of classes, from log-probabilities (NLLLoss) or logits (CrossEntropyLoss)."""

from collections.abc import Callable

import torch
from torch import Tensor

from minifw.nn.loss import Loss, reduce
from minifw.nn.rule import Pullback, constant
from minifw.nn.softmax import log_softmax

__all__ = ["CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss"]


def _class_dim(input: Tensor) -> int:
    return 0 if input.dim() == 1 else 1


def _check_weight(weight: Tensor | None, input: Tensor) -> None:
    classes = input.shape[_class_dim(input)]
    if weight is not None and (weight.shape, weight.dtype) != ((classes,), input.dtype):
        raise RuntimeError(
            f"expected weight of shape [{classes}] and {input.dtype}, one for each class, got "
            f"{list(weight.shape)} and {weight.dtype}"
        )


def _choose(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Return a mask of ignored targets, the weights of all targets, and their indices in input.

    The mask is None if no target is ignored, the weights if all are 1. The indices are for
    ``gather`` and ``scatter``; an ignored target has weight 0 and index 0.
    """
    if not input.dim():
        raise ValueError("expected an input of shape (C) or (N, C, *), got a scalar")
    _check_weight(weight, input)
    if target.dtype not in (torch.long, torch.uint8):
        raise RuntimeError(
            f"expected a target of class indices, torch.int64 or uint8, got {target.dtype}; class "
            "probabilities must be floating-point and have the shape of the input"
        )
    dim = _class_dim(input)
    expected = input.shape[:dim] + input.shape[dim + 1 :]
    if target.shape != expected and (dim or target.shape != (1,)):
        error = RuntimeError if dim and target.shape[:1] == expected[:1] else ValueError
        raise error(
            f"expected target of shape {list(expected)}, the input's {list(input.shape)} without "
            f"its classes, got {list(target.shape)}"
        )
    classes, ignored, last = target.long(), None, input.shape[dim] - 1
    if 0 <= ignore_index <= last or not torch.equal(classes.clamp(0, last), classes):
        ignored = classes == ignore_index
        classes = classes.masked_fill(ignored, 0)
        if not torch.equal(classes.clamp(0, last), classes):
            low, high = [bound.item() for bound in torch.aminmax(target)]
            raise IndexError(
                f"target out of bounds: expected classes 0 to {last}, or "
                f"ignore_index {ignore_index}, got {low} to {high}"
            )
    factors = None if weight is None else weight[classes]
    if ignored is not None:
        ones = torch.ones_like(classes, dtype=input.dtype)
        factors = (ones if factors is None else factors).masked_fill(ignored, 0)
    return ignored, factors, classes.view(expected).unsqueeze(dim)


def _nll(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """Return :func:`nll_loss`, the pullback to each w_t x_t, and the indices of the targets."""
    ignored, factors, places = _choose(input, target, weight, ignore_index)
    dim = _class_dim(input)
    loss = -input.gather(dim, places).view(target.shape)
    if factors is not None:
        loss = loss * factors
    if ignored is not None:
        loss = loss.masked_fill(ignored, 0)  # even an infinite loss
    total = None if factors is None else factors.sum()
    output, pullback_reduce = reduce(loss, reduction, total)

    def pullback(grad_output: Tensor) -> Tensor:
        grad = pullback_reduce(grad_output)
        if factors is not None:
            grad = grad * factors
        if ignored is not None:
            grad = grad.masked_fill(ignored, 0)
        return grad.view(places.shape) if grad.dim() else grad

    return output, pullback, places


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Tensor, Pullback]:
    """-w_t x_t of the target class t, reduced; the gradient is -w_t in x_t and 0 elsewhere.

    The loss of an ignored target is 0. Reduction "mean" divides the sum of the losses by the sum of
    the w_t that are not ignored.

    Shape:
        - input: (C) or (N, C, \\*), log-probabilities; target: () or (N, \\*), class indices.
        - weight: (C). output: scalar, or as the target for reduction "none".

    Raises:
        ValueError: batch sizes differ, or reduction is unknown.
        RuntimeError: other shapes do not fit; target is neither int64 nor uint8.
        IndexError: a target is neither a class nor ``ignore_index``.
    """
    output, pullback_chosen, places = _nll(input, target, weight, ignore_index, reduction)

    def pullback(grad_output: Tensor) -> Tensor:
        grad = -pullback_chosen(grad_output).expand(places.shape)
        return torch.zeros_like(input).scatter_(_class_dim(input), places, grad)

    return output, pullback


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Pullback]:
    """-sum_c w_c q_c log p_c, with p the softmax of the input, reduced.

    q is 1 in the target class, or the target where it has the shape of the input; smoothed it is
    (1 - label_smoothing) q + label_smoothing / C. With G the gradient of each sample's loss::

        grad_input = G (p sum_c w_c q_c - w q)

    Reduction "mean" divides the sum of the losses by the sum of the w_t that are not ignored, and
    for class probabilities by the number of samples.

    Shape:
        - input: (C) or (N, C, \\*), logits; weight: (C).
        - target: () or (N, \\*), class indices; or as the input, class probabilities.
        - output: scalar, or (N, \\*) for reduction "none".

    Raises:
        ValueError, RuntimeError, IndexError: as :func:`nll_loss`.
        RuntimeError: probabilities with an ignore_index of 0 or more; label_smoothing above 1.
    """
    if label_smoothing > 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0, got {label_smoothing}")
    label_smoothing = max(label_smoothing, 0.0)  # as torch
    dim = _class_dim(input)
    log_probabilities, pullback_softmax = log_softmax(input, dim)
    probabilities = target.shape == input.shape
    if not probabilities and not label_smoothing:
        output, pullback_chosen, places = _nll(
            log_probabilities, target, weight, ignore_index, reduction
        )

        def pullback_nll(grad_output: Tensor) -> Tensor:
            # Both pullbacks at once: p - 1 for the target class, p for the others.
            minus_one = constant(-1.0, input.dtype, input.device).expand(places.shape)
            difference = torch.exp(log_probabilities).scatter_add_(dim, places, minus_one)
            return difference.mul_(pullback_chosen(grad_output))

        return output, pullback_nll

    classes, ignored = input.shape[dim], None
    total: Tensor | float
    weights: Tensor | float = 1.0
    if weight is not None:
        _check_weight(weight, input)
        weights = weight.view(-1, *[1] * (input.dim() - dim - 1))
    if probabilities:
        if not target.is_floating_point():
            raise RuntimeError(
                "expected a floating-point target of class probabilities, since it has the shape "
                f"of the input, got {target.dtype}"
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for class probabilities")
        soft = (
            target * (1 - label_smoothing) + label_smoothing / classes
            if label_smoothing
            else target
        )
        soft = soft * weights
        total = input.numel() / max(classes, 1)  # the samples; none if there are no classes
    else:
        ignored, factors, places = _choose(input, target, weight, ignore_index)
        if factors is None:
            factors = torch.ones_like(places, dtype=input.dtype)
        soft = torch.zeros_like(input) + weights * (label_smoothing / classes)
        soft = soft.scatter_add(dim, places, (factors * (1 - label_smoothing)).view(places.shape))
        total = factors.sum()
    loss = -(log_probabilities * soft).sum(dim)
    if ignored is not None:
        loss = loss.masked_fill(ignored.view(loss.shape), 0)
    output, pullback_reduce = reduce(loss, reduction, total)

    def pullback(grad_output: Tensor) -> Tensor:
        grad = pullback_reduce(grad_output)
        grad = -soft * (grad.unsqueeze(dim) if reduction == "none" else grad)
        if ignored is not None:
            grad = grad.masked_fill(ignored.view(places.shape), 0)
        return pullback_softmax(grad.to(input.dtype))  # type: ignore[no-any-return]

    return output, pullback


class NLLLoss(Loss, capturable=True):
    """-w_t x_t of log-probabilities x and the target class t.

    Args:
        weight: w, a factor for each class; a buffer. Default: None, all 1.
        ignore_index: target without loss and gradient. Default: -100.
        reduction: "mean" (weighted), "sum", or "none". Default: "mean".

    Shape:
        - Input: (C) or (N, C, \\*); target: () or (N, \\*), class indices.
        - Output: scalar, or as the target for reduction "none".

    Source: :class:`torch.nn.NLLLoss`.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return nll_loss(input, target, self.weight, self.ignore_index, reduction)


class CrossEntropyLoss(Loss, capturable=True):
    """-sum_c w_c q_c log p_c, with p the softmax of the input and q the target's probabilities.

    Args:
        weight: w, a factor for each class; a buffer. Default: None, all 1.
        ignore_index: class index without loss and gradient. Default: -100.
        reduction: "mean" (weighted), "sum", or "none". Default: "mean".
        label_smoothing: share of the uniform distribution in q, in [0, 1]. Default: 0.0.

    Shape:
        - Input: (C) or (N, C, \\*), logits.
        - Target: () or (N, \\*), class indices; or as the input, class probabilities.
        - Output: scalar, or (N, \\*) for reduction "none".

    Source: reports 000 and 003; :class:`torch.nn.CrossEntropyLoss`.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return cross_entropy(
            input, target, self.weight, self.ignore_index, reduction, self.label_smoothing
        )
