"""Tables: from runs and timings to the one table that the comparison prints."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.sweep import Finished
from bench.timing import median_interval
from reference.recipes import RECIPES

_MEASURES = ["loss", "train_accuracy", "validation_accuracy"]

__all__ = [
    "average_curves",
    "curves",
    "final_accuracies",
    "readable",
    "summarise",
    "test_accuracy_differences",
]


def curves(finished: Iterable[Finished]) -> pd.DataFrame:
    """One row an epoch of every run: recipe, framework, seed, epoch, loss and accuracies."""
    frames = [run.history.assign(**vars(run.task)) for run in finished]
    columns = ["recipe", "framework", "seed", "epoch", *_MEASURES]
    return pd.concat(frames, ignore_index=True)[columns].astype({"epoch": int})


def final_accuracies(finished: Iterable[Finished]) -> pd.DataFrame:
    """One row a run: recipe, framework, seed, epochs and the accuracies that it ends with."""
    return pd.DataFrame(
        [
            {
                **vars(run.task),
                "epochs": len(run.history),
                "train_accuracy": run.train_accuracy,
                "test_accuracy": run.test_accuracy,
            }
            for run in finished
        ]
    )


def average_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """One row an epoch of a recipe and framework: mean and standard deviation over the seeds.

    Where runs stop early, they are over those that are still going on: "seeds" of them.
    """
    runs = curves.groupby(["recipe", "framework", "epoch"], sort=False)[_MEASURES]
    return pd.concat(
        [
            runs.size().rename("seeds"),
            runs.mean().add_suffix("_mean"),
            runs.std().add_suffix("_std"),
        ],
        axis="columns",
    ).reset_index()


def summarise(final: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """The table in numbers: one row a recipe and framework.

    Args:
        final: as :func:`final_accuracies` gives them.
        timings: a row a recipe and round, a column of seconds an epoch for each framework, and
            "recipe".

    Returns:
        Columns: recipe, framework, seeds; mean over seeds of the epochs, mean and standard
        deviation of the accuracies; the report's own accuracies; the median of seconds an
        epoch; and "speedup", PyTorch's time over this framework's: the median over rounds of the
        ratio within a round, with its quartiles and its 95 % interval, "speedup_low" and
        "speedup_high".
    """
    rows = []
    for (recipe, framework), runs in final.groupby(["recipe", "framework"], sort=False):
        reported = RECIPES[str(recipe)].reported.get(str(framework))
        rounds = timings[timings["recipe"] == recipe]
        row: dict[str, object] = {
            "recipe": recipe,
            "framework": framework,
            "seeds": len(runs),
            "epochs": runs["epochs"].mean(),
        }
        for part in ("train", "test"):
            accuracy = runs[f"{part}_accuracy"]
            row[f"{part}_accuracy_mean"] = accuracy.mean()
            row[f"{part}_accuracy_std"] = accuracy.std()
            row[f"{part}_accuracy_report"] = getattr(reported, part, None)
        row["epoch_seconds_median"] = rounds[framework].median()
        if "pytorch" in rounds:
            ratios = rounds["pytorch"] / rounds[framework]
            quartiles = ratios.quantile([0.25, 0.5, 0.75])
            row["speedup_q1"], row["speedup"], row["speedup_q3"] = quartiles
            _, row["speedup_low"], row["speedup_high"] = median_interval(ratios.to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def test_accuracy_differences(table: pd.DataFrame) -> "pd.Series[float]":
    """By recipe, mean test accuracy of minifw minus PyTorch's, in points; empty without both."""
    means = table.pivot_table(
        index="recipe", columns="framework", values="test_accuracy_mean", sort=False
    )
    if not {"minifw", "pytorch"} <= set(means.columns):
        return pd.Series(dtype=float)
    return (means["minifw"] - means["pytorch"]) * 100


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: percent, milliseconds, spreads beside their values."""

    def percent(value: float) -> str:
        return "" if pd.isna(value) else f"{100 * value:.1f}"

    def accuracy(row: "pd.Series[Any]", part: str) -> str:
        spread = percent(row[f"{part}_accuracy_std"])
        return percent(row[f"{part}_accuracy_mean"]) + (f" ± {spread}" if spread else "")

    def speedup(row: "pd.Series[Any]") -> str:
        if "speedup" not in row or row["framework"] == "pytorch":
            return ""
        return f"{row['speedup']:.2f} ({row['speedup_q1']:.2f}-{row['speedup_q3']:.2f})"

    return pd.DataFrame(
        [
            {
                "recipe": row["recipe"],
                "framework": row["framework"],
                "seeds": row["seeds"],
                "train %": accuracy(row, "train"),
                "report": percent(row["train_accuracy_report"]),
                "test %": accuracy(row, "test"),
                "report ": percent(row["test_accuracy_report"]),
                "ms/epoch": f"{1000 * row['epoch_seconds_median']:.2f}",
                "speed / PyTorch's": speedup(row),
            }
            for _, row in table.iterrows()
        ]
    )
