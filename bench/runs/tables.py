"""Tables: from runs to learning curves, final accuracies, and the table that is printed."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.accuracy.tables import readable_interval
from bench.runs.sweep import Finished
from bench.timing.interleave import readable_ratio

_MEASURES = ["loss", "train_accuracy", "validation_accuracy"]

__all__ = [
    "average_curves",
    "curves",
    "final_accuracies",
    "readable",
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


def readable(accuracy: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """The table for people, a row a recipe: test accuracy in percent, its difference, and speed.

    Args:
        accuracy: as :func:`bench.accuracy.statistics.accuracy_statistics` gives it.
        speed: as :func:`bench.timing.recipes.summarize_speed` gives it; none of its rows
            if nothing was timed.
    """

    def report(row: "pd.Series[Any]") -> str:
        given = row[["minifw_report", "pytorch_report"]].dropna()
        return " / ".join(f"{100 * value:.1f}" for value in given)

    def epoch(row: "pd.Series[Any]") -> str:
        times = row[["minifw", "pytorch"]].dropna()
        return " / ".join(f"{1e3 * seconds:.2f}" for seconds in times)

    tested = accuracy[accuracy["part"] == "test"].set_index("recipe")
    timed = speed[speed["part"] == "epoch"].set_index("recipe").reindex(tested.index)
    rows = tested.join(timed[["ratio", "ratio_low", "ratio_high", "minifw", "pytorch", "claim"]])
    return pd.DataFrame(
        {
            "recipe": recipe,
            "seeds": row["difference_seeds"],
            "minifw, test %": readable_interval(row, ".1f", "minifw_", 100),
            "PyTorch, test %": readable_interval(row, ".1f", "pytorch_", 100),
            "report %": report(row),
            "difference, points": readable_interval(row, "+.2f", "difference_"),
            "verdict": row["difference_verdict"],
            "ms/epoch": epoch(row),
            "PyTorch's time / minifw's": readable_ratio(row, "ratio") or row["claim"],
        }
        for recipe, row in rows.iterrows()
    )
