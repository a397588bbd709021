"""The kill matrix: which check finds which fault of the catalog.

A check kills a mutant if, on the same case of a layer or the same unit, it fails with the fault and
passes without it. A failure of the right minifw is not a kill.
"""

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import pandas as pd
import torch
from joblib import delayed
from rich.console import Console

import minifw
from bench.cli.command_line import progress_bar
from bench.cli.workers import workers
from bench.equivalence.unit import Unit
from bench.equivalence.units import UNITS
from bench.faults import FAULTS, Fault
from minifw.testing.case import Case
from minifw.testing.catalog import catalog
from minifw.testing.check import Expected, check
from minifw.testing.cross_check import gradcheck, hear
from minifw.testing.example import DTYPES
from minifw.testing.fuzz import fuzz
from minifw.testing.verdict import Status, failures
from minifw.testing.verification import CHECK_NAMES
from reference.cases import CASES, of_case

__all__ = [
    "LAYER_CHECKS",
    "UNIT_CHECKS",
    "KillMatrix",
    "kill_matrix",
    "layer_fails",
    "rows",
    "try_checks",
    "unit_fails",
]

FUZZ_EXAMPLES = 8  # examples of the fuzzer on each row

LAYER_CHECKS = CHECK_NAMES
UNIT_CHECKS = tuple(dict.fromkeys(name for unit in UNITS for name in unit.checks))


@dataclass(frozen=True)
class KillMatrix:
    """Fault by check.

    Attributes:
        kills: by the number of a fault in the catalog and the name of a check, whether the check
            kills it.
    """

    kills: Mapping[int, Mapping[str, bool]]

    def frame(self) -> pd.DataFrame:
        """A row a fault, a column a check: 1 for a kill, 0 for none, missing where not tried."""
        places = list(dict.fromkeys(fault.where for fault in FAULTS))
        numbers = sorted(self.kills, key=lambda number: places.index(FAULTS[number].where))
        frame = pd.DataFrame([self.kills[number] for number in numbers], dtype=float)
        frame = frame.reindex(columns=[*LAYER_CHECKS, *UNIT_CHECKS])
        frame.index = pd.MultiIndex.from_tuples(
            [(FAULTS[number].where, FAULTS[number].name) for number in numbers],
            names=["where", "fault"],
        )
        return frame

    def survivors(self) -> list[str]:
        """The faults that no check kills."""
        return [
            FAULTS[number].name for number, kills in self.kills.items() if not any(kills.values())
        ]

    def faults(self) -> pd.DataFrame:
        """A row a fault: its place, the number of checks that kill it, and the first of them."""
        frame = self.frame()
        killed = frame.fillna(0).astype(bool)
        return pd.DataFrame(
            {
                "where": frame.index.get_level_values("where"),
                "fault": frame.index.get_level_values("fault"),
                "killed by": killed.sum(axis=1).to_numpy(),
                "first": [next(iter(row.index[row]), "none") for _, row in killed.iterrows()],
            }
        )

    def checks(self) -> pd.DataFrame:
        """A row a check: the numbers of faults it was tried on, kills, and kills alone.

        The last column ignores the fuzzer, whose examples overlap with those of every check.
        """
        killed = self.frame().fillna(0).astype(bool)
        fixed = killed.assign(fuzzing=False)
        return pd.DataFrame(
            {
                "check": killed.columns,
                "tried on": self.frame().notna().sum().to_numpy(),
                "kills": killed.sum().to_numpy(),
                "kills alone": killed[killed.sum(axis=1) == 1].sum().to_numpy(),
                "alone but for fuzzing": fixed[fixed.sum(axis=1) == 1].sum().to_numpy(),
            }
        )

    def redundant(self) -> list[str]:
        """The checks that kill no fault alone; two of them may cover for each other."""
        checks = self.checks()
        return list(checks["check"][checks["kills alone"] == 0])


def kill_matrix(
    jobs: int, console: Console, numbers: Sequence[int] = range(len(FAULTS))
) -> KillMatrix:
    """Try every check on every fault.

    Args:
        jobs: processes.
        console: shows the progress.
        numbers: numbers of faults in the catalog. Default: all.
    """
    places: dict[str, list[int]] = {}
    for number in numbers:
        places.setdefault(FAULTS[number].where, []).append(number)
    parallel = workers(jobs, return_as="generator_unordered")
    kills: dict[int, dict[str, bool]] = {}
    with progress_bar(console, "faults") as bar:
        task = bar.add_task("kill matrix", total=len(numbers))
        longest_first = sorted(places.values(), key=len, reverse=True)
        for found in parallel(delayed(_try)(together) for together in longest_first):
            kills |= found
            bar.advance(task, len(found))
    return KillMatrix(kills)


def _try(numbers: list[int]) -> dict[int, dict[str, bool]]:
    """Try the faults of one place in one process, where they share PyTorch's results."""
    torch.set_num_threads(1)
    return {number: dict(try_checks(FAULTS[number])) for number in numbers}


def try_checks(
    fault: Fault, layer_checks: Sequence[str] = LAYER_CHECKS
) -> Iterator[tuple[str, bool]]:
    """Each check that applies to a fault, those of layers in an order, and whether it kills it."""
    framework = fault.framework()
    cases = rows(fault.where.removeprefix("nn."))
    for name in layer_checks if cases else ():
        yield (
            name,
            any(
                layer_fails(name, case, framework.nn) and not _right_layer_fails(name, case.name)
                for case in cases
            ),
        )
    for name in UNIT_CHECKS:
        units = [unit for unit in UNITS if name in unit.checks and fault.where in unit.uses]
        if units:
            yield (
                name,
                any(
                    unit_fails(name, unit, framework) and not _right_unit_fails(name, unit.name)
                    for unit in units
                ),
            )


def rows(module: str) -> list[Case]:
    """The rows that a fault in a module is tried on.

    They cover each option, rank, domain and mode of the module once; one further row is of another
    module that contains it.
    """
    chosen: list[Case] = []
    seen: set[object] = set()
    for case in CASES:
        features = {str((name, value)) for name, value in case.options.items()}
        features |= {str(("mode", case.training)), str(("arguments", case.arguments))}
        features |= {str((place, i.domain, len(i.shape))) for place, i in enumerate(case.inputs)}
        if case.module == module and not features <= seen:
            chosen.append(case)
            seen |= features
    return chosen + [case for case in CASES if _has_part(case, module)][:1]


def _has_part(case: Case, module: str) -> bool:
    parts = [argument for argument in case.arguments if isinstance(argument, Case)]
    return any(part.module == module or _has_part(part, module) for part in parts)


def layer_fails(name: str, case: Case, nn: ModuleType) -> bool:
    """Whether a check of a row fails with the modules of ``nn``."""
    comparison = replace(of_case(case, nn), known=_known(case.name))
    with warnings.catch_warnings(action="ignore"):  # a fault may raise warnings
        try:
            if name == "cross-check":
                return any(testimony.status == Status.FAILED for testimony in hear(comparison))
            if name == "gradcheck":
                return bool(gradcheck(comparison))
            if name == "fuzzing":
                return bool(
                    failures(fuzz(comparison, tuple(DTYPES), FUZZ_EXAMPLES, 0, shrink=False))
                )
            examples = catalog(tuple(DTYPES), comparison)[name].examples
            return any(failures(check(comparison, example, name)) for example in examples)
        except Exception:  # the module cannot be constructed
            return True


def unit_fails(name: str, unit: Unit, framework: ModuleType) -> bool:
    """Whether a check of a unit fails in ``framework``."""
    with warnings.catch_warnings(action="ignore"):
        return bool(failures(unit.verdicts(name, framework)))


@functools.cache
def _known(case_name: str) -> dict[str, Expected]:
    """PyTorch's results on the examples of a row, shared by all faults."""
    return {}


@functools.cache
def _right_layer_fails(name: str, case_name: str) -> bool:
    (case,) = (case for case in CASES if case.name == case_name)
    return layer_fails(name, case, minifw.nn)


@functools.cache
def _right_unit_fails(name: str, unit_name: str) -> bool:
    (unit,) = (unit for unit in UNITS if unit.name == unit_name)
    return unit_fails(name, unit, minifw)
