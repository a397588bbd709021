"""Optimizers and schedules of one's own, right and wrong.

minifw verify bench/examples/optimizer.py:Adam torch.optim.Adam --init 'lr=0.01'
minifw verify bench/examples/optimizer.py:momentum torch.optim.SGD --init 'lr=0.01, momentum=0.9'
minifw verify bench/examples/optimizer.py:cosine \\
    torch.optim.lr_scheduler.CosineAnnealingLR --init 'T_max=20'
"""

import math
from typing import Any

import numpy as np
from torch import Tensor


class Adam:
    """Adam on a list of pairs of a value and its gradient."""

    def __init__(
        self,
        param: list[tuple[Tensor, Tensor]],
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.param = param
        self.learning_rate, self.beta1, self.beta2 = learning_rate, beta1, beta2
        self.epsilon = epsilon
        self.moments = [(value * 0, value * 0) for value, _ in param]
        self.t = 0

    def zero_grad(self) -> None:
        for _, grad in self.param:
            grad.zero_()

    def step(self) -> None:
        self.t += 1
        first, second = self.corrections()
        for (value, grad), (m, v) in zip(self.param, self.moments, strict=True):
            m.mul_(self.beta1).add_((1 - self.beta1) * grad)
            v.mul_(self.beta2).add_((1 - self.beta2) * grad**2)
            value.sub_(self.learning_rate * m / first / ((v / second).sqrt() + self.epsilon))

    def corrections(self) -> tuple[float, float]:
        """What the moments are divided by, since they start at 0."""
        return 1 - self.beta1**self.t, 1 - self.beta2**self.t


class WrongAdam(Adam):
    """The power t is missing in the correction."""

    def corrections(self) -> tuple[float, float]:
        return 1 - self.beta1, 1 - self.beta2


def momentum(w: Any, dw: Any, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Gradient descent with momentum on a NumPy array, its state in a dict."""
    velocity = config.get("velocity", np.zeros_like(w))
    velocity = config["momentum"] * velocity - config["learning_rate"] * dw
    config["velocity"] = velocity
    return w + velocity, config


def wrong_momentum(w: Any, dw: Any, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The sign is wrong."""
    velocity = config.get("velocity", np.zeros_like(w))
    velocity = config["momentum"] * velocity - config["learning_rate"] * dw
    config["velocity"] = velocity
    return w - velocity, config


def cosine(epoch: int, lr: float, total_steps: int, eta_min: float = 0.0) -> float:
    """Half a period of a cosine, from ``lr`` to ``eta_min`` in ``total_steps`` epochs."""
    return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * epoch / total_steps)) / 2


def wrong_cosine(epoch: int, lr: float, total_steps: int, eta_min: float = 0.0) -> float:
    """It counts epochs from 1."""
    return cosine(epoch + 1, lr, total_steps, eta_min)
