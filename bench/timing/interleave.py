"""Interleaved timing: trials of all sides in one process, their ratios and intervals.

Noise comes in waves, and speed depends on where objects lie in memory. So every round draws the
order of its trials, and every trial builds what it times anew. Two sides of the same code are then
equally likely to be the faster one in a round, independently of other rounds: the only assumption
of the sign test, whose interval is shown.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
import torch

__all__ = [
    "COMPARED",
    "compare_sides",
    "format_ratio",
    "format_times",
    "in_fresh_process",
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


def in_fresh_process(threads: int, function: Callable[..., T], *arguments: object) -> T:
    """Call ``function`` in a new process that is bound to ``threads`` cores.

    Libraries start as many threads as their process has cores, whatever their own setting is
    called.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-threads:])
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        os.sched_setaffinity(0, before)


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


SIDES = ("minifw", "pytorch")
_TIME = ("", "_q1", "_q3")
_INTERVAL = ("", "_low", "_high")
# The columns that compare_sides fills.
COMPARED = [
    "rounds",
    *(side + suffix for side in SIDES for suffix in _TIME),
    *(name + suffix for name in ("ratio", "noise") for suffix in _INTERVAL),
    "claim",
]


def compare_sides(seconds: pd.DataFrame) -> dict[str, Any]:
    """Summarize the rounds in which both frameworks were timed.

    Args:
        seconds: a row a round; columns "minifw" and "pytorch", and each :func:`repeat_name`.

    Returns:
        "rounds"; median and quartiles of each side; "ratio", the speed-up over PyTorch (PyTorch's
        time / minifw's) within a round, with its 95 % interval; "noise", the noise floor: the same
        of a framework timed against itself, for the framework whose interval extends farther from
        1; and "claim": "minifw faster" or "PyTorch faster" if the interval of the ratio lies beyond
        1 and beyond the noise floor's; otherwise, or with fewer than FEWEST_ROUNDS rounds, "no
        difference shown".
    """
    ratio = median_interval((seconds["pytorch"] / seconds["minifw"]).to_numpy())
    noise = max(
        (
            median_interval((seconds[repeat_name(side)] / seconds[side]).to_numpy())
            for side in SIDES
        ),
        key=lambda interval: np.abs(np.log(interval)).max(),
    )
    claim = "no difference shown"
    if len(seconds) >= FEWEST_ROUNDS:
        if ratio[1] > max(1, noise[2]):
            claim = "minifw faster"
        elif ratio[2] < min(1, noise[1]):
            claim = "PyTorch faster"
    times = (seconds[side].quantile([0.5, 0.25, 0.75]) for side in SIDES)
    values = [len(seconds), *(time for side in times for time in side), *ratio, *noise, claim]
    return dict(zip(COMPARED, values, strict=True))


def format_times(row: "pd.Series[Any]", side: str) -> str:
    """Median and quartiles of a side in a row of COMPARED: "64.2 µs (63.8-66.1)"."""
    if pd.isna(row[side]):
        return ""
    unit, size = ("ms", 1e-3) if row[side] >= 1e-3 else ("µs", 1e-6)
    digits = int(np.clip(2 - np.floor(np.log10(row[side] / size)), 0, 2))
    median, q1, q3 = (f"{row[side + suffix] / size:,.{digits}f}" for suffix in _TIME)
    return f"{median} {unit} ({q1}-{q3})"


def format_ratio(row: "pd.Series[Any]", name: str) -> str:
    """A value and its interval in a row of COMPARED: "ratio" or "noise"."""
    if pd.isna(row[name]):
        return ""
    median, low, high = (f"{row[name + suffix]:.2f}" for suffix in _INTERVAL)
    return f"{median} [{low}, {high}]"
