"""Reports: the verdicts of all checks of one comparison, summed up by clause and by tensor."""

import functools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from minifw.testing.clause import CLAUSES, Clause
from minifw.testing.cross_check import Testimony
from minifw.testing.verdict import LABEL, REFUSES, Status, Verdict, failures, nearer, overall

if TYPE_CHECKING:
    from minifw.testing.timing.measure import Timing

__all__ = ["ClauseResult", "Report"]

KEPT, BROKEN = "kept", "broken"
REFUSED = "refused"
NOT_APPLICABLE, NOT_TRIED = "not applicable", "not tried"


@dataclass(frozen=True)
class ClauseResult:
    """What the checks of one clause found.

    Attributes:
        name: of the clause.
        state: "kept", "broken", "refused", "not applicable" or "not tried".
        decides: whether the verdict depends on it.
        reason: where it is broken, or why it was not tried.
        verdict: the simplest one that broke it.
    """

    name: str
    state: str
    decides: bool
    reason: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Report:
    """What all checks of one comparison found.

    Attributes:
        name, reference: of the subject and of what it was compared with.
        verdicts: one a check and tensor, the simplest checks first.
        contract: "formula", "torch" or "minifw".
        deciding: names of the clauses that the verdict depends on.
        untried: by clause, why none of its checks was made.
        testimonies: four estimates of each gradient.
        gradcheck: what :func:`torch.autograd.gradcheck` objects to; "" for nothing, None if it
            was not asked.
        notes: facts found on the way: how parameters were matched, a loss's convention.
        options: names of the reference's options that were not given, so not verified.
        dtypes: those that the subject was verified in.
        diagnosis: what kind of mistake the simplest failing check looks like.
        examples: how many examples were tried.
        command: the command line that the comparison is verified by.
        timing: what it costs, where that was asked for and the verdict is PASSED.
        table: the clauses there are; the first is the question that the headline answers.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    reference: str = ""
    contract: str = "minifw"
    deciding: frozenset[str] = frozenset(CLAUSES)
    untried: Mapping[str, str] = field(default_factory=dict)
    testimonies: tuple[Testimony, ...] = ()
    gradcheck: str | None = None
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    diagnosis: str = ""
    examples: int = 0
    command: str = field(default="", repr=False)
    timing: "Timing | None" = None
    table: Mapping[str, Clause] = field(default_factory=lambda: CLAUSES, repr=False)

    @property
    def status(self) -> Status:
        """ERROR or FAILED if a clause that decides is broken.

        MISTRUSTED if a tensor has no check that could have failed, else PASSED.
        """
        statuses = [verdict.status for verdict in self._summed_up(lambda verdict: "")]
        # The derivative has to be trusted by itself, and not for what other clauses tried; a row of
        # minifw's own may stand for a case without one, such as dropout of everything.
        statuses += [
            verdict.status
            for verdict in self._summed_up(lambda verdict: verdict.clause)
            if verdict.clause == "derivative" and self.contract != "minifw"
        ]
        statuses += [testimony.status for testimony in self.testimonies]
        statuses += [Status.FAILED] if self.gradcheck else []
        worst = overall(statuses)
        trusted = worst != Status.PASSED or Status.MISTRUSTED not in statuses
        return worst if trusted else Status.MISTRUSTED

    @property
    def failures(self) -> list[Verdict]:
        """The verdicts that are FAILED or ERROR and decide, the simplest first."""
        return [v for v in failures(self.verdicts) if v.clause in self.deciding]

    @functools.cached_property
    def clauses(self) -> tuple[ClauseResult, ...]:
        """A line a clause."""
        return tuple(self._clause(name) for name in self.table)

    def _clause(self, name: str) -> ClauseResult:
        decides = name in self.deciding
        verdicts = [verdict for verdict in self.verdicts if verdict.clause == name]
        wrong = failures(verdicts)
        if wrong:
            return ClauseResult(name, BROKEN, decides, str(wrong[0]), wrong[0])
        refusals = [v.reason for v in verdicts if v.reason.startswith(REFUSES)]
        if refusals:
            return ClauseResult(name, REFUSED, decides, refusals[0])
        if any(v.status in (Status.PASSED, Status.MISTRUSTED) for v in verdicts):
            return ClauseResult(name, KEPT, decides)
        if any(v.tensor for v in verdicts):  # such as an empty one, of the right shape
            return ClauseResult(name, KEPT, decides)
        if verdicts:
            reasons = dict.fromkeys(verdict.reason for verdict in verdicts)
            return ClauseResult(name, NOT_APPLICABLE, decides, "; ".join(reasons))
        # Every check looks for side effects.
        if name == "side-effects" and any(v.status == Status.PASSED for v in self.verdicts):
            return ClauseResult(name, KEPT, decides)
        return ClauseResult(name, NOT_TRIED, decides, self.untried.get(name, ""))

    def _summed_up(self, key: Callable[[Verdict], str]) -> list[Verdict]:
        """A verdict a tensor and key: the worst status, the worst evidence, and the best power."""
        groups: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            # What is not of any tensor says something only if it is bad.
            if verdict.clause in self.deciding and (
                verdict.tensor or verdict.status in (Status.FAILED, Status.ERROR)
            ):
                tensor = LABEL.sub(r"\2", verdict.tensor)
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
                "allowed": verdict.bound,
                "relative": verdict.relative,
                "ULP": verdict.ulp,
                "x PyTorch's": verdict.multiple,
                "of bound": verdict.share,
                "where": list(verdict.where),
                "power": verdict.power,
                "clause": verdict.clause,
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

    @property
    def not_verified(self) -> tuple[str, ...]:
        """What this report says nothing about, and why."""
        skipped = Counter(
            (v.clause, v.reason)
            for v in self.verdicts
            if v.status == Status.SKIPPED and not v.tensor
        )
        lines = [
            f"{clause}: {count} check{'s'[: count > 1]} skipped: {reason}"
            for (clause, reason), count in skipped.items()
        ]
        reasons = dict.fromkeys(self.untried.values())
        lines += [
            f"{', '.join(name for name in self.untried if self.untried[name] == reason)}: {reason}"
            for reason in reasons
        ]
        if self.options and "options" not in self.untried:
            lines.append(f"options of the reference: {', '.join(self.options)}")
        return tuple(lines)

    @property
    def headline(self) -> str:
        """The verdict in a line."""
        against = f" against {self.reference}" if self.reference else ""
        return f"{self.status} {self.name}{against}: {self._conclusion()}"

    def _conclusion(self) -> str:
        broken = [clause.name for clause in self.clauses if clause.state == BROKEN]
        decisive = [name for name in broken if name in self.deciding]
        others = [name for name in broken if name not in self.deciding]
        tried = f"{self.examples} example{'s'[: self.examples != 1]}, contract {self.contract}"
        question = next(iter(self.table))
        if question in decisive:
            raised = self.failures[0].status == Status.ERROR
            lost = self.failures[0].reason.startswith("LostProcess")
            error = "its process was lost" if lost else "it raises an error"
            wrong = error if raised else f"the {question} is wrong"
            return f"{wrong} ({tried})"
        if decisive:
            return f"broken: {', '.join(decisive)} ({tried})"
        if self.status == Status.MISTRUSTED:
            return f"checks that could not have failed ({tried})"
        if self.status != Status.PASSED:
            return f"the estimates of a gradient disagree ({tried})"
        refused = [clause.name for clause in self.clauses if clause.state == REFUSED]
        beside = f"; not kept: {', '.join(others)}" if others else ""
        beside += f"; refused: {', '.join(refused)}" if refused else ""
        return f"the {question} is right{beside} ({tried})"

    def lines(self) -> Iterable[str]:
        """The report in words: the verdict, what is wrong and the line that reproduces it."""
        yield self.headline
        simplest = self.failures[:1]
        for verdict in simplest:
            yield f"  {verdict}"
            if self.diagnosis:
                yield f"  {self.diagnosis}"
            if self.command:
                yield f"  to reproduce: {self.command} --example '{verdict.example}'"
        for clause in self.clauses:
            if clause.verdict and clause.verdict not in simplest:
                decides = "" if clause.decides else " (does not decide)"
                yield f"  {clause.name}{decides}: {clause.reason}"
                if self.command:
                    yield f"    {self.command} --example '{clause.verdict.example}'"
        if self.status == Status.MISTRUSTED:
            for verdict in self._summed_up(lambda verdict: ""):
                if verdict.status == Status.MISTRUSTED:
                    yield f"  {verdict}"
        for testimony in self.testimonies:
            if testimony.status != Status.PASSED:
                yield f"  {testimony}"
        if self.gradcheck:
            yield f"  torch.autograd.gradcheck: {self.gradcheck}"
        for note in self.notes:
            yield f"  note: {note}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON, which has no number that is not finite."""
        skipped = {(v.check, v.reason) for v in self.verdicts if v.status == Status.SKIPPED}
        return {
            "name": self.name,
            "reference": self.reference,
            "status": str(self.status),
            "conclusion": self._conclusion(),
            "contract": self.contract,
            "examples": self.examples,
            "diagnosis": self.diagnosis,
            "notes": list(self.notes),
            "clauses": [
                {
                    "clause": clause.name,
                    "state": clause.state,
                    "decides": clause.decides,
                    "reason": clause.reason,
                    "example": str(clause.verdict.example) if clause.verdict else None,
                }
                for clause in self.clauses
            ],
            "tensors": [_plain(row) for row in self.rows()],
            "cross_check": [_plain(testimony.as_dict()) for testimony in self.testimonies],
            "gradcheck": self.gradcheck,
            "timing": self.timing and [_plain(row) for row in self.timing.rows()],
            "failures": [
                _plain(
                    {
                        "tensor": v.tensor,
                        "clause": v.clause,
                        "decides": v.clause in self.deciding,
                        "check": v.check,
                        "status": str(v.status),
                        "reason": v.reason,
                        "where": list(v.where),
                        "actual": v.actual,
                        "expected": v.expected,
                        "example": str(v.example),
                    }
                )
                for v in failures(self.verdicts)
            ],
            "not_verified": list(self.not_verified),
            "skipped": [{"check": check, "reason": reason} for check, reason in sorted(skipped)],
        }


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(name): str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
