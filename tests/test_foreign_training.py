"""A framework of one's own in lockstep with PyTorch: the first wrong step and part are named."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import minifw
from bench.equivalence.lockstep import lockstep as recipe_lockstep
from bench.examples import training_run as examples
from minifw import nn, optim
from minifw.testing import Status, UsageError
from minifw.testing.training import Lockstep, lockstep
from reference.frameworks import MINIFW
from reference.recipes import RECIPES


def test_a_right_framework_never_parts() -> None:
    run = examples.train(examples.Shim)
    assert (run.status, run.diverged_at, run.steps) == (Status.PASSED, 0, 200), run
    assert 0 < run.control_distance < 1e-12
    assert run.notes == ("0.weight is transposed: [2, 25]",)


class Momentum(examples.Shim):
    def __init__(self) -> None:
        super().__init__()
        self.buffers = [np.zeros_like(value) for value in self.network.values]

    def step(self) -> None:
        for buffer, grad in zip(self.buffers, self.network.grads, strict=True):
            buffer[...] = 0.5 * buffer + grad
        for value, buffer in zip(self.network.values, self.buffers, strict=True):
            value -= self.lr * buffer


class SumLoss(examples.Shim):
    """The loss that is returned is a sum, its gradient that of the mean."""

    def train_step(self, x: Any, y: Any) -> float:
        return super().train_step(x, y) * len(x)


class SumGradient(examples.Shim):
    def train_step(self, x: Any, y: Any) -> float:
        self.zero_grad()
        error = self.network.forward(x) - y
        self.network.backward(2 * error)
        self.step()
        return float((error**2).mean())


class WrongLoss(SumGradient):
    def train_step(self, x: Any, y: Any) -> float:
        return super().train_step(x, y) / 2


class Copies(examples.Shim):
    def weights(self) -> list[Any]:
        return [value.copy() for value in self.network.values]


class Raises(examples.Shim):
    steps = 0

    def train_step(self, x: Any, y: Any) -> float:
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("not today")
        return super().train_step(x, y)


def without_gradients(shim: type) -> type:
    class Without:
        def __init__(self) -> None:
            made = shim()
            self.weights, self.train_step = made.weights, made.train_step

    return Without


@pytest.mark.parametrize(
    ("shim", "step", "part", "words"),
    [
        (examples.NeverZeroes, 2, "gradient of 2.bias", "is zero_grad missing"),
        (examples.StepsTooFar, 1, "update of 0.weight", "1.1 times PyTorch's"),
        (examples.WrongNetwork, 1, "gradient of 0.bias", "off by"),
        (Momentum, 2, "update of 0.weight", "of its largest entry off"),
        (SumGradient, 1, "gradient of 2.bias", "50 times PyTorch's (the batch has 50 samples)"),
        (WrongLoss, 1, "loss", "0.5 times as much"),
        (without_gradients(SumGradient), 1, "gradient or update of 0.weight", "gradients()"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_first_step_and_the_wrong_part_are_named(
    shim: type, step: int, part: str, words: str
) -> None:
    run = examples.train(shim)
    assert (run.status, run.diverged_at) == (Status.FAILED, step), run
    assert run.cause is not None
    assert run.cause.tensor == part
    assert words in run.cause.reason
    assert "looks like a fault" in str(run)


def test_another_convention_of_the_loss_is_a_note() -> None:
    run = examples.train(SumLoss)
    assert run.status == Status.PASSED, run
    assert "the loss that is returned is 50 times PyTorch's" in run.notes


def test_an_error_names_the_step() -> None:
    run = examples.train(Raises)
    assert (run.status, run.diverged_at) == (Status.ERROR, 3)
    assert "not today" in str(run)


def test_weights_that_cannot_be_filled_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be filled in place"):
        examples.train(Copies)
    with pytest.raises(UsageError, match="returns 4 arrays, the reference has 2"):
        lockstep(
            examples.Shim,
            lambda: torch.nn.Linear(2, 1),
            torch.nn.MSELoss(),
            lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        )


class TorchShim:
    """On tensors of float32, with weights that are set."""

    def __init__(self) -> None:
        self.weight, self.bias = torch.zeros(1, 2, dtype=torch.float32), torch.zeros(1).float()

    def weights(self) -> list[Any]:
        return [self.weight, self.bias]

    def set_weights(self, arrays: list[Any]) -> None:
        self.weight, self.bias = arrays

    def train_step(self, x: Any, y: Any) -> None:
        grad = 2 * (x @ self.weight.t() + self.bias - y) / y.numel()
        self.weight = self.weight - 0.1 * grad.t() @ x
        self.bias = self.bias - 0.1 * grad.sum(0)


def test_tensors_of_float32_that_are_rebound() -> None:
    run: Lockstep = lockstep(
        TorchShim,
        lambda: torch.nn.Linear(2, 1),
        torch.nn.MSELoss(),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    assert (run.status, run.dtype) == (Status.PASSED, "float32"), run
    assert run.notes == ("train_step returns no loss, so the loss was not compared",)


class ForeignSGD(optim.SGD):
    """Its state_dict is of another form, and its step is wrong."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= 1.1 * group["lr"] * parameter.grad


def test_a_wrong_optimizer_with_a_state_dict_of_its_own_is_named() -> None:
    from bench.faults import replaced

    faulty = replaced(minifw, "optim.SGD", ForeignSGD)
    framework = replace(MINIFW, nn=nn, optim=faulty.optim, train_step=faulty.train_step)
    run = recipe_lockstep(RECIPES["relu-mse"], framework, epochs=1)
    assert (run.status, run.diverged_at) == (Status.FAILED, 1), run
    assert run.cause is not None
    assert run.cause.tensor.startswith("optimizer")
