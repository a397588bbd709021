"""Faults in initializers."""

import math
from typing import Any

from torch import Generator, Tensor

from bench.faults.fault import fault
from minifw import nn
from minifw.nn import init

Tensors = Tensor | nn.Parameter


@fault("nn.init.xavier_normal_")
def xavier_with_one(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """xavier_normal_ with 1 where 2 should be: variance 1 / (fan_in + fan_out)"""
    return init.xavier_normal_(tensor, gain / math.sqrt(2), generator)


@fault("nn.init.xavier_uniform_")
def xavier_of_a_normal(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """xavier_uniform_ takes the deviation for the bound, without the square root of 3"""
    return init.xavier_uniform_(tensor, gain / math.sqrt(3), generator)


@fault("nn.init.xavier_uniform_")
def xavier_without_gain(tensor: Any, gain: float = 1.0, generator: Generator | None = None) -> Any:
    """xavier_uniform_ ignores its gain"""
    return init.xavier_uniform_(tensor, 1.0, generator)


@fault("nn.init.kaiming_uniform_")
def kaiming_of_fan_in(tensor: Any, **options: Any) -> Any:
    """kaiming_uniform_ ignores its mode"""
    return init.kaiming_uniform_(tensor, **options | {"mode": "fan_in"})


@fault("nn.init.kaiming_normal_")
def kaiming_without_slope(tensor: Any, **options: Any) -> Any:
    """kaiming_normal_ ignores the negative slope"""
    return init.kaiming_normal_(tensor, **options | {"a": 0})


@fault("nn.init.normal_")
def normal_of_variance(
    tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Any:
    """normal_ takes the deviation for the variance"""
    return init.normal_(tensor, mean, math.sqrt(std), generator)


@fault("nn.init.normal_")
def normal_from_nowhere(
    tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Any:
    """normal_ draws from the global generator whatever it is given"""
    return init.normal_(tensor, mean, std)


@fault("nn.init.uniform_")
def uniform_from_zero(
    tensor: Any, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Any:
    """uniform_ draws from U(0, b - a)"""
    return init.uniform_(tensor, 0.0, b - a, generator)


@fault("nn.init.zeros_")
def zeros_of_another(tensor: Any) -> Any:
    """zeros_ returns new zeros and leaves its tensor as it was"""
    return init.zeros_(tensor.clone() if isinstance(tensor, Tensor) else tensor.data.clone())


@fault("nn.init.calculate_fan_in_and_fan_out")
def swapped_fans(tensor: Tensors) -> tuple[int, int]:
    """calculate_fan_in_and_fan_out returns fan_out first"""
    fan_in, fan_out = init.calculate_fan_in_and_fan_out(tensor)
    return fan_out, fan_in


@fault("nn.init.calculate_gain")
def tanh_without_gain(nonlinearity: str, param: float | None = None) -> float:
    """calculate_gain is 1 for tanh"""
    return 1.0 if nonlinearity == "tanh" else init.calculate_gain(nonlinearity, param)


@fault("nn.Linear")
class StartsTooSmall(nn.Linear):
    """Linear draws its first weights from U(-k, k) with k = 1 / in_features"""

    def reset_parameters(self, generator: Generator | None = None) -> None:
        super().reset_parameters(generator)
        self.weight.data.div_(math.sqrt(self.in_features))
