"""PyTorch twins of modules of minifw that torch.nn lacks."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

__all__ = ["Activation", "Add", "Concatenate", "Multiply", "Residual"]


class Activation(torch.nn.Module):
    """function(input); autograd finds the derivative."""

    def __init__(self, function: Callable[[Tensor], Tensor], _: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input)


class Add(torch.nn.Module):
    """x + y + ..."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return reduce(torch.add, inputs)


class Multiply(torch.nn.Module):
    """x * y * ..."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return reduce(torch.mul, inputs)


class Concatenate(torch.nn.Module):
    """torch.cat((x, y, ...), dim)."""

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.dim)


class Residual(torch.nn.Module):
    """input + module(input)."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = input + self.module(input)
        return output
