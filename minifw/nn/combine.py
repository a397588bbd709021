"""Where branches meet: Add, Multiply, Concatenate, and the residual block."""

import itertools
from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback

__all__ = ["Add", "Concatenate", "Multiply", "Residual", "add", "concatenate", "multiply"]


def _each(grads: Iterable[Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """Return a gradient for each input, in its shape (summed where broadcast) and dtype."""
    fitted = tuple(
        grad.sum_to_size(input.shape).to(input.dtype)
        for grad, input in zip(grads, inputs, strict=True)
    )
    return fitted if len(inputs) > 1 else fitted[0]


def add(*inputs: Tensor) -> tuple[Tensor, Pullback]:
    """Sum of the inputs, broadcast; each gradient is the gradient of the output.

    Raises:
        RuntimeError: shapes cannot be broadcast.
        TypeError: there is no input.
    """
    output = reduce(torch.add, inputs)
    return output, lambda grad_output: _each([grad_output] * len(inputs), inputs)


def multiply(*inputs: Tensor) -> tuple[Tensor, Pullback]:
    """Product of the inputs, broadcast; the derivative in an input is the product of the others.

    Raises:
        RuntimeError: shapes cannot be broadcast.
        TypeError: there is no input.
    """
    if not inputs:
        raise TypeError("multiply expects at least one input, got none")
    products = list(itertools.accumulate(inputs, torch.mul))

    def pullback(grad_output: Tensor) -> Any:
        grads = []
        for place in range(len(inputs) - 1, 0, -1):
            grads.append(grad_output * products[place - 1])
            grad_output = grad_output * inputs[place]
        return _each([grad_output, *reversed(grads)], inputs)

    return products[-1], pullback


def concatenate(*inputs: Tensor, dim: int = 0) -> tuple[Tensor, Pullback]:
    """The inputs one after the other along dim; the gradient is split into their parts.

    Raises:
        RuntimeError: shapes differ in another dimension.
        IndexError: there is no dimension ``dim``.
        ValueError: there is no input.
    """
    output = torch.cat(inputs, dim)

    def pullback(grad_output: Tensor) -> Any:
        return _each(torch.split(grad_output, [input.shape[dim] for input in inputs], dim), inputs)

    return output, pullback


class Add(Module, capturable=True):
    """Sum of any number of inputs, ``add(x, y, ...)``, broadcast.

    Shape: inputs (\\*), that can be broadcast; output: the shape that they are broadcast to.

    Source: report 003 (modules in place of bare arithmetic); :func:`torch.add`.
    """

    def rule(self, *inputs: Tensor) -> tuple[Tensor, Pullback]:
        return add(*inputs)


class Multiply(Module, capturable=True):
    """Elementwise product of any number of inputs, ``multiply(x, y, ...)``, broadcast.

    Shape: inputs (\\*), that can be broadcast; output: the shape that they are broadcast to.

    Source: report 003 (modules in place of bare arithmetic); :func:`torch.mul`.
    """

    def rule(self, *inputs: Tensor) -> tuple[Tensor, Pullback]:
        return multiply(*inputs)


class Concatenate(Module, capturable=True):
    """Any number of inputs, ``concatenate(x, y, ...)``, one after the other along a dimension.

    Args:
        dim: the dimension.  Default: 0, as :func:`torch.cat`; features are usually in 1 or -1.

    Shape: inputs equal but in ``dim``; output: the same, with the sum of their sizes there.

    Source: report 003 (modules in place of bare arithmetic); :func:`torch.cat`.
    """

    _shown = ("dim",)

    def __init__(self, dim: int = 0) -> None:
        self.dim = dim

    def rule(self, *inputs: Tensor) -> tuple[Tensor, Pullback]:
        return concatenate(*inputs, dim=self.dim)


class Residual(Module, capturable=True):
    """input + module(input): a block that learns a correction of its input.

    Args:
        module: a module whose output can be added to its input, such as a :class:`Sequential`.

    Shape: input (\\*), output: the shape of input + module(input).

    Source: report 003 (ResNet); He et al. (2015), Deep residual learning for image recognition.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.add = Add()

    def forward(self, input: Tensor) -> Tensor:
        return self.add(input, self.module(input))  # type: ignore[no-any-return]
