"""All units that are no layers, and their reports."""

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
        framework: anything with the surface of the package ``minifw``. Default: that itself.
    """
    return [unit.report(framework) for unit in UNITS]
