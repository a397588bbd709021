"""Softmax and its logarithm: positive numbers of sum 1 along a dimension."""

import warnings

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback

__all__ = ["LogSoftmax", "Softmax", "log_softmax", "softmax"]


def _choose_dim(name: str, dimensions: int) -> int:
    """Return the dim that torch uses by default."""
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. "
        "Change the call to include dim=X as an argument.",
        stacklevel=3,
    )
    return 0 if dimensions in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None) -> tuple[Tensor, Pullback]:
    """exp(x) / sum exp(x), the sum along dim; grad_input = y (G - sum G y), y the output.

    Shape: input and output (\\*), any shape.

    Raises:
        IndexError: the input has no dimension ``dim``. No dim at all gives torch's UserWarning.
    """
    if dim is None:
        dim = _choose_dim("softmax", input.dim())
    output = torch.softmax(input, dim)

    def pullback(grad_output: Tensor) -> Tensor:
        return output * (grad_output - (grad_output * output).sum(dim, keepdim=True))

    return output, pullback


def log_softmax(input: Tensor, dim: int | None = None) -> tuple[Tensor, Pullback]:
    """x - log sum exp(x), the sum along dim; grad_input = G - exp(y) sum G, y the output.

    Shape: input and output (\\*), any shape.

    Raises:
        IndexError: the input has no dimension ``dim``. No dim at all gives torch's UserWarning.
    """
    if dim is None:
        dim = _choose_dim("log_softmax", input.dim())
    output = torch.log_softmax(input, dim)

    def pullback(grad_output: Tensor) -> Tensor:
        return grad_output - torch.exp(output) * grad_output.sum(dim, keepdim=True)

    return output, pullback


class Softmax(Module, capturable=True):
    """exp(x) / sum exp(x), the sum along a dimension.

    Args:
        dim: the dimension along which the outputs sum to 1. Default: None, torch's deprecated
            choice (0 for inputs of 0, 1 and 3 dimensions, else 1) with its warning.

    Shape: input and output (\\*), any shape.

    Source: reports 000 and 003; :class:`torch.nn.Softmax`.
    """

    _shown = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return softmax(input, self.dim)


class LogSoftmax(Module, capturable=True):
    """x - log sum exp(x), the sum along a dimension.

    Args:
        dim: the dimension along which the exponentials sum to 1. Default: None, as
            :class:`Softmax`.

    Shape: input and output (\\*), any shape.

    Source: :class:`torch.nn.LogSoftmax`.
    """

    _shown = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return log_softmax(input, self.dim)
