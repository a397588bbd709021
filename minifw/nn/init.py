"""Initialisers, under the names and with the draws of :mod:`torch.nn.init`.

Each fills its tensor in place, from ``generator`` (default: torch's global generator), and returns
it; the same generator gives bit for bit what torch gives.
"""

import math
from typing import TypeVar

from torch import Generator, Tensor

from minifw.nn.parameter import Parameter

__all__ = ["calculate_fan_in_and_fan_out", "uniform_", "xavier_uniform_", "zeros_"]

T = TypeVar("T", Tensor, Parameter)


def calculate_fan_in_and_fan_out(tensor: Tensor | Parameter) -> tuple[int, int]:
    """Return (inputs, outputs) of one unit for a weight of shape (out_features, in_features).

    Raises:
        ValueError: the tensor has fewer than two dimensions.
    """
    if len(tensor.shape) < 2:
        raise ValueError(
            "fan in and fan out need a tensor of at least 2 dimensions, "
            f"got shape {list(tensor.shape)}"
        )
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Draw from U(a, b)."""
    tensor.data.uniform_(a, b, generator=generator)
    return tensor


def zeros_(tensor: T) -> T:
    """Fill with 0."""
    tensor.data.zero_()
    return tensor


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Draw from U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    fan_in, fan_out = calculate_fan_in_and_fan_out(tensor)
    bound = math.sqrt(3.0) * (gain * math.sqrt(2.0 / (fan_in + fan_out)))  # torch's rounding
    return uniform_(tensor, -bound, bound, generator)
