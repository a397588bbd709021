"""Dropout that draws otherwise than PyTorch."""

from typing import Any

import torch
from torch import Tensor

from bench.variants.variant import variant

X = "16,32"


@variant(torch.nn.Dropout, X, init="0.3", kind="random")
class OwnGenerator(torch.nn.Module):
    """Dropout with a generator of its own"""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.generator = p, torch.Generator().manual_seed(7)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        draws = torch.rand(input.shape, generator=self.generator)
        return torch.where(draws < self.p, torch.zeros_like(input), input / (1 - self.p))


@variant(torch.nn.Dropout, X, init="0.3", kind="random")
class Uniform(torch.nn.Module):
    """Dropout by uniform numbers and an inverted scale"""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        return input * (torch.rand(input.shape) >= self.p) * (1 / (1 - self.p))


@variant(torch.nn.Dropout, X, init="0.3", kind="random")
class Float32Mask(torch.nn.Module):
    """Dropout whose mask is drawn in float32 whatever the input"""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        keep = torch.bernoulli(torch.full(input.shape, 1 - self.p, dtype=torch.float32))
        return input * (keep / (1 - self.p)).to(input.dtype)


@variant(torch.nn.Dropout, X, init="0.3", kind="random object")
class MaskedObject:
    """Dropout as an object that keeps its mask"""

    def __init__(self, p: float) -> None:
        self.p = p
        self.training = True

    def train(self, mode: bool = True) -> None:
        """Switch the mode."""
        self.training = mode

    def eval(self) -> None:
        """Switch to evaluation."""
        self.training = False

    def forward(self, input: Tensor) -> Tensor:
        """Drop entries and scale the rest."""
        self.scale: Any = 1.0
        if self.training:
            self.scale = (torch.rand(input.shape) >= self.p).to(input.dtype) / (1 - self.p)
        return input * self.scale

    def backward(self, grad: Tensor) -> Tensor:
        """Drop the same entries."""
        return grad * self.scale
