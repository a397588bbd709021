"""Rounds of trials at each size, their summary, and the verdict on the tensors that were timed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from minifw.testing.check import check
from minifw.testing.comparison import Comparison, Drawn, draw
from minifw.testing.example import DTYPES, Example
from minifw.testing.isolation import Answer
from minifw.testing.passes import Pass
from minifw.testing.subjects import Subject
from minifw.testing.timing.plan import TimingPlan
from minifw.testing.timing.rounds import (
    compare_sides,
    interleave,
    repeat_name,
    threads,
    with_repeats,
)
from minifw.testing.timing.trial import MAKERS, PARTS, clock_of, memory_of, run_trial
from minifw.testing.verdict import Verdict, failures

__all__ = ["Timing", "time_comparison"]

BESIDE = {"reference": "eager", "compiled": "compiled"}


@dataclass(frozen=True)
class Timing:
    """What a subject costs beside its reference.

    Attributes:
        table: a row a size, a part ("forward", "backward", "both") and what it is compared with
            ("eager" or "compiled"): the columns of
            :func:`~minifw.testing.timing.rounds.compare_sides`, in seconds, and the peak bytes
            "subject_bytes" and "reference_bytes" that it allocates.
        dtype, device, threads: that it was timed with.
        wrong: verdicts on the last timed step of each size that are not PASSED.
    """

    table: pd.DataFrame
    dtype: str
    device: str
    threads: int
    wrong: tuple[Verdict, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The table, a dict a row."""
        return [
            {str(name): value for name, value in row.items()}
            for row in self.table.to_dict("records")
        ]

    def slower_than(self, speed_up: float) -> list[str]:
        """Where a whole step is slower than ``speed_up`` times the reference's, in words."""
        both = self.table[(self.table["part"] == "both") & (self.table["ratio_high"] < speed_up)]
        return [
            f"{row.size}: {row.ratio:.2f} times as fast as {row.beside} PyTorch"
            for row in both.itertuples()
        ]

    @property
    def conditions(self) -> str:
        """What it was measured with, in a line."""
        rounds = int(self.table["rounds"].min())
        verified = "; ".join(map(str, self.wrong[:1])) or "verified on the tensors that were timed"
        return (
            f"{self.dtype} on {self.device}, {self.threads} thread{'s'[: self.threads != 1]}, "
            f"{rounds} rounds in random order, 95 % intervals; {verified}"
        )


def _here(function: Callable[..., Answer], *arguments: Any) -> Answer:
    return function(*arguments)


def time_comparison(
    comparison: Comparison,
    plan: TimingPlan,
    dtype: str = "float32",
    call: Callable[..., Answer] = _here,
) -> Timing:
    """Time a subject that has passed, and its reference, at each size.

    Every round draws parameters and inputs anew, makes both sides anew, each of them twice, and
    times them in random order in the process of the subject. The last step that was timed of each
    size is then judged as any check is.

    Args:
        comparison: that has passed.
        plan: what to time.
        dtype: to compute in.
        call: calls a function where the subject is: :meth:`~minifw.testing.isolation.Runner.call`.
    """
    sides = ("subject", "reference", *(["compiled"] if plan.compiled else []))
    rows: list[dict[str, Any]] = []
    wrong: list[Verdict] = []
    for label, size in plan.sizes(comparison).items():
        example = replace(size, dtype=dtype)
        seconds: list[Any] = []
        named: dict[str, Tensor] = {}
        for number in range(plan.rounds):
            # Other numbers in each round: a subject that remembers results gains nothing.
            example = replace(example, seed=number + 1)
            named, facts = call(_round, comparison, example, sides, plan.threads)
            seconds.append(facts["seconds"])
        _, bytes_of = call(_memory, comparison, example, sides)
        for reference in sides[1:]:
            rows += _summary(label, reference, seconds, bytes_of)
        wrong += _judged(comparison, example, named)
    return Timing(pd.DataFrame(rows), dtype, comparison.device, plan.threads, tuple(wrong))


def _round(
    comparison: Comparison, example: Example, sides: Sequence[str], number_of_threads: int
) -> Answer:
    """One round in random order; the tensors are the subject's."""
    drawn = draw(comparison, example)
    others = draw(comparison, replace(example, seed=-example.seed))
    clock = clock_of(comparison.device)

    def trial(side: str) -> Callable[[], Any]:
        return lambda: run_trial(MAKERS[side](drawn, DTYPES[example.dtype]), drawn, others, clock)

    with threads(number_of_threads):
        [trials] = interleave(with_repeats({side: trial(side) for side in sides}), 1)
    return trials["subject"].named, {
        "seconds": {side: measured.seconds for side, measured in trials.items()}
    }


def _memory(comparison: Comparison, example: Example, sides: Sequence[str]) -> Answer:
    drawn = draw(comparison, example)
    dtype = DTYPES[example.dtype]
    return {}, {side: memory_of(MAKERS[side](drawn, dtype), drawn) for side in sides}


def _summary(
    label: str, reference: str, seconds: Sequence[Any], bytes_of: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row a part."""
    columns = {
        **{side: side for side in ("subject", repeat_name("subject"))},
        **{"reference": reference, repeat_name("reference"): repeat_name(reference)},
    }
    for part in PARTS:
        frame = pd.DataFrame(
            {name: [row[side][part] for row in seconds] for name, side in columns.items()}
        )
        yield {
            "size": label,
            "part": part,
            "beside": BESIDE[reference],
            **compare_sides(frame, {"subject": "subject", "reference": "reference"}),
            "subject_bytes": bytes_of["subject"][part],
            "reference_bytes": bytes_of[reference][part],
        }


class _Timed(Subject):
    """What a timed step made, in place of the subject that made it."""

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        super().__init__(None)
        self.named = dict(named)
        self.remote = self._hand_over

    def _hand_over(self, run: Pass, _: Any) -> None:
        run.named = self.named


def _judged(comparison: Comparison, example: Example, named: Mapping[str, Tensor]) -> list[Verdict]:
    """Verdicts on the tensors of a timed step that are not PASSED."""

    def made(drawn: Drawn, dtype: torch.dtype) -> Subject:
        if dtype == DTYPES[example.dtype]:
            return _Timed(named)
        return replace(drawn, comparison=comparison).subject(dtype)

    verdicts = check(replace(comparison, isolated=made), example, "timed", "derivative")
    return [verdict for verdict in failures(verdicts) if verdict.tensor in named]
