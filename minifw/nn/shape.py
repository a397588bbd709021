"""Identity and Flatten: modules that change no value."""

from typing import Any

from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback

__all__ = ["Flatten", "Identity", "flatten"]


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> tuple[Tensor, Pullback]:
    """Merge the dimensions start_dim to end_dim; the gradient is reshaped to the input's shape.

    Raises:
        IndexError: the input has no such dimension.
        RuntimeError: start_dim comes after end_dim.
    """
    return input.flatten(start_dim, end_dim), lambda grad: grad.reshape(input.shape)


class Identity(Module, capturable=True):
    """The input itself.

    Args:
        args, kwargs: accepted and ignored, so that it can replace any module.

    Shape: input and output (\\*), any shape.

    Source: :class:`torch.nn.Identity`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return input, lambda grad_output: grad_output


class Flatten(Module, capturable=True):
    """Merge the dimensions start_dim to end_dim into one.

    Args:
        start_dim: first dimension to flatten. Default: 1, which keeps the batch.
        end_dim: last dimension to flatten. Default: -1.

    Shape:
        - Input: (\\*, S_start, ..., S_end, \\*).
        - Output: (\\*, S_start ... S_end, \\*).

    Source: :class:`torch.nn.Flatten`.
    """

    _shown = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return flatten(input, self.start_dim, self.end_dim)
