"""Checks of learning-rate schedules against torch's: every row of SCHEDULES."""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from bench.equivalence.unit import Unit, call, compare
from minifw.testing.verdict import Verdict
from reference.frameworks import PYTORCH
from reference.optim_cases import SCHEDULES

__all__ = ["EPOCHS", "RELATIVE", "UNITS", "VALUES", "make", "make_optimizer", "rates"]

EPOCHS = 70
RELATIVE = 1e-12  # torch multiplies the rates of all epochs

# Values by epoch for ReduceLROnPlateau: they fall, stall, jump, or are NaN.
VALUES: dict[str, Callable[[int], float]] = {
    "stalls": lambda epoch: max(1.0 - 0.1 * epoch, 0.5),
    "rises": lambda epoch: 0.01 * epoch,
    "waves": lambda epoch: math.sin(epoch / 3) + 0.01 * epoch,
    "creeps": lambda epoch: 1.0 - 5e-5 * epoch,
    "is NaN": lambda epoch: math.nan if epoch % 3 else 1.0 / (epoch + 1),
}


def make_optimizer(framework: Any) -> Any:
    """An optimizer of two groups with different rates."""
    groups = [{"params": [framework.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 2.0)]
    return framework.optim.SGD(groups)


def make(framework: Any, name: str, options: dict[str, Any]) -> Any:
    """The schedule of that name; torch lacks InverseTimeLR and gets its factors."""
    if framework is PYTORCH and name == "InverseTimeLR":
        decay = options["decay"]
        name, options = "LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + decay * epoch)}
    return getattr(framework.optim.lr_scheduler, name)(make_optimizer(framework), **options)


def rates(schedule: Any, epochs: int, value: Callable[[int], float] | None = None) -> list[Any]:
    """Each group's rate in the next epochs; the schedule gets ``value`` of the epoch, if any."""
    seen = []
    for epoch in range(epochs):
        groups = [group["lr"] for group in schedule.optimizer.param_groups]
        seen.append([groups, schedule.get_last_lr()])
        schedule.optimizer.step()
        schedule.step(*([] if value is None else [value(epoch)]))
    return seen


def _values(name: str) -> list[Callable[[int], float] | None]:
    return list(VALUES.values()) if name == "ReduceLROnPlateau" else [None]


def _rates(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    for value in _values(name):
        expected, actual = (make(side, name, options) for side in (PYTORCH, framework))
        if name != "ReduceLROnPlateau":
            yield compare("initial rates", actual.base_lrs, [0.1, 2.0])
        there, here = (rates(schedule, EPOCHS, value) for schedule in (expected, actual))
        yield compare("rates", here, there, RELATIVE if value is None else 0.0)
        yield compare("epochs", [actual.last_epoch], [expected.last_epoch])


def _resumed(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """A state_dict resumes in the other framework, and in the same."""
    for saved, loaded in ((PYTORCH, framework), (framework, PYTORCH), (framework, framework)):
        if name == "InverseTimeLR" and PYTORCH in (saved, loaded):
            continue  # torch's state_dict belongs to another schedule
        for value in _values(name):
            schedule = make(saved, name, options)
            # Made with other settings where possible, which the state_dict must replace.
            successor = make(loaded, name, options if value is None else {})
            rates(schedule, 20, value)
            successor.optimizer.load_state_dict(copy.deepcopy(schedule.optimizer.state_dict()))
            successor.load_state_dict(copy.deepcopy(schedule.state_dict()))
            yield compare("epochs", [successor.last_epoch], [20])
            there, here = (rates(each, EPOCHS, value) for each in (schedule, successor))
            yield compare("rates", here, there, RELATIVE if value is None else 0.0)


UNITS = tuple(
    Unit(
        call(name, options),
        (f"optim.lr_scheduler.{name}",),
        {
            "rates": functools.partial(_rates, name=name, options=options),
            "rates from a state_dict": functools.partial(_resumed, name=name, options=options),
        },
    )
    for name, options in SCHEDULES
)
