"""Linear: the affine map, as reports 000 to 004."""

import math

import torch
from torch import Tensor

from minifw.nn import init
from minifw.nn.module import Module
from minifw.nn.parameter import Parameter
from minifw.nn.rule import ALL, Grads, Needs, Pullback, parametric_rule

__all__ = ["Linear", "linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Pullback]:
    """Affine map: output = input weight^T + bias.

    With G the gradient of the output and sums over all leading dimensions::

        grad_input  = G weight
        grad_weight = sum G^T input
        grad_bias   = sum G

    Shape:
        - input: (\\*, in_features); weight: (out_features, in_features); bias: (out_features).
        - output: (\\*, out_features).

    Raises:
        RuntimeError: shapes, dtypes or devices do not fit.
    """
    if input.dim() != 2:
        return _linear_any_dimensions(input, weight, bias)
    try:
        output = torch.mm(input, weight.mT) if bias is None else torch.addmm(bias, input, weight.mT)
    except RuntimeError:
        check_input(input, weight)
        raise

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> Grads:
        return (
            torch.mm(grad_output, weight) if needs_input_grad[0] else None,
            torch.mm(grad_output.mT, input) if needs_input_grad[1] else None,
            grad_output.sum(-2) if bias is not None and needs_input_grad[2] else None,
        )

    return output, pullback


def _linear_any_dimensions(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Pullback]:
    """:func:`linear` with the leading dimensions of input merged into one."""
    check_input(input, weight)
    # Not -1, which of no features could be any number.
    merged = input.reshape(input.shape[:-1].numel(), weight.shape[1])
    rows, pullback_rows = linear(merged, weight, bias)

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> Grads:
        grad_input, *grads = pullback_rows(grad_output.reshape(rows.shape), needs_input_grad)
        return (None if grad_input is None else grad_input.view(input.shape), *grads)

    return rows.view(*input.shape[:-1], len(weight)), pullback


def check_input(input: Tensor, weight: Tensor) -> None:
    """Raise RuntimeError if ``input`` does not fit ``weight`` (\\*, out_features, in_features)."""
    *stack, _, features = weight.shape
    fits = input.dim() > len(stack) and list(input.shape[: len(stack)]) == stack
    if not fits or input.shape[-1] != features:
        shape = ", ".join(map(str, (*stack, "*", features)))
        raise RuntimeError(
            f"expected input of shape ({shape}), got {list(input.shape)}; its last dimension must "
            f"hold the {features} features"
        )
    if (input.dtype, input.device) != (weight.dtype, weight.device):
        raise RuntimeError(
            f"expected input of {weight.dtype} on {weight.device}, as the weight, got "
            f"{input.dtype} on {input.device}; convert one of them with .to()"
        )


class Linear(Module, capturable=True):
    """Affine map: output = input weight^T + bias.

    Args:
        in_features: size of each input sample.
        out_features: size of each output sample.
        bias: whether to add a bias. Default: True.
        device: device of the parameters. Default: torch's.
        dtype: dtype of the parameters. Default: torch's.
        generator: source of the initial values. Default: torch's global generator.

    Shape:
        - Input: (\\*, in_features), any leading dimensions including none.
        - Output: (\\*, out_features).

    Attributes:
        weight (Parameter): (out_features, in_features), from U(-k, k), k = 1 / sqrt(in_features).
        bias (Parameter | None): (out_features), from the same distribution.

    Source: reports 000 to 004; :class:`torch.nn.Linear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = (
            Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new initial values, as torch does."""
        # The bound is that of the bias; computed as torch does, it has the same rounding.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
            init.uniform_(self.bias, -bound, bound, generator)

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return parametric_rule(linear, input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
