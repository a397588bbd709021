"""Verdicts: what is said of one tensor, and on what evidence."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from minifw.testing.example import Example

__all__ = [
    "LABEL",
    "POWER_AT",
    "REFUSES",
    "ROUGHEST",
    "Status",
    "Verdict",
    "failures",
    "judge",
    "largest",
    "nearer",
    "overall",
]

# The relative error whose detection is reported as power.
POWER_AT = 1e-5

# The bound: how far the subject may be from the exact result. PyTorch's own distance from it is the
# measure, or the change of the exact result when every number is moved by one ULP, whichever is
# larger. Both sides round the same sums in orders of their own, and neither is nearer to the truth
# by more than luck: 4 is room for luck.
MULTIPLE = 4.0
# A rule made of several operations rounds where one kernel of PyTorch's does not: what the rule's
# own roundings explain (of which a sum has more than one) is excused, up to this multiple of what
# PyTorch's do. A rule that is rougher is a worse one.
ROUGHEST = 16.0
# Where PyTorch happens to err by nothing, or keeps more digits inside of a kernel than a rule made
# of several operations can: two units in the last place of the largest entry, or one rounding of a
# number of the size of the cotangent, which is what every gradient is made from.
FLOOR_ULP, FLOOR_EPS = 2.0, 1.0
# In float64 there is nothing more exact to measure PyTorch's own error against. This is some
# thousand roundings, and far below any error of a formula.
FLOAT64 = 1e-12
EPS64 = 2.0**-52


# Which of several calls a tensor is of, and its name.
LABEL = re.compile(
    r"^((?:\d+|first|second|inner|outer|dropped|again|inputs|parameters|forward"
    r"|(?:frozen|alone|without|unused|zero)-[^.]*)[.])?(.+)$"
)


# How the reason begins where a subject does not take what the reference takes, and says so.
REFUSES = "it refuses"


class Status(StrEnum):
    """What a check came to."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    MISTRUSTED = "MISTRUSTED"  # it could not have failed
    SKIPPED = "SKIPPED"  # it was not made
    ERROR = "ERROR"  # the subject raised an error where the reference does not


_ORDER = (Status.ERROR, Status.FAILED, Status.PASSED, Status.MISTRUSTED, Status.SKIPPED)


def overall(statuses: Iterable[Status]) -> Status:
    """The status of several checks of one thing: one fault is enough, else one trusted pass."""
    return min(statuses, key=_ORDER.index, default=Status.SKIPPED)


@dataclass(frozen=True)
class Verdict:
    """What one check says of one tensor.

    Attributes:
        tensor: its name: "output", "input.0.grad", "weight.grad", "running_mean".
        status: see :class:`Status`.
        reason: in words, for every status but PASSED.
        check: name of the check.
        clause: key of :data:`minifw.testing.clause.CLAUSES` that the check is of.
        example: what was drawn and done.
        absolute: largest distance from the exact result.
        relative: the same, divided by the largest entry of the exact result.
        ulp: the same, in units in the last place of that entry, in the dtype of the tensor.
        multiple: the same, divided by PyTorch's own: the larger of its distance from the exact
            result and of its change when everything that goes in is moved by one ULP.
        bound: what ``absolute`` may be.
        where: the entry in which the distance, or what else is wrong, is largest.
        actual: the entry there, of the subject.
        expected: the same of the exact result.
        power: share of the entries in which a relative error of 1e-5 would have been detected, all
            else being as it is; NaN where that was not looked into.
    """

    tensor: str
    status: Status
    reason: str = ""
    check: str = ""
    clause: str = "derivative"
    example: Example = Example()  # noqa: RUF009 -- it is frozen
    absolute: float = 0.0
    relative: float = 0.0
    ulp: float = 0.0
    multiple: float = 0.0
    bound: float = 0.0
    where: tuple[int, ...] = ()
    actual: float = math.nan
    expected: float = math.nan
    power: float = math.nan

    def __str__(self) -> str:
        place = f"{list(self.where)}" if self.where else ""
        values = f"; got {self.actual:.9g}, expected {self.expected:.9g}" if place else ""
        check = f", {self.check}" if self.check else ""
        tensor = self.tensor or "call"
        return (
            f"{self.status} {tensor}{place} in {self.example.dtype}{check}: {self.reason}{values}"
        )

    @property
    def share(self) -> float:
        """The distance as a share of what it may be."""
        return self.absolute / self.bound if self.bound else self.absolute


def failures(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that are FAILED or ERROR."""
    return [v for v in verdicts if v.status in (Status.FAILED, Status.ERROR)]


def nearer(one: Verdict, other: Verdict) -> Verdict:
    """The one that is nearer to failing, with the larger power of the two."""
    worst = max(one, other, key=lambda verdict: verdict.share)
    return replace(worst, power=float(np.fmax(one.power, other.power)))


def ulp(value: float, dtype: torch.dtype) -> float:
    """The distance from ``value`` to the next larger number of ``dtype``."""
    limits = torch.finfo(dtype)
    if not math.isfinite(value):
        return 0.0
    exponent = math.frexp(max(abs(value), limits.tiny))[1] - 1
    return limits.eps * 2.0**exponent


def largest(tensor: Tensor) -> float:
    """The largest finite entry without its sign; 0 if there is none."""
    finite = tensor[tensor.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def _place(flags: Tensor) -> tuple[int, ...]:
    return tuple(int(index) for index in flags.nonzero()[0])


def judge(
    name: str,
    actual: Tensor | None,
    expected: Tensor,
    exact: Tensor,
    perturbed_inputs: Iterable[Tensor],
    cotangent: float,
    perturbed_intermediates: Iterable[Tensor] = (),
    subject_rounding: Iterable[Tensor] = (),
    measure_power: bool = False,
) -> Verdict:
    """Judge one tensor.

    Args:
        name: of the tensor.
        actual: what the subject made; None for nothing, which counts as zeros in a gradient.
        expected: what the reference makes, in the same dtype.
        exact: what the reference makes of the same numbers in float64.
        perturbed_inputs: what it makes in float64 of numbers moved by one ULP of that dtype.
        cotangent: the largest entry of the cotangents.
        perturbed_intermediates: what it makes in float64 if what it computes on the way is
            moved too.
        subject_rounding: the exact result, off by as much as the subject's in float64 is if what
            the subject computes on the way is moved.
        measure_power: whether ``perturbed_intermediates`` and ``subject_rounding`` are all that
            could ever excuse the subject, so that the power is known.
    """
    if actual is None:
        if not name.endswith(".grad"):
            return Verdict(name, Status.FAILED, "the subject has none")
        actual = torch.zeros_like(expected)
    facts = [f"shape {list(t.shape)}, {t.dtype}" for t in (actual, expected)]
    if facts[0] != facts[1]:
        return Verdict(name, Status.FAILED, f"expected {facts[1]}, got {facts[0]}")
    if not expected.numel():
        return Verdict(name, Status.SKIPPED, "no entries; shape and dtype agree")
    if not expected.is_floating_point():
        if torch.equal(actual, expected):
            return Verdict(name, Status.PASSED)
        where = _place(actual != expected)
        return Verdict(
            name, Status.FAILED, "not equal", where=where,
            actual=actual[where].item(), expected=expected[where].item(),
        )  # fmt: skip
    return _judge_numbers(
        name,
        actual,
        expected,
        exact,
        perturbed_inputs,
        cotangent,
        perturbed_intermediates,
        subject_rounding,
        measure_power,
    )


def _judge_numbers(
    name: str,
    actual: Tensor,
    expected: Tensor,
    exact: Tensor,
    perturbed_inputs: Iterable[Tensor],
    cotangent: float,
    perturbed_intermediates: Iterable[Tensor],
    subject_rounding: Iterable[Tensor],
    measure_power: bool,
) -> Verdict:
    dtype = expected.dtype
    actual, expected, exact = actual.double(), expected.double(), exact.double()
    # Where PyTorch in that dtype has left its range, and in float64 has not, it is no reference.
    rounded = exact.to(dtype).double()
    for value in (torch.nan, torch.inf, -torch.inf):
        places = [t.isnan() if value != value else t == value for t in (actual, expected, rounded)]
        wrong = (places[0] != places[1]) & (places[1] == places[2])
        if wrong.any():
            where = _place(wrong)
            return Verdict(
                name, Status.FAILED, f"{value} in other places", where=where,
                actual=actual[where].item(), expected=expected[where].item(),
            )  # fmt: skip
    finite = actual.isfinite() & expected.isfinite() & exact.isfinite()
    zero = torch.zeros_like(exact)

    def farthest(others: Iterable[Tensor]) -> float:
        distances = [torch.where(finite, (o.double() - exact).abs(), zero) for o in others]
        return max(map(largest, distances), default=0.0)

    own = farthest([expected, *perturbed_inputs])
    error = torch.where(finite, (actual - exact).abs(), zero)
    top = largest(torch.where(finite, exact, zero))
    unit = ulp(top, dtype)
    size = max(top, cotangent) if name.endswith(".grad") else top
    floor = max(FLOOR_ULP * unit, FLOOR_EPS * torch.finfo(dtype).eps * size)
    # An entry that is small because large ones cancel is right to one rounding of a number near 1.
    floor = max(FLOAT64 * size, 4 * EPS64) if dtype == torch.float64 else floor
    explained = max(own, farthest(perturbed_intermediates))
    excused = min(ROUGHEST * max(explained, unit), MULTIPLE * farthest(subject_rounding))
    bound = max(MULTIPLE * own, explained, excused) + floor
    place = torch.unravel_index(error.argmax(), error.shape)
    where = tuple(int(index) for index in place)
    absolute = error[where].item()
    status, reason = Status.PASSED, ""
    if absolute > bound:
        status = Status.FAILED
        reason = f"off by {absolute:.3g} where {bound:.3g} is allowed"
    elif not finite.any():
        status, reason = Status.MISTRUSTED, "no entry is finite"
    elif top == 0:
        status, reason = Status.MISTRUSTED, "every entry is 0"
    elif bound >= top:
        status, reason = Status.MISTRUSTED, "every entry is below the bound"
    # What is added to an entry can be hidden by its distance from the exact result, and by one more
    # rounding, before it counts towards the bound.
    found = exact.abs() * POWER_AT > bound + absolute + unit
    return Verdict(
        tensor=name,
        status=status,
        reason=reason,
        absolute=absolute,
        relative=absolute / top if top else 0.0,
        ulp=absolute / unit if unit else 0.0,
        multiple=absolute / own if own else 0.0 if absolute == 0 else math.inf,
        bound=bound,
        where=where,
        actual=actual[where].item(),
        expected=exact[where].item(),
        power=found.double().mean().item() if measure_power else math.nan,
    )
