"""Optimizer: what every optimiser shares, the parameters and their settings."""

from collections.abc import Iterable
from typing import Any

import torch

from minifw.nn.parameter import Parameter

__all__ = ["Optimizer"]


class Optimizer:
    """Base class of the optimisers; a subclass defines :meth:`step`.

    Args:
        params: the parameters to train.
        defaults: the settings, kept in ``param_groups`` as torch keeps them.

    Attributes:
        param_groups (list[dict]): parameters under "params", settings such as "lr" beside them.

    Raises:
        ValueError: there are no parameters.
        TypeError: one of them is not a Parameter.
    """

    def __init__(self, params: Iterable[Parameter], defaults: dict[str, Any]) -> None:
        listed = list(params)
        if not listed:
            raise ValueError("optimizer got an empty parameter list; pass model.parameters()")
        for parameter in listed:
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    "optimizer can only optimize Parameters of minifw.nn, "
                    f"but one of the params is {type(parameter).__name__}"
                )
        self.param_groups: list[dict[str, Any]] = [{"params": listed, **defaults}]

    def step(self) -> None:
        """Change the parameters by their gradients; those without a gradient stay as they are."""
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients to None, or to zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad = torch.zeros_like(parameter.grad)
