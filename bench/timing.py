"""Timing: whatever is compared in turn, in one process, so that it meets the same noise."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch

from bench.sweep import Settings
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import Run, prepare

__all__ = ["in_fresh_process", "interleave", "median_interval", "time_epochs"]

T = TypeVar("T")


def interleave(calls: Mapping[str, Callable[[], T]], rounds: int) -> list[dict[str, T]]:
    """Make every call once a round, in an order that turns from round to round."""
    names = list(calls)
    return [
        {name: calls[name]() for name in (names[::-1] if index % 2 else names)}
        for index in range(rounds)
    ]


def _seconds_of_epoch(run: Run) -> float:
    seconds: float = run.fit(epochs=1, measure=False)[0]["seconds"]
    return seconds


def time_epochs(
    recipe: str, frameworks: list[str], rounds: int, settings: Settings
) -> list[dict[str, float]]:
    """Return, a round, the seconds that an epoch of training takes on each framework.

    One epoch each goes before, uncounted. Measuring accuracy is not part of the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        runs = {
            name: prepare(
                RECIPES[recipe],
                FRAMEWORKS[name],
                seed=0,
                dtype=settings.torch_dtype(),
                device=settings.device,
            )
            for name in frameworks
        }
        for run in runs.values():
            _seconds_of_epoch(run)
        return interleave(
            {name: partial(_seconds_of_epoch, run) for name, run in runs.items()}, rounds
        )
    finally:
        torch.set_num_threads(before)


def in_fresh_process(threads: int, function: Callable[..., T], *arguments: object) -> T:
    """Call ``function`` in a new process that is bound to as many cores.

    A library that starts threads looks at the cores which its process may use: so all of them have
    as many, whatever each calls its setting.
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
    """Return the median, and its 95 % interval by the bootstrap; one value alone has none."""
    if len(values) == 1:
        return float(values[0]), math.nan, math.nan
    interval = scipy.stats.bootstrap(
        (values,), np.median, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(np.median(values)), float(interval.low), float(interval.high)
