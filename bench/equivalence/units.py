"""All units, and their reports."""

from types import ModuleType

import minifw
from bench.equivalence import data, initializers, optimizers, schedules, training
from bench.equivalence.unit import Unit
from minifw.testing.report import Report

__all__ = ["UNITS", "unit_reports"]

UNITS: tuple[Unit, ...] = (
    *optimizers.UNITS,
    *schedules.UNITS,
    *initializers.UNITS,
    *data.UNITS,
    *training.UNITS,
)


def unit_reports(framework: ModuleType = minifw) -> list[Report]:
    """The report of each unit.

    Args:
        framework: a module with the API of the package ``minifw``. Default: minifw.
    """
    return [unit.report(framework) for unit in UNITS]
