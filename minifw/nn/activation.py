"""Activations: element-wise functions, each beside its derivative."""

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback

__all__ = ["ReLU", "Sigmoid", "Tanh", "relu", "sigmoid", "tanh"]


def relu(input: Tensor) -> tuple[Tensor, Pullback]:
    """max(x, 0), elementwise; its derivative is 1 where the output is positive and 0 elsewhere.

    As in torch, the derivative at 0 is 0, and NaN passes its gradient on.
    """
    output = torch.relu(input)
    # Where the output is 0, it is itself the gradient: nothing else need be made or remembered.
    return output, lambda grad_output: torch.where(output.bool(), grad_output, output)


def tanh(input: Tensor) -> tuple[Tensor, Pullback]:
    """tanh(x), elementwise; its derivative is 1 - output^2."""
    output = torch.tanh(input)

    def pullback(grad_output: Tensor) -> Tensor:
        # 1 - output^2 in one rounding, as torch has it: near saturation two would cost digits.
        return grad_output * torch.addcmul(output.new_ones(()), output, output, value=-1)

    return output, pullback


def sigmoid(input: Tensor) -> tuple[Tensor, Pullback]:
    """1 / (1 + exp(-x)), elementwise; its derivative is output (1 - output)."""
    output = torch.sigmoid(input)
    return output, lambda grad_output: grad_output * (1 - output) * output


class ReLU(Module):
    """max(x, 0), elementwise.

    Shape: input and output (\\*), any shape.

    Source: reports 000 to 004; :class:`torch.nn.ReLU`.
    """

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return relu(input)


class Tanh(Module):
    """Hyperbolic tangent, elementwise.

    Shape: input and output (\\*), any shape.

    Source: reports 000 to 004; :class:`torch.nn.Tanh`.
    """

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return tanh(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise.

    Shape: input and output (\\*), any shape.

    Source: reports 000, 002 and 003; :class:`torch.nn.Sigmoid`.
    """

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return sigmoid(input)
