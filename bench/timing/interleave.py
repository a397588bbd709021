"""Timing of both frameworks: which columns there are, and processes bound to some cores."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from minifw.testing.timing.rounds import compared

__all__ = ["COMPARED", "SIDES", "format_ratio", "format_times", "in_fresh_process"]

T = TypeVar("T")

SIDES = {"minifw": "minifw", "pytorch": "PyTorch"}
COMPARED = compared(SIDES)


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


def format_times(row: "pd.Series[Any]", side: str) -> str:
    """Median and quartiles of a side in a row of COMPARED: "64.2 µs (63.8-66.1)"."""
    if pd.isna(row[side]):
        return ""
    unit, size = ("ms", 1e-3) if row[side] >= 1e-3 else ("µs", 1e-6)
    digits = int(np.clip(2 - np.floor(np.log10(row[side] / size)), 0, 2))
    median, q1, q3 = (f"{row[side + suffix] / size:,.{digits}f}" for suffix in ("", "_q1", "_q3"))
    return f"{median} {unit} ({q1}-{q3})"


def format_ratio(row: "pd.Series[Any]", name: str) -> str:
    """A value and its interval in a row of COMPARED: "ratio" or "noise"."""
    if pd.isna(row[name]):
        return ""
    median, low, high = (f"{row[name + suffix]:.2f}" for suffix in ("", "_low", "_high"))
    return f"{median} [{low}, {high}]"
