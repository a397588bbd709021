"""Choose the hyperparameters of a recipe by cross-validation on its training data alone."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import delayed
from rich.console import Console

from bench.cli.command_line import Parser, at_least, consoles, cores, exit_codes, progress_bar, show
from bench.cli.files import OutputFolderError, check_writable, markdown, records, write_files
from bench.cli.workers import workers
from minifw.data import k_fold
from reference.frameworks import FRAMEWORKS
from reference.recipes import POINTS, SEARCHES
from reference.run import data_generator, prepare

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/tune.py early-stopping                      its whole grid, 5 folds, on every core
  python bench/tune.py early-stopping --quick              finishes in half a minute
  python bench/tune.py early-stopping --folds 10 --seed 1 --output-dir /tmp/tuning
  python bench/tune.py early-stopping --framework pytorch
  python bench/tune.py --list                              the recipes and their grids
  python bench/tune.py early-stopping --quick --json > table.json

exit codes:
  0  success    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

QUICK_EPOCHS = 20


@dataclass(frozen=True)
class FoldTask:
    """One run to make, by names, so that it can be sent to another process."""

    recipe: str
    setting: tuple[float, ...]
    fold: int


def _parser() -> Parser:
    parser = Parser(
        prog="tune.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", nargs="?", choices=list(SEARCHES),
        help="the recipe; --list shows them and their grids")  # fmt: skip
    add("--folds", type=at_least(2), metavar="K", help="default: 5; quick: 2")
    add("--seed", type=at_least(0), default=0, metavar="N",
        help="seed of the training data and folds; fold i trains from the initial weights of seed "
        "N + i (default: 0)")  # fmt: skip
    add("--epochs", type=at_least(1), metavar="N",
        help=f"epochs a run (default: the recipe's own; quick: {QUICK_EPOCHS})")  # fmt: skip
    add("--framework", choices=list(FRAMEWORKS), default="minifw", help="default: minifw")
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for the table (default: results)")  # fmt: skip
    add("--quick", action="store_true", help=f"2 folds, {QUICK_EPOCHS} epochs, unless given")
    add("--list", action="store_true", help="list the recipes and their grids and stop")
    add("--json", action="store_true", help="print the table as JSON and nothing else")
    return parser


def _list_grids(console: Console, as_json: bool) -> None:
    rows = [
        {"recipe": recipe, "hyperparameter": name, "values": values, "chosen": search.chosen[name]}
        for recipe, search in SEARCHES.items()
        for name, values in search.grid.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        show(console, pd.DataFrame(rows))


def _do(task: FoldTask, folds: int, seed: int, epochs: int, framework: str) -> dict[str, float]:
    """Train without one fold and measure the accuracy on it.

    Early stopping uses the recipe's validation data, so the fold does not influence the run.
    """
    torch.set_num_threads(1)
    search = SEARCHES[task.recipe]
    recipe = search.make(**dict(zip(search.grid, task.setting, strict=True)))
    generator = data_generator(seed)
    train, _, validation = recipe.data(generator)
    rest, held_out = list(k_fold(train, folds, generator))[task.fold]
    # Each fold has other initial weights, so that no setting wins by one lucky start.
    run = prepare(
        recipe, FRAMEWORKS[framework], seed + task.fold, data=(rest, held_out, validation)
    )
    history = run.fit(epochs, measure=False)
    return {"epochs": len(history), "accuracy": run.accuracy(run.test)}


def _runs(
    tasks: list[FoldTask], arguments: argparse.Namespace, epochs: int
) -> Iterator[tuple[FoldTask, dict[str, float]]]:
    """Make the runs ``tasks`` and yield each with its result, in order."""
    options = (arguments.folds, arguments.seed, epochs, arguments.framework)
    parallel = workers(arguments.jobs, return_as="generator")
    yield from zip(tasks, parallel(delayed(_do)(task, *options) for task in tasks), strict=True)


def _table(recipe: str, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, the best first; ties are in the order of the grid."""
    names = list(SEARCHES[recipe].grid)
    settings = runs.groupby(names, sort=False)
    table = settings["accuracy"].agg(
        folds="size", accuracy_mean="mean", accuracy_std="std", accuracy_min="min"
    )
    table["epochs_mean"] = settings["epochs"].mean()
    # Rounded, so that equal accuracies that were summed in another order stay equal.
    best_first = np.argsort(-table["accuracy_mean"].to_numpy().round(9), kind="stable")
    return table.iloc[best_first].reset_index()


def _format_table(recipe: str, table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable table: accuracies in percent."""
    names = list(SEARCHES[recipe].grid)
    formatted = table[names].map("{:g}".format)
    formatted["validation %"] = [
        f"{100 * mean:.1f} ± {100 * std:.1f}"
        for mean, std in zip(table["accuracy_mean"], table["accuracy_std"], strict=True)
    ]
    formatted["worst fold %"] = (100 * table["accuracy_min"]).map("{:.1f}".format)
    formatted["epochs"] = table["epochs_mean"].map("{:.0f}".format)
    return formatted


def _named(setting: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    if arguments.list:
        _list_grids(out, arguments.json)
        return 0
    if arguments.recipe is None:
        parser.error(f"name a recipe: {', '.join(SEARCHES)}")
    search = SEARCHES[arguments.recipe]
    epochs = (
        arguments.epochs
        or (QUICK_EPOCHS if arguments.quick else None)
        or search.make(**search.chosen).epochs
    )
    arguments.folds = arguments.folds or (2 if arguments.quick else 5)
    if arguments.folds > POINTS:
        parser.error(f"--folds: at most one for each of the {POINTS} training points")
    conditions = {
        "torch": torch.__version__,
        "framework": arguments.framework,
        "seed": arguments.seed,
        "folds": arguments.folds,
        "epochs": epochs,
    }
    tasks = [
        FoldTask(arguments.recipe, setting, fold)
        for setting in product(*search.grid.values())
        for fold in range(arguments.folds)
    ]
    with parser.ending(OutputFolderError):
        check_writable(arguments.output_dir)
        rows = []
        with progress_bar(log, "runs") as progress:
            bar = progress.add_task("training", total=len(tasks))
            for task, result in _runs(tasks, arguments, epochs):
                rows.append(dict(zip(search.grid, task.setting, strict=True)) | result)
                progress.advance(bar)
        table = _table(arguments.recipe, pd.DataFrame(rows))
        best = {name: float(table[name].iloc[0]) for name in search.grid}
        comment = (
            "the recipe uses it"
            if best == search.chosen
            else (f"the recipe uses {_named(search.chosen)}")
        )
        notes = [
            f"Best: {_named(best)}; {comment}.",
            "Run with " + ", ".join(f"{k} {v}" for k, v in conditions.items()) + ".",
        ]
        text = markdown(_format_table(arguments.recipe, table), *notes)
        name = f"tuning-{arguments.recipe}"
        write_files(arguments.output_dir, {f"{name}.csv": table, f"{name}.md": text})
    if arguments.json:
        printed = {
            "conditions": conditions,
            "best": best,
            "chosen": search.chosen,
            "table": records(table),
        }
        print(json.dumps(printed, indent=2))
    else:
        formatted = _format_table(arguments.recipe, table)
        show(out, formatted, *notes, f"Table: {arguments.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
