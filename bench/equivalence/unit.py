"""Units: optimizers, schedules, initializers, data and training, checked against PyTorch.

They have no backward pass, so each has its own checks. A check is a function of a framework, any
module with the API of the package ``minifw``, and yields verdicts.
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
    """A unit and its checks.

    Attributes:
        name: of the unit, for tables.
        uses: paths in ``minifw`` of everything its checks call: "optim.Adam", "data.batches".
        checks: by name.
    """

    name: str
    uses: tuple[str, ...]
    checks: Mapping[str, Check]

    def verdicts(self, check: str, framework: ModuleType) -> list[Verdict]:
        """The verdicts of one check on the unit of ``framework``."""
        try:
            found = list(self.checks[check](framework))
        except Exception as error:
            found = [Verdict("", Status.ERROR, first_line(error))]
        return [replace(verdict, check=check) for verdict in found]

    def report(self, framework: ModuleType) -> Report:
        """The report of all checks."""
        verdicts = [v for check in self.checks for v in self.verdicts(check, framework)]
        return Report(self.name, tuple(verdicts), examples=len(self.checks))


def call(name: str, options: Mapping[str, Any]) -> str:
    """The name of a row of a table: ``Adam(lr=0.1, amsgrad=True)``."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        if callable(value):
            return str(getattr(value, "__name__", type(value).__name__))
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return f"{name}({', '.join(f'{key}={text(value)}' for key, value in options.items())})"


def compare(
    tensor: str,
    actual: Tensor | Sequence[Any],
    expected: Tensor | Sequence[Any],
    relative: float = 0.0,
) -> Verdict:
    """Judge numbers entry by entry, by default bit for bit.

    Args:
        tensor: the name of the numbers.
        actual, expected: from the framework and from PyTorch.
        relative: allowed error relative to each entry, plus one rounding of 1.
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
    allowed = allowed.masked_fill(~there.isfinite(), 0.0)  # an infinity must be equal on both sides
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
    """PASSED if ``right``, otherwise FAILED with ``reason``."""
    return Verdict(tensor, Status.PASSED) if right else Verdict(tensor, Status.FAILED, reason)
