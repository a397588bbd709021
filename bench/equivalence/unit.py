"""Units: what is not a layer, checked against PyTorch all the same.

Optimizers, schedules, initializers, data and training have no backward pass, so each has checks of
its own. A check is a function of a framework, by which is meant anything with the surface of the
package ``minifw``; it yields the verdicts of the engine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from minifw.testing.check import first_line
from minifw.testing.example import Example
from minifw.testing.report import Report
from minifw.testing.verdict import Status, Verdict

__all__ = ["Unit", "call", "compare", "holds"]

Check = Callable[[ModuleType], Iterable[Verdict]]


@dataclass(frozen=True)
class Unit:
    """A unit, and the checks that are made of it.

    Attributes:
        name: of the unit, for tables.
        uses: by their paths in ``minifw``, what its checks call: "optim.Adam", "data.batches".
        checks: by name.
    """

    name: str
    uses: tuple[str, ...]
    checks: Mapping[str, Check]

    def verdicts(self, check: str, framework: ModuleType) -> list[Verdict]:
        """What one check says of the unit as ``framework`` has it."""
        try:
            found = list(self.checks[check](framework))
        except Exception as error:
            found = [Verdict("", Status.ERROR, first_line(error))]
        return [replace(verdict, check=check) for verdict in found]

    def report(self, framework: ModuleType) -> Report:
        """What all checks say of it."""
        verdicts = [v for check in self.checks for v in self.verdicts(check, framework)]
        return Report(self.name, tuple(verdicts), examples=len(self.checks))


def call(name: str, options: Mapping[str, Any]) -> str:
    """A row of a table in a word: ``Adam(lr=0.1, amsgrad=True)``."""

    def said(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(said, value))}]"
        if callable(value):
            return str(getattr(value, "__name__", type(value).__name__))
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return f"{name}({', '.join(f'{key}={said(value)}' for key, value in options.items())})"


def compare(
    tensor: str,
    actual: Tensor | Sequence[Any],
    expected: Tensor | Sequence[Any],
    relative: float = 0.0,
) -> Verdict:
    """Judge numbers entry by entry, by default bit for bit.

    Args:
        tensor: what they are.
        actual, expected: of the framework and of PyTorch.
        relative: what an entry may be off, relative to itself; and by a rounding of 1 besides.
    """
    actual, expected = (
        side if isinstance(side, Tensor) else torch.tensor(side, dtype=torch.float64)
        for side in (actual, expected)
    )
    facts = [f"shape {list(t.shape)}, {t.dtype}" for t in (actual, expected)]
    if facts[0] != facts[1]:
        return Verdict(tensor, Status.FAILED, f"expected {facts[1]}, got {facts[0]}")
    name = str(expected.dtype).removeprefix("torch.")
    example = Example(dtype=name) if expected.is_floating_point() else Example()
    if not expected.numel():
        return Verdict(tensor, Status.PASSED, example=example)
    here, there = actual.double(), expected.double()
    allowed = there.abs() * relative + (torch.finfo(torch.float64).eps if relative else 0.0)
    allowed = allowed.masked_fill(~there.isfinite(), 0.0)  # what is infinite is so on both sides
    same = (here == there) | (here.isnan() & there.isnan())
    error = (here - there).abs().masked_fill(same, 0.0)
    wrong = ~(error <= allowed)
    nearest = (error / allowed).nan_to_num(torch.inf).masked_fill(same, 0.0)
    place = torch.unravel_index(nearest.argmax(), error.shape)
    where = tuple(int(index) for index in place)
    largest = there[there.isfinite()].abs().max().item() if there.isfinite().any() else 0.0
    absolute = error[where].item()
    return Verdict(
        tensor=tensor,
        status=Status.FAILED if wrong.any() else Status.PASSED,
        reason=f"off by {absolute:.3g} where {allowed[where].item():.3g} is allowed"
        if wrong.any()
        else "",
        example=example,
        absolute=absolute,
        relative=absolute / largest if largest else 0.0,
        bound=allowed[where].item(),
        where=where,
        actual=here[where].item(),
        expected=there[where].item(),
    )


def holds(tensor: str, right: bool, reason: str) -> Verdict:
    """PASSED if ``right``, else FAILED for the reason given."""
    return Verdict(tensor, Status.PASSED) if right else Verdict(tensor, Status.FAILED, reason)
