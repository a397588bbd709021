"""Fuzzing: hypothesis looks for an example in which the subject fails, and shrinks it."""

import contextlib
import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from minifw.testing.case import Case
from minifw.testing.check import check
from minifw.testing.clause import CLAUSES, clause_of
from minifw.testing.comparison import Comparison
from minifw.testing.example import LAYOUTS, Example, ordinary
from minifw.testing.passes import PASSES
from minifw.testing.verdict import Status, Verdict, failures, nearer

__all__ = ["LARGEST_SIZE", "examples", "fuzz"]

LARGEST_SIZE = 6
SCALES = (1.0, 0.001, 10.0, 1000.0)


def _sizes(value: Any) -> set[int]:
    """The whole numbers from 2 up among a constructor's arguments."""
    if isinstance(value, Case):
        return _sizes(value.arguments)
    if isinstance(value, (tuple, list)):
        return set().union(*map(_sizes, value)) if value else set()
    return {value} if isinstance(value, int) and value > 1 else set()


def examples(
    comparison: Comparison, dtypes: tuple[str, ...], clauses: Collection[str]
) -> st.SearchStrategy[Example]:
    """Examples for a comparison, ordinary but for what the ``clauses`` allow."""
    # Arguments that both sides do not share cannot be given other values on both alike.
    shared = not comparison.one_sided or (
        comparison.reference_arguments is None and isinstance(comparison.reference, type)
    )
    sizes = sorted(
        _sizes([spec.shape for spec in comparison.inputs])
        | _sizes(comparison.arguments)
        | {spec.classes for spec in comparison.inputs if spec.classes}
    )

    def some(clause: str, ordinary: list[Any], more: list[Any]) -> st.SearchStrategy[Any]:
        return st.sampled_from(ordinary + more * (clause in clauses))

    steps = [name for name in PASSES if clause_of(Example(steps=name), "float64") in clauses]
    return st.builds(
        Example,
        steps=st.sampled_from(steps),
        dtype=some("precision", [comparison.base], [d for d in dtypes if d != comparison.base]),
        layout=some("layouts", ["contiguous"], [name for name in LAYOUTS if name != "contiguous"]),
        special=st.sampled_from(
            ["", ""]
            + ["ties"] * ("kinks" in clauses)
            + ["signed zeros"] * ("special-values" in clauses)
        ),
        parameters=st.sampled_from(["random", "initial"]),
        batch=st.none() | st.integers(0 if "empty" in clauses else 1, LARGEST_SIZE),
        scale=some("precision", [1.0], list(SCALES[1:])),
        sizes=st.fixed_dictionaries(
            {size: st.integers(1, LARGEST_SIZE) for size in sizes if shared}
        ),
        shrink=st.sampled_from([1.0, 0.7] if shared else [1.0]),
        seed=st.integers(0, 2**31),
    ).map(ordinary if comparison.one_sided else lambda example: example)


class _Found(Exception):  # noqa: N818 -- a finding, not an error of the harness
    """An example in which the subject fails."""


def fuzz(
    comparison: Comparison,
    dtypes: tuple[str, ...],
    max_examples: int,
    random_seed: int,
    clauses: Collection[str] = tuple(CLAUSES),
    on_example: Callable[[], None] = lambda: None,
    shrink: bool = True,
    judge: Callable[[Comparison, Example, str], list[Verdict]] = check,
    seconds: float = math.inf,
) -> list[Verdict]:
    """Try ``max_examples`` examples, and shrink the first that fails if asked to.

    Args:
        comparison: what to compare with what.
        dtypes: to draw from.
        max_examples: how many to try.
        random_seed: of hypothesis.
        clauses: whose examples to draw; a failure counts if it is of one of them.
        on_example: called after each.
        shrink: whether to look for the smallest failing example.
        judge: makes one check of an example.
        seconds: after which no more are tried, unless one has failed.

    Returns:
        By tensor, dtype and status the verdict that is nearest to failing; and all failures of the
        smallest failing example; SKIPPED if some were left out.
    """
    nearest: dict[tuple[str, str, Status], Verdict] = {}
    smallest: list[Verdict] = []
    deadline, left_out = time.monotonic() + seconds, 0

    @seed(random_seed)
    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(comparison, dtypes, clauses))
    def try_one(example: Example) -> None:
        nonlocal smallest, left_out
        if not smallest and time.monotonic() > deadline:
            left_out += 1
            return
        found = judge(comparison, example, "fuzzing")
        on_example()
        wrong = [verdict for verdict in failures(found) if verdict.clause in clauses]
        if wrong:
            smallest = wrong
            raise _Found
        for verdict in found:
            key = verdict.tensor, example.dtype, verdict.status
            nearest[key] = nearer(nearest.get(key, verdict), verdict)

    with contextlib.suppress(_Found):
        try:
            try_one()
        except Flaky:  # it fails, and the next time it does not
            smallest = [
                replace(v, clause="determinism", reason=f"{v.reason}; not every time")
                for v in smallest
            ]
    if left_out:
        reason = f"{left_out} of {max_examples} fuzzed examples took too long"
        smallest.append(Verdict("", Status.SKIPPED, reason, "fuzzing", "derivative"))
    return [*nearest.values(), *smallest]
