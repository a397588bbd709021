"""What the pages say of results: Markdown made from the files in ``results/``.

A page writes ``{{ verified.Linear }}`` or ``{{ measured["relu-mse"] }}`` and gets what the files
say as the book is built; a name that they have not is an error. No figure of ours is typed.
"""

from pathlib import Path

import pandas as pd

from bench.tables import readable
from reference.recipes import RECIPES

RESULTS = Path(__file__).parents[1] / "results"
EPOCHS = (10, 50, 200)  # at which report 001 gives its accuracies


def substitutions() -> dict[str, dict[str, str]]:
    """By the name that pages use, then by class or recipe, Markdown."""
    verification = pd.read_csv(RESULTS / "verification.csv")
    faults = pd.read_csv(RESULTS / "kill_matrix.csv").set_index(["where", "fault"])
    comparison = pd.read_csv(RESULTS / "comparison.csv")
    curves = pd.read_csv(RESULTS / "learning_curves.csv")
    found = (faults == 1).any(axis="columns").groupby(level="where")
    counts = {str(place).rpartition(".")[2]: (len(of), int(of.sum())) for place, of in found}
    return {
        "verified": {
            str(name): _verified(str(name), rows, counts.get(str(name)))
            for name, rows in verification.groupby(verification["case"].str.partition("(")[0])
        },
        "mistakes": {
            str(place).rpartition(".")[2]: "\n".join(f"- {fault}" for fault in of.index.unique(1))
            for place, of in found
        },
        "measured": {
            str(name): _measured(str(name), rows) for name, rows in comparison.groupby("recipe")
        },
        "through_epochs": {
            str(name): _through_epochs(rows)
            for name, rows in curves.groupby("recipe")
            if rows["epoch"].max() >= max(EPOCHS)
        },
        "differences": {"largest": _largest_difference(comparison)},
    }


def _verified(name: str, rows: pd.DataFrame, faults: tuple[int, int] | None) -> str:
    """The verdicts on a class, the faults found in it, and the command that says so."""
    counts = rows["status"].value_counts()
    verdicts = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [
        f":::{{admonition}} Proof: {name}",
        ":class: tip",
        f"Rows of `{name}` in the tables of cases: {len(rows)}, tried on {rows['examples'].sum()} "
        f"examples. Verdicts: {verdicts}. Largest error: {rows['of bound'].max():.0%} of what "
        "rounding explains.",
    ]
    if faults:
        lines.append(f"Deliberate faults put into it: {faults[0]}; found: {faults[1]}.")
    return "\n".join([*lines, f"`python bench/verify.py --only {name}`", ":::"])


def _table(rows: list[tuple[str, ...]], *head: str) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _measured(name: str, comparison: pd.DataFrame) -> str:
    """The report's own figures of a recipe, above ours."""
    recipe = RECIPES[name]
    theirs = [
        ("the report's own framework" if side == "minifw" else "the report's PyTorch",
         _percent(of.train), _percent(of.test), "", "")
        for side, of in recipe.reported.items()
    ]  # fmt: skip
    ours = [
        (f"{row['framework']}, {row['seeds']} seeds", row["train %"], row["test %"],
         row["ms/epoch"], row["speed / PyTorch's"])
        for _, row in readable(comparison).iterrows()
    ]  # fmt: skip
    table = _table(
        [*theirs, *ours], name, "training %", "test %", "ms an epoch", "speed over PyTorch's"
    )
    training = f"{recipe.epochs} epochs of batches of {recipe.batch_size}"
    return f"*{recipe.summary}; {training}.*\n\n{table}"


def _through_epochs(curves: pd.DataFrame) -> str:
    """Test accuracies of both frameworks as training goes on."""
    accuracies = curves.pivot_table(
        index="epoch", columns="framework", values="validation_accuracy_mean"
    )
    rows = [
        (str(epoch), *(_percent(accuracies.loc[epoch, side]) for side in ("minifw", "pytorch")))
        for epoch in EPOCHS
    ]
    return _table(rows, "epochs", "minifw", "PyTorch")


def _largest_difference(comparison: pd.DataFrame) -> str:
    means = comparison.pivot_table(index="recipe", columns="framework", values="test_accuracy_mean")
    gap = (means["minifw"] - means["pytorch"]).abs()
    return f"{gap.max() * 100:.2f} points (`{gap.idxmax()}`)"
