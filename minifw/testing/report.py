"""Reports: the verdicts of all checks of one comparison, summed up tensor by tensor."""

import functools
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from minifw.testing.cross_check import Testimony
from minifw.testing.verdict import Status, Verdict, failures, nearer, overall

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """What all checks of one comparison came to.

    Attributes:
        name: of the comparison.
        verdicts: one a check and tensor.
        testimonies: what four witnesses say of each gradient.
        examples: how many examples were tried.
        gradcheck: what :func:`torch.autograd.gradcheck` objects to; "" for nothing, None if it
            was not asked.
        command: the command line that the comparison is verified by.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    testimonies: tuple[Testimony, ...] = ()
    gradcheck: str | None = None
    examples: int = 0
    command: str = field(default="", repr=False)

    @property
    def status(self) -> Status:
        """FAILED or ERROR if any check is; MISTRUSTED if a tensor has no check to trust."""
        statuses = [verdict.status for verdict in self._summed_up(lambda verdict: "")]
        statuses += [testimony.status for testimony in self.testimonies]
        statuses += [Status.FAILED] if self.gradcheck else []
        worst = overall(statuses)
        trusted = worst != Status.PASSED or Status.MISTRUSTED not in statuses
        return worst if trusted else Status.MISTRUSTED

    @property
    def failures(self) -> list[Verdict]:
        """The verdicts that are FAILED or ERROR."""
        return failures(self.verdicts)

    def _summed_up(self, key: Callable[[Verdict], str]) -> list[Verdict]:
        """A verdict a tensor and key: the worst status, the worst evidence, and the best power."""
        groups: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            # What is not of any tensor says something only if it is bad.
            if verdict.tensor or verdict.status in (Status.FAILED, Status.ERROR):
                tensor = re.sub("^(first|second|inner|outer)[.]", "", verdict.tensor)
                # Different faults of a call are different things.
                place = (tensor, key(verdict) if tensor else verdict.reason)
                groups.setdefault(place, []).append(replace(verdict, tensor=tensor))
        summed_up = []
        for verdicts in groups.values():
            status = overall(verdict.status for verdict in verdicts)
            summed_up.append(functools.reduce(nearer, [v for v in verdicts if v.status == status]))
        return summed_up

    def rows(self) -> list[dict[str, Any]]:
        """A row a tensor and dtype, from the check in which it came nearest to failing."""
        return [
            {
                "tensor": verdict.tensor or "(call)",
                "dtype": verdict.example.dtype,
                "status": str(verdict.status),
                "error": verdict.absolute,
                "relative": verdict.relative,
                "ULP": verdict.ulp,
                "x PyTorch's": verdict.multiple,
                "of bound": verdict.share,
                "where": list(verdict.where),
                "power": verdict.power,
                "check": verdict.check,
                "reason": verdict.reason,
            }
            for verdict in self._summed_up(lambda verdict: verdict.example.dtype)
        ]

    def power(self, dtype: str) -> float:
        """The share of entries in which a relative error of 1e-5 would have been detected.

        The mean over the tensors; NaN where it was not looked into.
        """
        summed_up = self._summed_up(lambda verdict: verdict.example.dtype)
        powers = [v.power for v in summed_up if v.example.dtype == dtype]
        known = [power for power in powers if not math.isnan(power)]
        return statistics.fmean(known) if known else math.nan

    def lines(self) -> Iterable[str]:
        """The report in words: the status, and each failure with the line that reproduces it."""
        yield f"{self.status} {self.name} ({self.examples} examples)"
        if self.status == Status.PASSED:
            return
        bad: dict[str, list[Verdict]] = {}
        for v in self._summed_up(lambda verdict: verdict.example.dtype):
            if v.status in (Status.FAILED, Status.ERROR) or v.status == self.status:
                bad.setdefault(v.tensor or v.reason, []).append(v)
        for v, *others in bad.values():
            place = f"{list(v.where)}" if v.where else ""
            said = f"; got {v.actual:.9g}, expected {v.expected:.9g}" if place else ""
            also = f" (also in {', '.join(o.example.dtype for o in others)})" if others else ""
            yield (
                f"  {v.status} {v.tensor or 'call'}{place} in {v.example.dtype}{also}, {v.check}: "
                f"{v.reason}{said}"
            )
            if v.status != Status.MISTRUSTED and self.command:
                yield f"    {self.command} --example '{v.example}'"
        for testimony in self.testimonies:
            if testimony.status != Status.PASSED:
                yield f"  {testimony}"
        if self.gradcheck:
            yield f"  torch.autograd.gradcheck: {self.gradcheck}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON, which has no number that is not finite."""
        skipped = {(v.check, v.reason) for v in self.verdicts if v.status == Status.SKIPPED}
        return {
            "name": self.name,
            "status": str(self.status),
            "examples": self.examples,
            "tensors": [_plain(row) for row in self.rows()],
            "witnesses": [_plain(testimony.as_dict()) for testimony in self.testimonies],
            "gradcheck": self.gradcheck,
            "failures": [
                _plain(
                    {
                        "tensor": v.tensor,
                        "check": v.check,
                        "status": str(v.status),
                        "reason": v.reason,
                        "where": list(v.where),
                        "actual": v.actual,
                        "expected": v.expected,
                        "example": str(v.example),
                    }
                )
                for v in self.failures
            ],
            "skipped": [{"check": check, "reason": reason} for check, reason in sorted(skipped)],
        }


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(name): str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
