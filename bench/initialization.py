"""Report 001's open question: does initialization or numerics explain its learning curve?"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from joblib import delayed

from bench import figures
from bench.accuracy import initialization as tables
from bench.cli.command_line import Parser, at_least, consoles, cores, exit_codes, progress_bar, show
from bench.cli.files import OutputFolderError, check_writable, markdown, records, write_files
from bench.cli.provenance import provenance
from bench.cli.workers import workers
from bench.runs.sweep import STACK
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES, Recipe, default_uniform
from reference.run import fit_stacked, prepare

__all__ = ["INITIALIZATIONS", "VARIANTS", "StackTask", "Variant", "main"]

EPILOG = """\
examples:
  python bench/initialization.py                           100 seeds, on every core
  python bench/initialization.py --quick                   6 seeds, 50 epochs
  python bench/initialization.py --seeds 30 --output-dir /tmp/initialization
  python bench/initialization.py --quick --json > tables.json

exit codes:
  0  success    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

# 100 seeds distinguish a difference of 1 percentage point after 200 epochs from none; 30 do not.
SEEDS, QUICK_SEEDS, QUICK_EPOCHS = 100, 6, 50
RECIPE = RECIPES["xavier-tanh"]
# The report's initial weights, and PyTorch's default. Both are drawn by one generator, so that a
# seed gives the same weights on either framework.
INITIALIZATIONS = {tables.START: RECIPE.initialize, tables.AGAINST: default_uniform}


@dataclass(frozen=True)
class Variant:
    """A choice that the report's text leaves open, made differently; trained on minifw alone.

    Attributes:
        summary: what differs, and why it is tried.
        change: from the recipe with an initialization to that of the variant.
        dtype: name of a torch dtype.
    """

    summary: str
    change: Callable[[Recipe], Recipe]
    dtype: str = "float32"


def _sgd(lr: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: dataclasses.replace(
        recipe, optimizer=lambda optim, parameters: optim.SGD(parameters, lr=lr)
    )


def _zero_biases(recipe: Recipe) -> Recipe:
    def initialize(nn: object, linear: torch.nn.Linear, generator: torch.Generator) -> None:
        recipe.initialize(nn, linear, generator)
        linear.bias.data.zero_()

    return dataclasses.replace(recipe, initialize=initialize)


VARIANTS = {
    tables.PLAIN: Variant("the recipe xavier-tanh unchanged", lambda recipe: recipe),
    "float64": Variant("undoes rounding of small gradients", lambda recipe: recipe, "float64"),
    "half the loss": Variant(
        "a gradient of MSE without its factor of 2; learning rate 0.05", _sgd(0.05)
    ),
    "twice the loss": Variant(
        "a loss that is a sum instead of a mean; learning rate 0.2", _sgd(0.2)
    ),
    "zero biases": Variant("Xavier for the weights alone", _zero_biases),
    "labels 0 and 1": Variant(
        "the text says -1 or 1, and 0 otherwise",
        lambda recipe: dataclasses.replace(recipe, labels=(0.0, 1.0)),
    ),
    "normalized inputs": Variant(
        "mean 0 and standard deviation 1, which the text does not mention",
        lambda recipe: dataclasses.replace(recipe, normalized=True),
    ),
}


@dataclass(frozen=True)
class StackTask:
    """Runs to make together, by names, so that they can be sent to another process."""

    variant: str
    initialization: str
    framework: str
    seeds: tuple[int, ...]


def _tasks(seeds: int) -> list[StackTask]:
    """PyTorch's runs, the longest, one by one; minifw's as stacks of about equal size."""
    stacks = math.ceil(seeds / STACK)
    return [
        StackTask(tables.PLAIN, initialization, "pytorch", (seed,))
        for initialization in INITIALIZATIONS
        for seed in range(seeds)
    ] + [
        StackTask(variant, initialization, "minifw", tuple(range(first, seeds, stacks)))
        for variant, initialization in product(VARIANTS, INITIALIZATIONS)
        for first in range(stacks)
    ]


def _do(task: StackTask, epochs: int) -> pd.DataFrame:
    """Make runs, and return a row an epoch of each: the task, seed, epoch and accuracies."""
    torch.set_num_threads(1)
    variant = VARIANTS[task.variant]
    recipe = variant.change(
        dataclasses.replace(RECIPE, initialize=INITIALIZATIONS[task.initialization])
    )
    runs = [
        prepare(recipe, FRAMEWORKS[task.framework], seed, dtype=getattr(torch, variant.dtype))
        for seed in task.seeds
    ]
    histories = fit_stacked(runs, epochs) if len(runs) > 1 else [runs[0].fit(epochs)]
    frames = [
        pd.DataFrame(history).assign(seed=seed)
        for seed, history in zip(task.seeds, histories, strict=True)
    ]
    names = {name: getattr(task, name) for name in tables.CELL}
    # The recipe does not stop early, so its validation data is the test data.
    return (
        pd.concat(frames, ignore_index=True)
        .rename(columns={"validation_accuracy": "test_accuracy"})
        .assign(**names)[[*tables.CELL, "seed", "epoch", "train_accuracy", "test_accuracy"]]
        .astype({"epoch": int})
    )


def _runs(tasks: list[StackTask], epochs: int, jobs: int) -> Iterator[pd.DataFrame]:
    """Make the runs ``tasks`` and yield those of each task when it ends."""
    parallel = workers(jobs, return_as="generator_unordered")
    yield from parallel(delayed(_do)(task, epochs) for task in tasks)


def _parser() -> Parser:
    parser = Parser(
        prog="initialization.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=at_least(1), metavar="N",
        help=f"seeds 0 to N-1 (default: {SEEDS}; quick: {QUICK_SEEDS})")  # fmt: skip
    add("--epochs", type=at_least(1), metavar="N",
        help=f"epochs a run (default: {RECIPE.epochs}; quick: {QUICK_EPOCHS})")  # fmt: skip
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and picture (default: results)")  # fmt: skip
    add("--quick", action="store_true",
        help=f"{QUICK_SEEDS} seeds, {QUICK_EPOCHS} epochs, unless given")  # fmt: skip
    add("--json", action="store_true", help="print the tables as JSON and nothing else")
    return parser


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    seeds = arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS)
    epochs = arguments.epochs or (QUICK_EPOCHS if arguments.quick else RECIPE.epochs)
    with parser.ending(OutputFolderError):
        check_writable(arguments.output_dir)
        tasks, parts = _tasks(seeds), []
        with progress_bar(log, "runs") as progress:
            bar = progress.add_task("training", total=sum(len(task.seeds) for task in tasks))
            for runs in _runs(tasks, epochs, arguments.jobs):
                parts.append(runs)
                progress.advance(bar, runs["seed"].nunique())
        order = list(product(VARIANTS, INITIALIZATIONS))
        runs = tables.in_order(pd.concat(parts, ignore_index=True), order)
        cells, contrasts = tables.cells(runs), tables.contrasts(runs)
        curves = tables.curves(runs)
        notes = tables.conclusions(cells, contrasts)
        conditions = {"seeds": seeds, "epochs": epochs, **provenance()}
        shown = [tables.format_cells(cells), tables.format_contrasts(contrasts)]
        tried = [f"- {name}: {variant.summary}." for name, variant in VARIANTS.items()]
        made = "Made with " + ", ".join(f"{k} {v}" for k, v in conditions.items() if v) + "."
        write_files(
            arguments.output_dir,
            {
                "initialization.csv": cells,
                "initialization_contrasts.csv": contrasts,
                "initialization_curves.csv": curves,
                "initialization.md": markdown(*notes, *shown, "\n".join(tried), made),
                "initialization.svg": lambda path: figures.save(
                    figures.draw_initialization(curves),
                    path,
                    figures.describe_initialization(curves),
                ),
            },
        )
    if arguments.json:
        printed = {
            "conditions": conditions,
            "conclusions": notes,
            "cells": records(cells),
            "contrasts": records(contrasts),
        }
        print(json.dumps(printed, indent=2))
    else:
        show(out, *shown, *notes, f"Tables and picture: {arguments.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
