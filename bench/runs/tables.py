"""Tables derived from runs: learning curves, final accuracies, and the printed table."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.accuracy.tables import format_interval
from bench.runs.sweep import Finished
from bench.timing.interleave import format_ratio

_MEASURES = ["loss", "train_accuracy", "validation_accuracy"]

__all__ = [
    "average_curves",
    "curves",
    "final_accuracies",
    "format_runs",
]


def curves(finished: Iterable[Finished]) -> pd.DataFrame:
    """One row an epoch of every run: recipe, framework, seed, epoch, loss and accuracies."""
    frames = [run.history.assign(**vars(run.task)) for run in finished]
    columns = ["recipe", "framework", "seed", "epoch", *_MEASURES]
    return pd.concat(frames, ignore_index=True)[columns].astype({"epoch": int})


def final_accuracies(finished: Iterable[Finished]) -> pd.DataFrame:
    """One row a run: recipe, framework, seed, epochs and final accuracies."""
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

    Where runs stop early, they are over the runs that still train; "seeds" counts them.
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


def format_runs(accuracy: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """The human-readable table, a row a recipe: test accuracy, its difference, and speed.

    Args:
        accuracy: from :func:`bench.accuracy.statistics.accuracy_statistics`.
        speed: from :func:`bench.timing.recipes.summarize_speed`; empty if nothing was timed.
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
            "minifw, test %": format_interval(row, ".1f", "minifw_", 100),
            "PyTorch, test %": format_interval(row, ".1f", "pytorch_", 100),
            "report %": report(row),
            "difference, percentage points": format_interval(row, "+.2f", "difference_"),
            "verdict": row["difference_verdict"],
            "ms/epoch": epoch(row),
            "speed-up over PyTorch": format_ratio(row, "ratio") or row["claim"],
        }
        for recipe, row in rows.iterrows()
    )
