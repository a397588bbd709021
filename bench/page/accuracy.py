"""The parts on accuracy: equivalence, learning curves, decision regions, the reports' figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import figures
from bench.accuracy.tables import format_range
from bench.page.files import UnreadableFileError, paragraphs, read_csv
from bench.page.tables import p_value, percent, points, table, two_digits
from bench.runs.regions import load_regions

__all__ = ["accuracy", "curves", "regions", "reported"]

PART_NAMES = {"train": "training", "test": "test"}

_SIDES = ("minifw", "pytorch")
_ENDS = ("mean", "low", "high")


def _rows(folder: Path) -> pd.DataFrame:
    """The table of the statistics, with each column "x_mean" renamed to "x"."""
    columns = ["difference_seeds", "difference_tost_p", "difference_tost_power"]
    columns += [f"{name}_{end}" for name in (*_SIDES, "difference", "control") for end in _ENDS]
    path = folder / "accuracy.csv"
    rows = read_csv(path, "recipe", "part", "margin", "difference_verdict", *columns)
    return rows.rename(columns=lambda column: column.removesuffix("_mean"))


def accuracy(folder: Path) -> dict[str, Any]:
    """Paired differences of accuracy beside the margin, and their verdicts."""
    rows = _rows(folder)
    margin = float(rows["margin"].iloc[0])
    pictures = []
    for part, group in rows.dropna(subset=["difference"]).groupby("part", sort=False):
        lines = pd.DataFrame(
            {
                "label": group["recipe"],
                "value": group["difference"],
                "low": group["difference_low"],
                "high": group["difference_high"],
                "equivalent": group["difference_verdict"] == "equivalent",
            }
        )
        summary = "; ".join(
            f"{row.label} {row.value:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
            for row in lines.itertuples()
        )
        title = f"{PART_NAMES.get(str(part), str(part))} accuracy"
        pictures.append(
            figures.inline(
                figures.as_svg(figures.draw_differences(lines, margin, title)),
                f"differences-{part}",
                f"Forest plot, {title}: minifw minus PyTorch in percentage points, with 95 % "
                f"intervals, over a band of the equivalence margin, {margin:g}. {summary}.",
            )
        )
    return {
        "margin": margin,
        "counts": rows["difference_verdict"].value_counts().to_dict(),
        "rows": len(rows),
        "recipes": rows["recipe"].nunique(),
        "seeds": format_range(rows["difference_seeds"]),
        "farthest": float(rows["difference"].abs().max()),
        "pictures": pictures,
        "text": paragraphs(folder / "accuracy.md"),
        "tested": table(
            rows,
            "accuracy",
            "Mean paired difference of accuracy, with 95 % interval, and the verdict",
            {
                "recipe": "recipe",
                "part": "part",
                "difference_verdict": "verdict",
                "difference": "difference, percentage points",
                "difference_tost_p": "TOST p",
                "difference_tost_power": "power",
                "difference_seeds": "seeds",
                "control": "PyTorch, other seeds, percentage points",
            },
            {
                "difference": points,
                "control": points,
                "difference_tost_p": p_value,
                "difference_tost_power": two_digits,
            },
        ),
        "means": table(
            rows,
            "means",
            "Accuracy of each framework in %: mean with 95 % interval, and interquartile mean",
            {
                "recipe": "recipe",
                "part": "part",
                "minifw": "minifw",
                "pytorch": "PyTorch",
                "minifw_iqm": "minifw, IQM",
                "pytorch_iqm": "PyTorch, IQM",
            },
            dict.fromkeys(("minifw", "pytorch", "minifw_iqm", "pytorch_iqm"), percent),
        ),
    }


def curves(folder: Path) -> dict[str, Any]:
    """Loss and accuracy over the epochs, a picture a recipe."""
    averages = read_csv(
        folder / "learning_curves.csv",
        *("recipe", "framework", "epoch", "seeds", "loss_mean", "loss_std"),
        *("validation_accuracy_mean", "validation_accuracy_std"),
    )
    pictures = []
    for recipe, group in averages.groupby("recipe", sort=False):
        summary = "; ".join(
            f"{framework} ends after epoch {end['epoch']} with a loss of {end['loss_mean']:.3f} "
            f"and an accuracy of {100 * end['validation_accuracy_mean']:.1f} %"
            for framework, end in group.groupby("framework").last().iterrows()
        )
        pictures.append(
            figures.inline(
                figures.as_svg(figures.draw_curves(group, alone=True)),
                f"curves-{recipe}",
                f"{recipe}: training loss and validation accuracy over the epochs. {summary}.",
            )
        )
    return {
        "pictures": pictures,
        "seeds": format_range(averages.groupby("recipe")["seeds"].max()),
    }


def regions(folder: Path) -> dict[str, Any]:
    """Decision regions through the epochs, a picture a recipe."""
    path = folder / "decision_regions.npz"
    try:
        shares = load_regions(path)
    except (ValueError, OSError) as error:
        raise UnreadableFileError(path, error) from None
    pictures, largest = [], 0.0
    for recipe, group in shares.groupby("recipe", sort=False):
        trained = group.groupby("framework", sort=False)["share"].last()
        largest = max(largest, float(np.ptp(np.stack(list(trained)), axis=0).mean()))
        summary = ", ".join(
            f"{100 * share.mean():.0f} % on {name}" for name, share in trained.items()
        )
        pictures.append(
            figures.inline(
                figures.as_svg(figures.draw_regions(group)),
                f"regions-{recipe}",
                f"{recipe}: decision regions after some epochs beside the true disk. The "
                f"trained models classify as inside, where the disk is 50 %: {summary}.",
            )
        )
    return {"pictures": pictures, "largest_difference": 100 * largest}


def reported(folder: Path) -> dict[str, Any]:
    """The reports' accuracies beside ours, and our prediction intervals."""
    rows = _rows(folder)
    names = ("", "_low", "_high", "_report")
    sides = [
        rows[["recipe", "part"]].assign(
            framework=side,
            **{f"ours{name}": rows[f"{side}{name}"] for name in names},
            placed=rows[f"{side}_report_vs_prediction"],
        )
        for side in _SIDES
    ]
    given = pd.concat(sides).dropna(subset=["ours_report"]).sort_index(kind="stable")
    return {
        "inside": int((given["placed"] == "within").sum()),
        "given": len(given),
        "reported": table(
            given,
            "reported",
            "Accuracies of the reports beside ours, in %",
            {
                "recipe": "recipe",
                "part": "part",
                "framework": "framework",
                "ours_report": "report",
                "ours": "ours, mean",
                "placed": "our 95 % prediction interval",
            },
            dict.fromkeys(("ours_report", "ours"), percent),
        ),
    }
