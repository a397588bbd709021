"""Interleaved timing: trials of all sides in one process, their ratios and intervals.

Noise comes in waves, and speed depends on where objects lie in memory. So every round draws the
order of its trials, and every trial builds what it times anew. Two sides of the same code are then
equally likely to be the faster one in a round, independently of other rounds: the only assumption
of the sign test, whose interval is shown.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
import torch

__all__ = [
    "FEWEST_ROUNDS",
    "compare_sides",
    "compared",
    "interleave",
    "median_interval",
    "repeat_name",
    "threads",
    "with_repeats",
]

T = TypeVar("T")

# With fewer the sign test has no 95 % interval: n values lie on one side with probability 2^-(n-1).
FEWEST_ROUNDS = 6


def repeat_name(name: str) -> str:
    """The name of a side's repeat: the same code, so that any difference is noise."""
    return f"{name} again"


def with_repeats(calls: Mapping[str, T]) -> dict[str, T]:
    """Every call under its name and again under that which :func:`repeat_name` gives it."""
    return {side: call for name, call in calls.items() for side in (name, repeat_name(name))}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Context in which torch uses ``number`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleave(calls: Mapping[str, Callable[[], T]], rounds: int) -> list[dict[str, T]]:
    """Make every call once a round, in an order drawn anew for each round."""
    results = []
    for _ in range(rounds):
        made = {name: calls[name]() for name in random.sample(list(calls), len(calls))}
        results.append({name: made[name] for name in calls})
    return results


def median_interval(
    values: Sequence[float] | npt.NDArray[np.float64],
) -> tuple[float, float, float]:
    """Return the median, and its 95 % interval by the sign test.

    The test assumes nothing about the distribution. Fewer than FEWEST_ROUNDS values have no such
    interval; the smallest and the largest value stand in its place.
    """
    low, high = np.min(values), np.max(values)
    if len(values) >= FEWEST_ROUNDS:
        low, high = scipy.stats.quantile_test(values).confidence_interval(0.95)
    return float(np.median(values)), float(low), float(high)


_TIME = ("", "_q1", "_q3")
_INTERVAL = ("", "_low", "_high")


def compared(sides: Iterable[str]) -> list[str]:
    """The columns that :func:`compare_sides` fills."""
    sides = tuple(sides)
    return [
        "rounds",
        *(side + suffix for side in sides for suffix in _TIME),
        *(name + suffix for name in ("ratio", "noise") for suffix in _INTERVAL),
        "claim",
    ]


def compare_sides(seconds: pd.DataFrame, sides: Mapping[str, str]) -> dict[str, Any]:
    """Summarize the rounds in which two sides were timed.

    Args:
        seconds: a row a round; a column a side, and each :func:`repeat_name`.
        sides: what is timed and what it is compared with: columns, with their names in the claim.

    Returns:
        "rounds"; median and quartiles of each side; "ratio", the speed-up of the first side over
        the second (the second's time / the first's) within a round, with its 95 % interval;
        "noise", the noise floor: the same of a side timed against itself, for the side whose
        interval extends farther from 1; and "claim": "(name of a side) faster" if the interval of
        the ratio lies beyond 1 and beyond the noise floor's; otherwise, or with fewer than
        FEWEST_ROUNDS rounds, "no difference shown".
    """
    first, second = sides
    ratio = median_interval((seconds[second] / seconds[first]).to_numpy())
    noise = max(
        (
            median_interval((seconds[repeat_name(side)] / seconds[side]).to_numpy())
            for side in sides
        ),
        key=lambda interval: np.abs(np.log(interval)).max(),
    )
    claim = "no difference shown"
    if len(seconds) >= FEWEST_ROUNDS:
        if ratio[1] > max(1, noise[2]):
            claim = f"{sides[first]} faster"
        elif ratio[2] < min(1, noise[1]):
            claim = f"{sides[second]} faster"
    times = (seconds[side].quantile([0.5, 0.25, 0.75]) for side in sides)
    values = [len(seconds), *(time for side in times for time in side), *ratio, *noise, claim]
    return dict(zip(compared(sides), values, strict=True))
