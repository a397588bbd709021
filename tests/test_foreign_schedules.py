"""Schedules as others write them: right ones pass, wrong ones fail and are told why."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import minifw
from bench.examples import optimizer as examples
from minifw.testing import Report, Status, UsageError
from minifw.testing.schedules import verify_schedule

STEP = torch.optim.lr_scheduler.StepLR
COSINE = torch.optim.lr_scheduler.CosineAnnealingLR
EXPONENTIAL = torch.optim.lr_scheduler.ExponentialLR
DROPS = {"step_size": 10, "gamma": 0.5}


class Drops:
    """Changes the rate of its optimizer."""

    def __init__(self, optimizer: Any, step_size: int, gamma: float) -> None:
        self.optimizer, self.step_size, self.gamma = optimizer, step_size, gamma
        self.epoch, self.first = 0, optimizer.lr

    def step(self) -> None:
        self.epoch += 1
        if self.epoch % self.step_size == 0:
            self.optimizer.lr *= self.gamma


class Groups(Drops):
    """The rates of all groups, each with its own."""

    def step(self) -> None:
        self.epoch += 1
        if self.epoch % self.step_size == 0:
            for group in self.optimizer.param_groups:
                group["lr"] *= self.gamma


class Alone:
    """Without an optimizer: step() returns the next rate."""

    def __init__(self, learning_rate: float, gamma: float) -> None:
        self.rate, self.gamma = learning_rate, gamma

    def step(self) -> float:
        self.rate *= self.gamma
        return self.rate


class Called:
    """Without an optimizer: called with the epoch."""

    def __init__(self, lr: float, decay: float) -> None:
        self.lr, self.decay = lr, decay

    def __call__(self, epoch: int) -> float:
        return self.lr * self.decay**epoch


def factor(epoch: int, drop: int, gamma: float) -> float:
    return gamma ** (epoch // drop)


def keras(epoch: int, lr: float, step_size: int, gamma: float) -> float:
    return lr * gamma if epoch and epoch % step_size == 0 else lr


RIGHT: list[tuple[Any, Any, dict[str, Any], str]] = [
    (Drops, STEP, DROPS, "an optimizer"),
    (Groups, STEP, DROPS, "an optimizer"),
    (Alone, EXPONENTIAL, {"gamma": 0.9}, "step() returns the next rate"),
    (Called, EXPONENTIAL, {"gamma": 0.9}, "gamma is called decay"),
    (factor, STEP, DROPS, "returns a factor"),
    (keras, STEP, DROPS, "the current rate"),
    (examples.cosine, COSINE, {"T_max": 20}, "the first rate"),
    (examples.cosine, COSINE, {"T_max": 50, "eta_min": 0.01}, "T_max is called total_steps"),
]


@pytest.mark.parametrize(("subject", "reference", "options", "note"), RIGHT)
def test_right_schedules_pass(
    subject: Any, reference: Any, options: dict[str, Any], note: str
) -> None:
    report = verify_schedule(subject, reference, options=options)
    assert report.status == Status.PASSED, report
    assert any(note in text for text in report.notes), report.notes


class Early(Drops):
    def step(self) -> None:
        self.epoch += 1
        if (self.epoch + 1) % self.step_size == 0:
            self.optimizer.lr *= self.gamma


class GivesFactor(Drops):
    def step(self) -> None:
        self.epoch += 1
        self.optimizer.lr = self.gamma ** (self.epoch // self.step_size)


class Twice(Drops):
    def step(self) -> None:
        super().step()
        if self.epoch % self.step_size == 0:
            self.optimizer.lr *= self.gamma


class Compounds(Drops):
    def step(self) -> None:
        self.epoch += 1
        self.optimizer.lr *= self.gamma ** (self.epoch // self.step_size)


class Never(Drops):
    def step(self) -> None:
        pass


class OffByOne(Drops):
    def __init__(self, optimizer: Any, step_size: int, gamma: float) -> None:
        super().__init__(optimizer, step_size + 1, gamma)


def late(epoch: int, lr: float, total_steps: int) -> float:
    return examples.cosine(max(epoch - 1, 0), lr, total_steps)


def to_zero(epoch: int, lr: float, total_steps: int, eta_min: float = 0.0) -> float:
    return examples.cosine(epoch, lr, total_steps)


WRONG: list[tuple[Any, Any, dict[str, Any], str]] = [
    (examples.wrong_cosine, COSINE, {"T_max": 20}, "one epoch early"),
    (Early, STEP, DROPS, "one epoch early"),
    (late, COSINE, {"T_max": 20}, "one epoch late"),
    (GivesFactor, STEP, DROPS, "a factor instead of the rate"),
    (Twice, STEP, DROPS, "multiplies twice at milestones"),
    (Compounds, STEP, DROPS, "compounds"),
    (Never, STEP, DROPS, "never changes"),
    (OffByOne, STEP, DROPS, "step_size is 11, one more"),
    (to_zero, COSINE, {"T_max": 20, "eta_min": 0.01}, "eta_min is ignored"),
]


@pytest.mark.parametrize(("subject", "reference", "options", "words"), WRONG)
def test_wrong_schedules_fail_and_the_mistake_is_named(
    subject: Any, reference: Any, options: dict[str, Any], words: str
) -> None:
    report = verify_schedule(subject, reference, options=options)
    assert report.status == Status.FAILED, report
    assert words in report.diagnosis, report


def test_groups_are_reported_and_decide_if_required() -> None:
    states = {
        subject: {c.name: c.state for c in verify_schedule(subject, STEP, options=DROPS).clauses}
        for subject in (Drops, Groups)
    }
    assert states[Drops]["groups"] == "broken"
    assert states[Groups]["groups"] == "kept"
    report = verify_schedule(Drops, STEP, options=DROPS, require=["groups"])
    assert report.status == Status.FAILED


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR", "ExponentialLR", "MultiStepLR"])
def test_minifws_and_torchs_own_keep_every_clause(name: str) -> None:
    required = {
        "StepLR": (7,), "CosineAnnealingLR": (9, 0.003), "ExponentialLR": (0.9,),
        "MultiStepLR": ([3, 3, 20],),
    }  # fmt: skip
    reference = getattr(torch.optim.lr_scheduler, name)
    for subject in (getattr(minifw.optim.lr_scheduler, name), reference):
        report = verify_schedule(subject, reference, required[name])
        assert report.status == Status.PASSED, report
        assert {clause.state for clause in report.clauses} == {"kept"}, report


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: verify_schedule(factor, torch.optim.SGD),
            "expected a class of torch.opt",
        ),
        (lambda: verify_schedule(late, COSINE, options={"T_max": 3, "eta_min": 0.1}), "no setting"),
        (lambda: verify_schedule(dict, STEP, (3,)), "no way of calling|no setting"),
        (lambda: verify_schedule(factor, torch.optim.lr_scheduler.ReduceLROnPlateau), "values"),
    ],
)
def test_usage_errors(call: Callable[[], Report], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        call()
