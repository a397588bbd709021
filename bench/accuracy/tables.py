"""Human-readable tables and sentences of the statistics of accuracy."""

from typing import Any

import numpy as np
import pandas as pd

from bench.accuracy.statistics import FEWEST_SEEDS, FRAMEWORKS, POWER, seeds_needed

__all__ = ["format_accuracy", "format_interval", "format_range", "verdict_sentences"]


def format_interval(row: "pd.Series[Any]", form: str, prefix: str = "", scale: float = 1) -> str:
    """The mean of a row with its interval in brackets; "" if there is none.

    Args:
        row: has the columns mean, low and high, each with ``prefix``.
        form: the format of each number.
        prefix: of the column names.
        scale: factor of each number.
    """
    mean, low, high = (scale * float(row[prefix + name]) for name in ("mean", "low", "high"))
    if np.isnan(mean):
        return ""
    return f"{mean:{form}}" + ("" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def format_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """The table of :func:`~bench.accuracy.statistics.accuracy_statistics` in percent."""

    def number(value: float, form: str) -> str:
        return "" if pd.isna(value) else f"{value:{form}}"

    def report(row: "pd.Series[Any]") -> str:
        return "; ".join(
            f"{100 * row[f'{framework}_report']:.1f} {row[f'{framework}_report_vs_prediction']}"
            for framework in FRAMEWORKS
            if not pd.isna(row[f"{framework}_report"])
        )

    return pd.DataFrame(
        [
            {
                "recipe": row["recipe"],
                "part": row["part"],
                "seeds": row["difference_seeds"],
                "minifw %": format_interval(row, ".1f", "minifw_", 100),
                "IQM %": number(100 * row["minifw_iqm"], ".1f"),
                "PyTorch %": format_interval(row, ".1f", "pytorch_", 100),
                "IQM % ": number(100 * row["pytorch_iqm"], ".1f"),
                "report %": report(row),
                "difference, percentage points": format_interval(row, "+.2f", "difference_"),
                "IQM": number(row["difference_iqm"], "+.2f"),
                "TOST p": number(row["difference_tost_p"], ".3f"),
                "power": number(row["difference_tost_power"], ".2f"),
                "verdict": row["difference_verdict"],
                "other seeds, percentage points": format_interval(row, "+.2f", "control_"),
            }
            for _, row in table.iterrows()
        ]
    )


def format_range(numbers: "pd.Series[int]") -> str:
    """The smallest and the largest number: "20 to 60"; or the only one."""
    smallest, largest = numbers.min(), numbers.max()
    return f"{smallest}" if smallest == largest else f"{smallest} to {largest}"


def verdict_sentences(table: pd.DataFrame) -> list[str]:
    """The table of :func:`~bench.accuracy.statistics.accuracy_statistics` in sentences."""
    if not table["difference_seeds"].any():
        return ["Accuracy: nothing is compared, because no seed was run on both frameworks."]
    margin = f"{table['margin'].iloc[0]:g}"
    numbers = format_range(table["difference_seeds"])
    how = f"margin {margin} percentage points, two one-sided t-tests at 5 %, {numbers} seeds"
    kinds = table["difference_verdict"]
    equivalent = table[kinds == "equivalent"]
    sentences = []
    if len(equivalent) == len(table):
        weakest = table.iloc[table["difference_tost_power"].argmin()]
        sentences.append(
            f"Accuracy: equivalent in all {table['recipe'].nunique()} recipes, in training and in "
            f"testing ({how}). The smallest power is {weakest['difference_tost_power']:.2f} "
            f"({_name(weakest)})."
        )
    else:
        sentences.append(f"Accuracy: {len(equivalent)} of {len(table)} equivalent ({how}).")
        too_few = bool(table["difference_std"].isna().all())
        if too_few:
            sentences.append(f"Inconclusive: a verdict needs at least {FEWEST_SEEDS} seeds.")
        for kind in () if too_few else ("different", "inconclusive"):
            named = [_described(row) for _, row in table[kinds == kind].iterrows()]
            if named:
                sentences.append(f"{kind.capitalize()}: {'; '.join(named)}.")
    largest = table.iloc[table["difference_mean"].abs().argmax()]
    sentence = (
        f"The largest mean difference is {abs(largest['difference_mean']):.2f} "
        "percentage points "
        f"({_name(largest)})"
    )
    if table["control_mean"].notna().any():
        control = table.iloc[table["control_mean"].abs().argmax()]
        sentence += (
            f". PyTorch compared with itself on other seeds differs by up to "
            f"{abs(control['control_mean']):.2f} ({_name(control)}, {control['control_seeds']} "
            "pairs)"
        )
    sentences.append(sentence + ".")
    figures = table.melt(
        ["recipe", "part"], [f"{name}_report_vs_prediction" for name in FRAMEWORKS]
    ).query("value != ''")
    if len(figures):
        outside = figures[figures["value"] == "outside"]
        sentences.append(
            f"{len(figures) - len(outside)} of {len(figures)} figures of the reports lie in our 95 "
            "% prediction interval"
            + "".join(f"; outside: {_name(row)}" for _, row in outside.iterrows())
            + "."
        )
    return sentences


# By the name of the column, as sentences name it.
_ACCURACIES = {"train": "training accuracy", "test": "test accuracy"}


def _name(row: "pd.Series[Any]") -> str:
    return f"{row['recipe']}, {_ACCURACIES[row['part']]}"


def _described(row: "pd.Series[Any]") -> str:
    """A recipe and part that is not equivalent, and the number of seeds that would decide."""
    text = f"{_name(row)}, {format_interval(row, '+.2f', 'difference_')} percentage points"
    if row["difference_verdict"] == "different":
        return text
    if pd.isna(row["difference_std"]):
        return f"{text}, needs at least {FEWEST_SEEDS} seeds"
    needed = seeds_needed(row["difference_std"], row["margin"])
    return (
        f"{text}, power {row['difference_tost_power']:.2f} (--seeds {needed} would give {POWER:g})"
    )
