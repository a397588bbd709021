"""Figures in the book: Markdown made from the files in ``results/``.

A page contains ``{{ verified.Linear }}`` or ``{{ measured["relu-mse"] }}``, which is replaced when
the book is built; an unknown name is an error. No figure of ours is typed by hand.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from reference.recipes import RECIPES

RESULTS = Path(__file__).parents[1] / "results"
_SIDES = {"minifw": "framework", "pytorch": "PyTorch"}
_INTERVAL = ("mean", "low", "high")
EPOCHS = (10, 50, 200)  # at which report 001 gives its accuracies


def substitutions() -> dict[str, dict[str, str]]:
    """By the name that pages use, then by class or recipe, Markdown."""
    verification = pd.read_csv(RESULTS / "verification.csv")
    faults = pd.read_csv(RESULTS / "kill_matrix.csv").set_index(["where", "fault"])
    accuracy = pd.read_csv(RESULTS / "accuracy.csv").set_index(["recipe", "part"])
    speed = pd.read_csv(RESULTS / "speed.csv").set_index(["recipe", "part"])
    curves = pd.read_csv(RESULTS / "learning_curves.csv")
    found = (faults == 1).any(axis="columns").groupby(level="where")
    counts = {
        str(place).rpartition(".")[2]: (len(kills), int(kills.sum())) for place, kills in found
    }
    return {
        "verified": {
            str(name): _verified(str(name), rows, counts.get(str(name)))
            for name, rows in verification.groupby(verification["case"].str.partition("(")[0])
        },
        "mistakes": {
            str(place).rpartition(".")[2]: "\n".join(
                f"- {fault}" for fault in kills.index.unique(1)
            )
            for place, kills in found
        },
        "measured": {
            name: _measured(name, accuracy.loc[name], speed.loc[name, "epoch"])
            for name in accuracy.index.unique("recipe")
        },
        "through_epochs": {
            str(name): _through_epochs(rows)
            for name, rows in curves.groupby("recipe")
            if rows["epoch"].max() >= max(EPOCHS)
        },
        "differences": {"largest": _largest_difference(accuracy)},
    }


def _verified(name: str, rows: pd.DataFrame, faults: tuple[int, int] | None) -> str:
    """The verdicts on a class, the faults found in it, and the command that prints them."""
    counts = rows["status"].value_counts()
    verdicts = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f":::{{admonition}} Proof: {name}",
        ":class: tip",
        f"Cases of `{name}`: {len(rows)}, tried on {rows['examples'].sum()} examples. "
        f"Verdicts: {verdicts}. Largest error: {rows['of bound'].max():.0%} of its bound.",
    ]
    if faults:
        lines.append(f"Mutants of it: {faults[0]}; found: {faults[1]}.")
    return "\n".join([*lines, f"`python bench/verify.py --only {name}`", ":::"])


def _table(rows: list[tuple[str, ...]], *head: str) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _measured(name: str, accuracy: pd.DataFrame, epoch: "pd.Series[Any]") -> str:
    """The report's figures of a recipe, our figures, and the comparison of our frameworks."""
    recipe = RECIPES[name]

    def interval(part: str, column: str, form: str, scale: float) -> str:
        mean, low, high = (scale * accuracy.loc[part, f"{column}_{end}"] for end in _INTERVAL)
        return f"{mean:{form}} [{low:{form}}, {high:{form}}]"

    rows = [
        (f"the report's {_SIDES[side]}", _percent(figures.train), _percent(figures.test), "")
        for side, figures in recipe.reported.items()
    ]
    rows += [
        (
            f"our {_SIDES[side]}, {accuracy.loc['test', f'{side}_seeds']} seeds",
            *(interval(part, side, ".1f", 100) for part in ("train", "test")),
            f"{1000 * epoch[side]:.2f}",
        )
        for side in _SIDES
    ]
    training = f"{recipe.epochs} epochs of batches of {recipe.batch_size}"
    tested = accuracy.loc["test"]
    return "\n\n".join(
        [
            f"*{recipe.summary}; {training}.*",
            _table(rows, name, "training %", "test %", "ms an epoch"),
            f"Test accuracy of minifw minus PyTorch's: "
            f"{interval('test', 'difference', '+.2f', 1)} percentage points, "
            f"{tested['difference_verdict']} at a margin of {tested['margin']:g}. Speed-up over "
            f"PyTorch: {epoch['ratio']:.2f} "
            f"[{epoch['ratio_low']:.2f}, {epoch['ratio_high']:.2f}], {epoch['claim']}.",
        ]
    )


def _through_epochs(curves: pd.DataFrame) -> str:
    """Test accuracies of both frameworks after some epochs."""
    accuracies = curves.pivot_table(
        index="epoch", columns="framework", values="validation_accuracy_mean"
    )
    rows = [
        (str(epoch), *(_percent(accuracies.loc[epoch, side]) for side in ("minifw", "pytorch")))
        for epoch in EPOCHS
    ]
    return _table(rows, "epochs", "minifw %", "PyTorch %")


def _largest_difference(accuracy: pd.DataFrame) -> str:
    gap = accuracy.xs("test", level="part")["difference_mean"].abs()
    return f"{gap.max():.2f} percentage points (`{gap.idxmax()}`)"
