"""Estimates with their intervals, in the form that seaborn draws: as samples."""

from typing import Any

import pandas as pd

__all__ = ["OF_SAMPLES", "as_samples"]

# How seaborn finds the estimate and its interval in the samples again.
OF_SAMPLES: dict[str, Any] = {"estimator": "median", "errorbar": ("pi", 100)}


def as_samples(table: pd.DataFrame, low: str, middle: str, high: str) -> pd.DataFrame:
    """Repeat each row for the ends of its interval and for its estimate, in a column ``sample``.

    seaborn draws intervals only of samples. Of these three the median is the estimate, and the
    interval that contains all of them is the one in the table.

    Args:
        table: a row an estimate.
        low, middle, high: the columns of the interval's ends and of the estimate between them.
    """
    samples = [table.assign(sample=table[column]) for column in (low, middle, high)]
    return pd.concat(samples, ignore_index=True)
