"""Schedules: what the checks of each row, in test_units.py, leave open."""

import json

import pytest

from bench.equivalence.schedules import EPOCHS, VALUES, make, make_optimizer, rates
from reference.frameworks import MINIFW, PYTORCH
from reference.optim_cases import SCHEDULES, Warmup
from reference.torch_changes import lacks

each_framework = pytest.mark.parametrize(
    "framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name
)


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
    assert ahead == [groups[1] for groups, _ in rates(schedule, EPOCHS)]


PLATEAUS = [options for name, options in SCHEDULES if name == "ReduceLROnPlateau"]


def test_plateaus_lower_the_rate_in_these_cases():
    lowered = {
        (str(options), values)
        for options in PLATEAUS
        for values in VALUES
        if rates(make(MINIFW, "ReduceLROnPlateau", options), EPOCHS, VALUES[values])[-1]
        != [[0.1, 2], [0.1, 2]]
    }
    assert len(lowered) > len(PLATEAUS) * len(VALUES) / 2


def test_a_plateaus_state_dict_has_the_keys_of_torch():
    expected, actual = (
        make(framework, "ReduceLROnPlateau", {}).state_dict().keys()
        for framework in (PYTORCH, MINIFW)
    )
    # torch works these out at construction, and looks for them when it loads.
    more = {"verbose"} if lacks("plateau state") else set()
    assert expected - actual <= {"default_min_lr", "mode_worse", *more}


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
def test_only_an_optimizer_of_the_framework_is_taken(framework, name):
    other = MINIFW if framework is PYTORCH else PYTORCH
    argument = {"LambdaLR": [[abs, abs]], "StepLR": [3]}.get(name, [])
    assert isinstance(argument, list)
    with pytest.raises(TypeError, match="is not an Optimizer"):
        getattr(framework.optim.lr_scheduler, name)(make_optimizer(other), *argument)
