"""A framework of one's own, in NumPy, trained beside PyTorch through a shim, right and wrong.

python bench/examples/training_run.py
"""

from typing import Any

import numpy as np
import torch

from minifw.testing.training import Lockstep, lockstep


class Network:
    """2 inputs, 25 hidden units with tanh, 1 output; weights are (in, out), samples are rows."""

    def __init__(self) -> None:
        self.values = [np.zeros((2, 25)), np.zeros((1, 25)), np.zeros((25, 1)), np.zeros((1, 1))]
        self.grads = [np.zeros_like(value) for value in self.values]

    def forward(self, x: Any) -> Any:
        w1, b1, w2, b2 = self.values
        self.x, self.hidden = x, np.tanh(x @ w1 + b1)
        return self.hidden @ w2 + b2

    def backward(self, grad: Any) -> None:
        self.grads[2] += self.hidden.T @ grad
        self.grads[3] += grad.sum(0, keepdims=True)
        grad = grad @ self.values[2].T * self.slope()
        self.grads[0] += self.x.T @ grad
        self.grads[1] += grad.sum(0, keepdims=True)

    def slope(self) -> Any:
        """The derivative of tanh."""
        return 1 - self.hidden**2


class Shim:
    """The network, its mean squared error and its gradient descent."""

    lr = 0.1

    def __init__(self) -> None:
        self.network = Network()

    def weights(self) -> list[Any]:
        return self.network.values

    def gradients(self) -> list[Any]:
        return self.network.grads

    def train_step(self, x: Any, y: Any) -> float:
        self.zero_grad()
        error = self.network.forward(x) - y
        self.network.backward(2 * error / error.size)
        self.step()
        return float((error**2).mean())

    def zero_grad(self) -> None:
        for grad in self.network.grads:
            grad[...] = 0

    def step(self) -> None:
        for value, grad in zip(self.network.values, self.network.grads, strict=True):
            value -= self.lr * grad


class NeverZeroes(Shim):
    """The gradients of all steps are added up."""

    def zero_grad(self) -> None:
        pass


class StepsTooFar(Shim):
    """The rate is not that of the reference."""

    lr = 0.11


class WrongTanh(Network):
    """The derivative of tanh is taken of tanh."""

    def slope(self) -> Any:
        return 1 - np.tanh(self.hidden) ** 2


class WrongNetwork(Shim):
    """The gradients of the first layer are wrong."""

    def __init__(self) -> None:
        self.network = WrongTanh()


def model() -> torch.nn.Module:
    """The same network in PyTorch."""
    return torch.nn.Sequential(torch.nn.Linear(2, 25), torch.nn.Tanh(), torch.nn.Linear(25, 1))


def train(shim: type, steps: int = 200) -> Lockstep:
    """Train a shim beside PyTorch on the disk."""
    return lockstep(
        shim,
        model,
        torch.nn.MSELoss(),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        steps=steps,
    )


if __name__ == "__main__":
    for shim in (Shim, NeverZeroes, StepsTooFar, WrongNetwork):
        print(train(shim))
