"""Schedules: the learning rates of minifw and torch, compared at every epoch."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from minifw import optim
from minifw.optim import lr_scheduler
from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.optim_cases import SCHEDULES, Warmup

EPOCHS = 70


# The plateau's schedule takes a value at each step, and torch has no twin of the time decay.
STEPPED = [row for row in SCHEDULES if row[0] not in ("ReduceLROnPlateau", "InverseTimeLR")]
each_case = pytest.mark.parametrize(
    ("name", "options"), STEPPED, ids=[f"{name}-{','.join(options)}" for name, options in STEPPED]
)
each_framework = pytest.mark.parametrize(
    "framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name
)


def make_optimizer(framework: Framework) -> Any:
    """An optimiser of two groups, with rates of their own."""
    groups = [{"params": [framework.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 2.0)]
    return framework.optim.SGD(groups)


def make(framework: Framework, name: str, options: dict[str, Any]) -> Any:
    return getattr(framework.optim.lr_scheduler, name)(make_optimizer(framework), **options)


def rates(schedule: Any, epochs: int, value: Callable[[int], float] | None = None) -> list[Any]:
    """Each group's rate from now on; the schedule is given ``value`` of the epoch, if any."""
    seen = []
    for epoch in range(epochs):
        groups = [group["lr"] for group in schedule.optimizer.param_groups]
        assert schedule.get_last_lr() == groups
        seen.append(groups)
        schedule.optimizer.step()
        schedule.step(*([] if value is None else [value(epoch)]))
    return seen


def approximately(expected: list[Any]) -> list[Any]:
    # torch multiplies rate by rate; 1e-16 is for the zeros of a cosine.
    return [pytest.approx(groups, rel=1e-12, abs=1e-16) for groups in expected]


@each_case
def test_rates_are_those_of_torch(name, options):
    expected, actual = (make(framework, name, options) for framework in (PYTORCH, MINIFW))
    assert actual.base_lrs == expected.base_lrs == [0.1, 2.0]
    assert rates(actual, EPOCHS) == approximately(rates(expected, EPOCHS))
    assert actual.last_epoch == expected.last_epoch == EPOCHS


@each_case
@pytest.mark.parametrize(
    ("saved", "loaded"),
    [(PYTORCH, MINIFW), (MINIFW, PYTORCH), (MINIFW, MINIFW)],
    ids=lambda framework: framework.name,
)
def test_a_state_dict_goes_on_in_the_other_framework(name, options, saved, loaded):
    schedule = make(saved, name, options)
    rates(schedule, 20)
    successor = make(loaded, name, options)
    successor.optimizer.load_state_dict(copy.deepcopy(schedule.optimizer.state_dict()))
    successor.load_state_dict(copy.deepcopy(schedule.state_dict()))
    assert successor.last_epoch == 20
    assert successor.get_last_lr() == schedule.get_last_lr()
    assert rates(successor, EPOCHS) == approximately(rates(schedule, EPOCHS))


def test_a_state_dict_holds_the_settings_too():
    there = make(MINIFW, "StepLR", {"step_size": 3, "gamma": 0.5})
    here = make(MINIFW, "StepLR", {"step_size": 9})
    here.load_state_dict(json.loads(json.dumps(there.state_dict())))
    assert (here.step_size, here.gamma) == (3, 0.5)

    warmup = make(MINIFW, "LambdaLR", {"lr_lambda": Warmup(10)})
    other = make(MINIFW, "LambdaLR", {"lr_lambda": Warmup(99)})
    other.load_state_dict(warmup.state_dict())
    assert other.lr_lambdas[0].epochs == 10


@each_framework
def test_a_schedule_goes_on_after_a_given_epoch(framework):
    schedule = make(framework, "ExponentialLR", {"gamma": 0.5})
    rates(schedule, 4)
    optimizer = schedule.optimizer
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 2.0]
    successor = framework.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: 0.5**epoch, last_epoch=3
    )
    assert successor.last_epoch == 4
    assert successor.get_last_lr() == [0.1 / 16, 2.0 / 16]
    with pytest.raises(KeyError, match="initial_lr"):
        framework.optim.lr_scheduler.StepLR(make_optimizer(framework), 3, last_epoch=3)


def test_a_schedule_is_a_function_of_the_epoch():
    schedule = make(MINIFW, "CosineAnnealingLR", {"T_max": 10})
    ahead = [schedule.lr_at(epoch, 2.0) for epoch in range(EPOCHS)]
    assert ahead == [groups[1] for groups in rates(schedule, EPOCHS)]


def test_inverse_time_is_its_formula_and_its_lambda():
    ((name, options),) = [row for row in SCHEDULES if row[0] == "InverseTimeLR"]
    factor = {"lr_lambda": lambda epoch: 1 / (1 + options["decay"] * epoch)}
    seen = rates(make(MINIFW, name, options), EPOCHS)
    assert seen == approximately(rates(make(PYTORCH, "LambdaLR", factor), EPOCHS))
    assert seen[20] == pytest.approx([0.05, 1.0])


# Values that fall, stall, jump and are NaN.
VALUES: dict[str, Callable[[int], float]] = {
    "stalls": lambda epoch: max(1.0 - 0.1 * epoch, 0.5),
    "rises": lambda epoch: 0.01 * epoch,
    "waves": lambda epoch: math.sin(epoch / 3) + 0.01 * epoch,
    "creeps": lambda epoch: 1.0 - 5e-5 * epoch,
    "is NaN": lambda epoch: math.nan if epoch % 3 else 1.0 / (epoch + 1),
}
PLATEAUS = [options for name, options in SCHEDULES if name == "ReduceLROnPlateau"]


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
@pytest.mark.parametrize("values", VALUES)
def test_plateau_rates_are_those_of_torch(options, values):
    expected, actual = (
        rates(make(framework, "ReduceLROnPlateau", options), EPOCHS, VALUES[values])
        for framework in (PYTORCH, MINIFW)
    )
    assert actual == expected


def test_plateaus_lower_the_rate_in_these_cases():
    lowered = {
        (str(options), values)
        for options in PLATEAUS
        for values in VALUES
        if rates(make(MINIFW, "ReduceLROnPlateau", options), EPOCHS, VALUES[values])[-1] != [0.1, 2]
    }
    assert len(lowered) > len(PLATEAUS) * len(VALUES) / 2


@pytest.mark.parametrize(("saved", "loaded"), [(PYTORCH, MINIFW), (MINIFW, PYTORCH)])
def test_a_plateau_goes_on_in_the_other_framework(saved, loaded):
    options = {"patience": 3, "cooldown": 2, "factor": 0.5}
    schedule = make(saved, "ReduceLROnPlateau", options)
    rates(schedule, 12, VALUES["waves"])
    successor = make(loaded, "ReduceLROnPlateau", {})
    if saved is MINIFW:
        # torch works these out at construction, and looks for them when it loads.
        expected = make(PYTORCH, "ReduceLROnPlateau", {}).state_dict().keys()
        assert expected - schedule.state_dict().keys() <= {"default_min_lr", "mode_worse"}
    successor.optimizer.load_state_dict(copy.deepcopy(schedule.optimizer.state_dict()))
    successor.load_state_dict(copy.deepcopy(schedule.state_dict()))
    assert rates(successor, EPOCHS, VALUES["waves"]) == rates(schedule, EPOCHS, VALUES["waves"])


ERRORS = [
    (ValueError, "ConstantLR", {"factor": 1.5}),
    (ValueError, "ConstantLR", {"factor": -0.5}),
    (ValueError, "LambdaLR", {"lr_lambda": [abs]}),
    (ValueError, "ReduceLROnPlateau", {"factor": 1.0}),
    (ValueError, "ReduceLROnPlateau", {"mode": "least"}),
    (ValueError, "ReduceLROnPlateau", {"threshold_mode": "relative"}),
    (ValueError, "ReduceLROnPlateau", {"min_lr": [0.1]}),
    (TypeError, "StepLR", {}),
]


@each_framework
@pytest.mark.parametrize(("error", "name", "options"), ERRORS, ids=str)
def test_settings_out_of_range_are_refused(framework, error, name, options):
    with pytest.raises(error):
        make(framework, name, options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {"step_size": 0}, "step_size: 0"),
        ("CosineAnnealingLR", {"T_max": 0}, "T_max: 0"),
        ("InverseTimeLR", {"decay": -1}, "decay: -1"),
    ],
)
def test_minifw_refuses_at_once_what_torch_fails_on_later(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(MINIFW, name, options)


@each_framework
@pytest.mark.parametrize("name", ["LambdaLR", "StepLR", "ReduceLROnPlateau"])
def test_only_an_optimiser_of_the_framework_is_taken(framework, name):
    other = MINIFW if framework is PYTORCH else PYTORCH
    argument = {"LambdaLR": [[abs, abs]], "StepLR": [3]}.get(name, [])
    with pytest.raises(TypeError, match="is not an Optimizer"):
        getattr(framework.optim.lr_scheduler, name)(make_optimizer(other), *argument)


def test_every_public_schedule_has_a_case():
    assert {name for name, _ in SCHEDULES} == set(lr_scheduler.__all__) - {"LRScheduler"}
    assert optim.lr_scheduler is lr_scheduler
