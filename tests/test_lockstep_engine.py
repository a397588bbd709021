"""Lockstep: which step, module and tensor are named when a faulty framework parts from PyTorch."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import minifw
from bench.equivalence.lockstep import lockstep
from bench.faults import replaced
from bench.faults.activations import ForgetsTheSquare
from bench.faults.losses import ForgetsTheTwo
from bench.faults.optimizers import with_settings
from bench.faults.schedules import Compounds
from bench.faults.training import without_zero_grad
from minifw import nn, optim
from minifw.testing import Status
from minifw.testing.training import Lockstep
from reference.frameworks import MINIFW
from reference.recipes import RECIPES


class LargerStep(optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return with_settings(self, super().step, lr=lambda group: group["lr"] * 1.0001)


# By what is wrong: the recipe, the path in minifw, the step, the part to blame and the reason.
FAULTS: dict[Any, tuple[str, str, int, str, str]] = {
    ForgetsTheSquare: (
        "xavier-tanh",
        "nn.Tanh",
        1,
        "7 (ForgetsTheSquare), input.0.grad",
        "off by",
    ),
    ForgetsTheTwo: (
        "relu-mse",
        "nn.MSELoss",
        1,
        "criterion (ForgetsTheTwo), input.0.grad",
        "off by",
    ),
    LargerStep: (
        "relu-mse",
        "optim.SGD",
        1,
        "optimizer, 0.weight",
        "of its largest entry off",
    ),
    Compounds: (
        "softmax-sequential",  # Adam, whose steps follow the rate alone
        "optim.lr_scheduler.LambdaLR",
        41,
        "scheduler",
        "learning rates are",
    ),
    without_zero_grad: (
        "relu-mse",
        "train_step",
        2,
        "train_step, 0.weight",
        "of its largest entry off",
    ),
}


@pytest.mark.parametrize("wrong", FAULTS, ids=lambda wrong: wrong.__name__)
def test_the_first_step_and_the_part_to_blame_are_named(wrong: Any) -> None:
    name, where, step, part, reason = FAULTS[wrong]
    faulty = replaced(minifw, where, wrong)
    framework = replace(MINIFW, nn=faulty.nn, optim=faulty.optim, train_step=faulty.train_step)
    recipe = RECIPES[name]
    if part == "scheduler":
        recipe = replace(recipe, lr_lambda=lambda epoch: 0.5**epoch)
    run = lockstep(recipe, framework, epochs=3)
    assert (run.status, run.diverged_at) == (Status.FAILED, step), run
    assert run.cause is not None
    assert run.cause.tensor == part
    assert run.cause.reason.startswith("looks like a fault")
    assert reason in run.cause.reason
    assert f"diverged at step {step}: {part}" in str(run)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_minifw_never_parts_by_more_than_pytorch_from_itself(recipe: Any) -> None:
    for dtype in ("float32", "float64"):
        run = lockstep(recipe, epochs=2, dtype=dtype)
        assert (run.status, run.diverged_at) == (Status.PASSED, 0), run
        assert 0 < run.control_distance < 1e-3
        assert run.steps == 2 * recipe.steps_an_epoch


def test_what_is_left_of_rounding_is_called_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    # With nothing allowed, the runs part where rounding first differs, and no part is wrong.
    monkeypatch.setattr("minifw.testing.training.ALLOWED", 0.0)
    monkeypatch.setattr("minifw.testing.training.FLOOR_ULP", 0.0)
    run: Lockstep = lockstep(RECIPES["dropout-bce"], epochs=2)
    assert run.diverged_at > 0
    assert run.status == Status.PASSED
    assert "looks like rounding" in str(run)


def test_global_state_is_left_as_found() -> None:
    before = torch.get_rng_state()
    lockstep(RECIPES["dropout-bce"], epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert minifw.nn.Tanh is nn.Tanh
