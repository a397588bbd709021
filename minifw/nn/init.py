"""Initializers, under the names and with the draws of :mod:`torch.nn.init`.

Each fills a tensor or parameter in place, from ``generator`` (default: torch's global generator),
and returns it. The same generator gives the same values as torch, bit for bit.
"""

import math
import warnings
from typing import TypeVar

from torch import Generator, Tensor

from minifw.nn.parameter import Parameter

__all__ = [
    "calculate_fan_in_and_fan_out", "calculate_gain", "constant_", "kaiming_normal_",
    "kaiming_uniform_", "normal_", "ones_", "uniform_", "xavier_normal_", "xavier_uniform_",
    "zeros_",
]  # fmt: skip

T = TypeVar("T", Tensor, Parameter)

_GAINS = {
    **dict.fromkeys(("linear", "sigmoid"), 1.0),
    **{f"conv{way}{dims}d": 1.0 for way in ("", "_transpose") for dims in (1, 2, 3)},
    **{"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4},
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the recommended factor of the standard deviation of weights before a nonlinearity.

    Args:
        nonlinearity: name of the function in ``nn.functional``; "linear" for none.
        param: the negative slope, for "leaky_relu". Default: 0.01.

    Raises:
        ValueError: the nonlinearity is unknown, or param is not a number.
    """
    if nonlinearity != "leaky_relu":
        if nonlinearity not in _GAINS:
            raise ValueError(
                f"unsupported nonlinearity {nonlinearity!r}; use one of "
                f"{', '.join(_GAINS)}, leaky_relu"
            )
        return _GAINS[nonlinearity]
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, int | float):
        raise ValueError(f"expected a number as the negative slope, got {slope!r}")
    return math.sqrt(2.0 / (1 + slope**2))


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


def normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> T:
    """Draw from N(mean, std^2)."""
    tensor.data.normal_(mean, std, generator=generator)
    return tensor


def constant_(tensor: T, val: float) -> T:
    """Fill with val."""
    tensor.data.fill_(val)
    return tensor


def ones_(tensor: T) -> T:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: T) -> T:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Draw from U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)).

    Source: report 001; Glorot and Bengio (2010), Understanding the difficulty of training deep
    feedforward neural networks.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)  # torch's rounding
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Draw from N(0, std^2), std = gain * sqrt(2 / (fan_in + fan_out)).

    Source: as :func:`xavier_uniform_`.
    """
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _xavier_std(tensor: Tensor | Parameter, gain: float) -> float:
    return gain * math.sqrt(2.0 / sum(calculate_fan_in_and_fan_out(tensor)))


def kaiming_uniform_(
    tensor: T,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Draw from U(-b, b), b = gain * sqrt(3 / fan).

    Args:
        tensor: a weight of shape (out_features, in_features, \\*); without entries it is left as
            it is, with torch's UserWarning.
        a: negative slope, for "leaky_relu". Default: 0.
        mode: "fan_in" preserves the variance of outputs, "fan_out" of gradients. Default: "fan_in".
        nonlinearity: as :func:`calculate_gain`. Default: "leaky_relu".
        generator: source of the draws. Default: torch's global generator.

    Raises:
        ValueError: mode or nonlinearity is unknown; the tensor has fewer than two dimensions.

    Source: He et al. (2015), Delving deep into rectifiers.
    """
    if 0 in tensor.shape:
        return _left_empty(tensor)
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Draw from N(0, std^2), std = gain / sqrt(fan); all else as :func:`kaiming_uniform_`."""
    if 0 in tensor.shape:
        return _left_empty(tensor)
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _left_empty(tensor: T) -> T:
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
    return tensor


def _kaiming_std(tensor: Tensor | Parameter, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), calculate_fan_in_and_fan_out(tensor), strict=True))
    if mode.lower() not in fans:
        raise ValueError(f"mode {mode!r} is not supported; use 'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode.lower()])
