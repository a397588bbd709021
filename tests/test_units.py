"""Optimizers, schedules, initializers, data and training: every unit, by the engine's checks."""

from types import ModuleType

import pytest

import minifw
from bench.equivalence.training import UNITS as TRAINING
from bench.equivalence.unit import Unit, compare
from bench.equivalence.units import UNITS
from bench.faults import replaced
from minifw import optim
from minifw.optim import lr_scheduler
from minifw.testing.verdict import failures
from reference.frameworks import PYTORCH


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_minifw_passes(unit: Unit) -> None:
    report = unit.report(minifw)
    assert "PASSED" == report.status, report
    assert all(verdict.check in unit.checks for verdict in report.verdicts)


def test_every_unit_has_a_name_of_its_own() -> None:
    assert len(UNITS) == len({unit.name for unit in UNITS})


@pytest.mark.parametrize(
    ("path", "module", "others"),
    [
        ("optim", optim, {"Optimizer", "lr_scheduler"}),
        ("optim.lr_scheduler", lr_scheduler, {"LRScheduler"}),
        ("nn.init", minifw.nn.init, set()),
        ("nn.utils", minifw.nn.utils, set()),
        ("data", minifw.data, {"DISK_RADIUS", "ball_radius"}),
    ],
)
def test_every_public_name_has_a_unit(path: str, module: ModuleType, others: set[str]) -> None:
    used = {use for unit in UNITS for use in unit.uses}
    assert {f"{path}.{name}" for name in set(module.__all__) - others} <= used


CHECKS = ("whole run", "second fit", "modes of a run", "best weights", "stopping twice")


@pytest.mark.parametrize("check", CHECKS)
def test_fit_trains_models_of_torch_as_well(check: str) -> None:
    framework: ModuleType = minifw
    for path in ("nn", "optim", "train_step", "no_grad"):
        framework = replaced(framework, path, getattr(PYTORCH, path))
    (unit,) = [unit for unit in TRAINING if check in unit.checks]
    assert not failures(unit.verdicts(check, framework))


def test_a_check_that_raises_is_an_error() -> None:
    framework = replaced(minifw, "data.one_hot", None)
    (unit,) = [unit for unit in UNITS if unit.name == "one_hot"]
    report = unit.report(framework)
    assert "ERROR" == report.status
    assert "TypeError: 'NoneType' object is not callable" in str(report)


def test_numbers_are_compared_entry_by_entry() -> None:
    verdict = compare("rates", [1.0, 2.0, 3.5], [1.0, 2.0, 3.0])
    assert ("FAILED", (2,), 3.5, 3.0) == (
        verdict.status, verdict.where, verdict.actual, verdict.expected
    )  # fmt: skip
    assert "PASSED" == compare("rates", [float("nan")], [float("nan")]).status
    assert "FAILED" == compare("rates", [float("nan")], [1.0]).status
    assert "PASSED" == compare("rates", [1 + 1e-13], [1.0], 1e-12).status
    assert "FAILED" == compare("rates", [1 + 1e-11], [1.0], 1e-12).status
    assert "FAILED" == compare("rates", [1.0], [1.0, 1.0]).status
    nearest = compare("rates", [1.0, 2 + 1e-13, 3.0], [1.0, 2.0, 3.0], 1e-12)
    assert ("PASSED", (1,)) == (nearest.status, nearest.where)
    assert "FAILED" == compare("rates", [5.0], [float("inf")], 1e-12).status
    assert "FAILED" == compare("rates", [float("-inf")], [float("inf")], 1e-12).status
