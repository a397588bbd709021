"""What the statistics of accuracy come to, for people: a table, and sentences."""

from typing import Any

import numpy as np
import pandas as pd

from bench.accuracy.statistics import FEWEST, FRAMEWORKS, POWER, seeds_needed

__all__ = ["readable_accuracy", "readable_interval", "readable_range", "verdict_sentences"]


def readable_interval(row: "pd.Series[Any]", form: str, prefix: str = "", scale: float = 1) -> str:
    """The mean of a row with its interval in brackets; "" for what is not there.

    Args:
        row: has mean, low and high, each after ``prefix``.
        form: in which each is written, times ``scale``.
    """
    mean, low, high = (scale * float(row[prefix + name]) for name in ("mean", "low", "high"))
    if np.isnan(mean):
        return ""
    return f"{mean:{form}}" + ("" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def readable_accuracy(table: pd.DataFrame) -> pd.DataFrame:
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
                "minifw %": readable_interval(row, ".1f", "minifw_", 100),
                "IQM %": number(100 * row["minifw_iqm"], ".1f"),
                "PyTorch %": readable_interval(row, ".1f", "pytorch_", 100),
                "IQM % ": number(100 * row["pytorch_iqm"], ".1f"),
                "report %": report(row),
                "difference, points": readable_interval(row, "+.2f", "difference_"),
                "IQM": number(row["difference_iqm"], "+.2f"),
                "TOST p": number(row["difference_tost_p"], ".3f"),
                "power": number(row["difference_tost_power"], ".2f"),
                "verdict": row["difference_verdict"],
                "other seeds, points": readable_interval(row, "+.2f", "control_"),
            }
            for _, row in table.iterrows()
        ]
    )


def readable_range(numbers: "pd.Series[int]") -> str:
    """The smallest and the largest, or the only one."""
    smallest, largest = numbers.min(), numbers.max()
    return f"{smallest}" if smallest == largest else f"{smallest} to {largest}"


def verdict_sentences(table: pd.DataFrame) -> list[str]:
    """The table of :func:`~bench.accuracy.statistics.accuracy_statistics` in sentences."""
    if not table["difference_seeds"].any():
        return ["Accuracy: no seed was run on both frameworks: nothing is compared."]
    margin = f"{table['margin'].iloc[0]:g}"
    numbers = readable_range(table["difference_seeds"])
    how = f"margin {margin} points, two one-sided t-tests at 5 %, {numbers} seeds"
    kinds = table["difference_verdict"]
    equivalent = table[kinds == "equivalent"]
    sentences = []
    if len(equivalent) == len(table):
        weakest = table.iloc[table["difference_tost_power"].argmin()]
        sentences.append(
            f"Accuracy: equivalent in all {table['recipe'].nunique()} recipes, in training and in "
            f"testing ({how}; power at least {weakest['difference_tost_power']:.2f}, "
            f"{_name(weakest)})."
        )
    else:
        sentences.append(f"Accuracy: {len(equivalent)} of {len(table)} equivalent ({how}).")
        too_few = bool(table["difference_std"].isna().all())
        if too_few:
            sentences.append(f"Inconclusive: for a verdict at least {FEWEST} seeds are needed.")
        for kind in () if too_few else ("different", "inconclusive"):
            named = [_described(row) for _, row in table[kinds == kind].iterrows()]
            if named:
                sentences.append(f"{kind.capitalize()}: {'; '.join(named)}.")
    largest = table.iloc[table["difference_mean"].abs().argmax()]
    sentence = (
        f"The largest mean difference is {abs(largest['difference_mean']):.2f} points "
        f"({_name(largest)})"
    )
    if table["control_mean"].notna().any():
        control = table.iloc[table["control_mean"].abs().argmax()]
        sentence += (
            f"; PyTorch against itself with other seeds, {control['control_seeds']} pairs, comes "
            f"to {abs(control['control_mean']):.2f} ({_name(control)})"
        )
    sentences.append(sentence + ".")
    figures = table.melt(
        ["recipe", "part"], [f"{name}_report_vs_prediction" for name in FRAMEWORKS]
    ).query("value != ''")
    if len(figures):
        outside = figures[figures["value"] == "outside"]
        sentences.append(
            f"{len(figures) - len(outside)} of {len(figures)} figures of the reports lie where "
            "further runs of ours would fall 95 times in 100"
            + "".join(f"; outside: {_name(row)}" for _, row in outside.iterrows())
            + "."
        )
    return sentences


def _name(row: "pd.Series[Any]") -> str:
    return f"{row['recipe']}, {row['part']}"


def _described(row: "pd.Series[Any]") -> str:
    """A recipe and part that is not equivalent, and what would settle it."""
    text = f"{_name(row)}, {readable_interval(row, '+.2f', 'difference_')} points"
    if row["difference_verdict"] == "different":
        return text
    if pd.isna(row["difference_std"]):
        return f"{text}, at least {FEWEST} seeds are needed"
    needed = seeds_needed(row["difference_std"], row["margin"])
    return f"{text}, power {row['difference_tost_power']:.2f}; --seeds {needed} for {POWER:g}"
