"""Fuzzing: hypothesis looks for an example in which the subject fails, and shrinks it."""

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from minifw.testing.case import Case
from minifw.testing.check import check
from minifw.testing.comparison import Comparison
from minifw.testing.example import LAYOUTS, Example
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


def examples(comparison: Comparison, dtypes: tuple[str, ...]) -> st.SearchStrategy[Example]:
    """Examples for a comparison: sizes, values, dtypes, strides, constructor arguments, calls."""
    sizes = sorted(
        _sizes([spec.shape for spec in comparison.inputs])
        | _sizes(comparison.arguments)
        | {spec.classes for spec in comparison.inputs if spec.classes}
    )
    return st.builds(
        Example,
        steps=st.sampled_from(list(PASSES)),
        dtype=st.sampled_from(dtypes),
        layout=st.sampled_from(list(LAYOUTS)),
        special=st.sampled_from(["", "", "ties", "signed zeros"]),
        parameters=st.sampled_from(["random", "initial"]),
        batch=st.none() | st.integers(0, LARGEST_SIZE),
        scale=st.sampled_from(SCALES),
        sizes=st.fixed_dictionaries({size: st.integers(1, LARGEST_SIZE) for size in sizes}),
        shrink=st.sampled_from([1.0, 0.7]),
        seed=st.integers(0, 2**31),
    )


class _Found(Exception):  # noqa: N818 -- a finding, not an error of the harness
    """An example in which the subject fails."""


def fuzz(
    comparison: Comparison,
    dtypes: tuple[str, ...],
    max_examples: int,
    random_seed: int,
    on_example: Callable[[], None] = lambda: None,
    shrink: bool = True,
) -> list[Verdict]:
    """Try ``max_examples`` examples, and shrink the first that fails if asked to.

    Returns:
        By tensor, dtype and status the verdict that is nearest to failing; and all failures of the
        smallest failing example.
    """
    nearest: dict[tuple[str, str, Status], Verdict] = {}
    smallest: list[Verdict] = []

    @seed(random_seed)
    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(comparison, dtypes))
    def try_one(example: Example) -> None:
        nonlocal smallest
        found = check(comparison, example, "fuzzing")
        on_example()
        if failures(found):
            smallest = failures(found)
            raise _Found
        for verdict in found:
            key = verdict.tensor, example.dtype, verdict.status
            nearest[key] = nearer(nearest.get(key, verdict), verdict)

    with contextlib.suppress(_Found):
        try_one()
    return [*nearest.values(), *smallest]
