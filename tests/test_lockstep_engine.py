"""Lockstep: which step, module and tensor are named when a faulty framework parts from PyTorch."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import minifw
from bench.equivalence import Status
from bench.equivalence.lockstep import Lockstep, lockstep
from minifw import nn, optim
from minifw.nn.rule import Pullback
from reference.frameworks import MINIFW, Framework
from reference.recipes import RECIPES


def with_in(module: ModuleType, **replaced: Any) -> Any:
    namespace = ModuleType(module.__name__)
    vars(namespace).update(vars(module) | replaced)
    return namespace


class TanhOff(nn.Tanh):
    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        output, pullback = super().rule(input)
        return output, lambda grad: pullback(grad * (1 + 1e-5))


class LossWithoutMean(nn.MSELoss):
    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        output, pullback = super().loss(input, target, reduction)
        return output, lambda grad: pullback(grad * input.numel())


class LargerStep(optim.SGD):
    def step(self) -> None:
        for group in self.param_groups:
            group["lr"] *= 1.0001
        super().step()
        for group in self.param_groups:
            group["lr"] /= 1.0001


class Late(optim.lr_scheduler.LambdaLR):
    def __init__(self, optimizer: Any, lr_lambda: Callable[[int], float]) -> None:
        super().__init__(optimizer, lambda epoch: lr_lambda(max(epoch - 1, 0)))


def without_zero_grad(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor
) -> Tensor:
    loss: Tensor = criterion(model(input), target)
    model.backward(criterion.backward())
    optimizer.step()
    return loss


FAULTS: dict[str, tuple[str, Framework, int, str, str]] = {
    "layer": (
        "xavier-tanh",
        replace(MINIFW, nn=with_in(nn, Tanh=TanhOff)),
        1,
        "7 (TanhOff), input.0.grad",
        "off by",
    ),
    "loss": (
        "relu-mse",
        replace(MINIFW, nn=with_in(nn, MSELoss=LossWithoutMean)),
        1,
        "criterion (LossWithoutMean), input.0.grad",
        "off by",
    ),
    "optimizer": (
        "relu-mse",
        replace(MINIFW, optim=with_in(optim, SGD=LargerStep)),
        1,
        "optimizer, 0.weight",
        "of its largest entry off",
    ),
    "schedule": (
        "softmax-sequential",  # Adam, whose steps follow the rate alone
        replace(
            MINIFW,
            optim=with_in(optim, lr_scheduler=with_in(optim.lr_scheduler, LambdaLR=Late)),
        ),
        21,
        "scheduler",
        "learning rates are",
    ),
    "step": (
        "relu-mse",
        replace(MINIFW, train_step=without_zero_grad),
        2,
        "train_step, 0.weight",
        "of its largest entry off",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_step_and_the_part_to_blame_are_named(fault: str) -> None:
    name, framework, step, part, reason = FAULTS[fault]
    recipe = RECIPES[name]
    if fault == "schedule":
        recipe = replace(recipe, lr_lambda=lambda epoch: 0.5**epoch)
    run = lockstep(recipe, framework, epochs=3)
    assert (run.status, run.parted) == (Status.FAILED, step), run
    assert run.cause is not None
    assert run.cause.tensor == part
    assert run.cause.reason.startswith("looks like a fault")
    assert reason in run.cause.reason
    assert f"parted at step {step}: {part}" in str(run)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_minifw_never_parts_by_more_than_pytorch_from_itself(recipe: Any) -> None:
    for dtype in ("float32", "float64"):
        run = lockstep(recipe, epochs=2, dtype=dtype)
        assert (run.status, run.parted) == (Status.PASSED, 0), run
        assert 0 < run.control < 1e-3
        assert run.steps == 2 * recipe.steps_an_epoch


def test_what_is_left_of_rounding_is_called_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    # With nothing allowed, the runs part where rounding first differs, and no part is wrong.
    monkeypatch.setattr("bench.equivalence.lockstep.ALLOWED", 0.0)
    monkeypatch.setattr("bench.equivalence.lockstep.FLOOR_ULP", 0.0)
    run: Lockstep = lockstep(RECIPES["dropout-bce"], epochs=2)
    assert run.parted > 0
    assert run.status == Status.PASSED
    assert "looks like rounding" in str(run)


def test_global_state_is_left_as_found() -> None:
    before = torch.get_rng_state()
    lockstep(RECIPES["dropout-bce"], epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert minifw.nn.Tanh is nn.Tanh
