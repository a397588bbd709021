"""The main job: the reports' recipes on minifw and on PyTorch, accuracy and time side by side."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from rich.console import Console

from bench import figures, tables
from bench.command_line import Parser, at_least, cores, device, print_table, progress_bar
from bench.output import OutputFolderError, check_writable, write_files
from bench.regions import average_regions, save_regions
from bench.sweep import STACK, Finished, Settings, Task, sweep
from bench.timing import time_epochs
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import INITIALISATIONS, data_generator

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/compare.py                                  all recipes, 10 seeds, on every core
  python bench/compare.py --quick                          a first look in half a minute
  python bench/compare.py --recipes relu-mse xavier-tanh --seeds 30
  python bench/compare.py --dtype float64 --epochs 50 --output-dir /tmp/float64
  python bench/compare.py --initialisation default         each framework's own first weights
  python bench/compare.py --quick --json > table.json      the table, for a program

exit codes:
  0  good    1  accuracies differ    2  wrong usage    130  interrupted
"""

# Averaged over seeds, in points of test accuracy: both frameworks train from the same weights over
# the same batches, so that what is left between them is rounding.
LARGEST_DIFFERENCE = 0.5

DTYPES = ("float32", "float64")
QUICK_EPOCHS = 20


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="compare.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME",
        help="recipes to run; --list shows them (default: all)")  # fmt: skip
    add("--frameworks", nargs="+", choices=list(FRAMEWORKS), default=list(FRAMEWORKS),
        metavar="NAME", help="minifw, pytorch (default: both)")  # fmt: skip
    add("--seeds", type=at_least(1), metavar="N", help="seeds 0 to N-1 (default: 10; quick: 2)")
    add("--epochs", type=at_least(1), metavar="N",
        help=f"epochs a run (default: each recipe's own; quick: {QUICK_EPOCHS})")  # fmt: skip
    add("--initialisation", choices=INITIALISATIONS, default="recipe",
        help="first weights: the recipe's, the same on both frameworks, or each framework's "
        "default (default: recipe)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="timed epochs a framework (default: 21; quick: 5)")  # fmt: skip
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s); minifw trains the seeds of a "
        f"recipe as stacks of up to {STACK}, the timed epochs one network")  # fmt: skip
    add("--threads", type=at_least(1), default=1, metavar="N",
        help="threads of torch in each (default: 1)")  # fmt: skip
    add("--device", type=device, default="cpu", help="torch device (default: cpu)")
    add("--dtype", choices=DTYPES, default="float32", help="default: float32")
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and figures (default: results)")  # fmt: skip
    add("--quick", action="store_true",
        help=f"2 seeds, {QUICK_EPOCHS} epochs, 5 rounds, unless given")  # fmt: skip
    add("--list", action="store_true", help="list the recipes and stop")
    add("--json", action="store_true", help="print the table as JSON and nothing else")
    return parser


def _list_recipes(console: Console, as_json: bool) -> None:
    rows = [
        {"recipe": r.name, "report": r.report, "epochs": r.epochs, "summary": r.summary}
        for r in RECIPES.values()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(console, pd.DataFrame(rows))


def _run(
    arguments: argparse.Namespace, settings: Settings, log: Console
) -> tuple[list[Finished], pd.DataFrame]:
    """Do all runs and all timings, under a progress bar."""
    tasks = [
        Task(recipe, framework, seed)
        # The longest first, so that no core waits for the last run.
        for recipe in sorted(arguments.recipes, key=settings.epochs_of, reverse=True)
        for framework in sorted(arguments.frameworks, reverse=True)
        for seed in range(arguments.seeds)
    ]
    finished: dict[Task, Finished] = {}
    timings: list[dict[str, object]] = []
    with progress_bar(log, "epochs") as progress:
        bar = progress.add_task("training", total=sum(settings.epochs_of(t.recipe) for t in tasks))
        for run in sweep(tasks, settings, arguments.jobs):
            finished[run.task] = run
            progress.advance(bar, settings.epochs_of(run.task.recipe))
        bar = progress.add_task(
            "timing", total=len(arguments.recipes) * len(arguments.frameworks) * arguments.rounds
        )
        # One process at a time, nothing beside it; the sweep's, which have all imported and warm.
        one_by_one = Parallel(n_jobs=arguments.jobs, pre_dispatch=1, return_as="generator")
        timed = one_by_one(
            delayed(time_epochs)(recipe, arguments.frameworks, arguments.rounds, settings)
            for recipe in arguments.recipes
        )
        for recipe, rounds in zip(arguments.recipes, timed, strict=True):
            timings += [{"recipe": recipe, **seconds} for seconds in rounds]
            progress.advance(bar, len(rounds) * len(arguments.frameworks))
    ordered = [
        finished[Task(recipe, framework, seed)]
        for recipe in arguments.recipes
        for framework in arguments.frameworks
        for seed in range(arguments.seeds)
    ]
    return ordered, pd.DataFrame(timings)


def _verdict(table: pd.DataFrame, same_start: bool) -> tuple[list[str], bool]:
    """What the table comes to, in sentences, and whether the accuracies agree."""
    differences = tables.test_accuracy_differences(table)
    if differences.empty:
        return ["One framework alone: nothing is compared."], True
    largest, where = differences.abs().max(), differences.abs().idxmax()
    allowed = f"; less than {LARGEST_DIFFERENCE} is allowed" if same_start else ""
    speedups = table[table["framework"] == "minifw"].set_index("recipe")["speedup"]
    winner = (
        "minifw wins"
        if speedups.min() > 1
        else "PyTorch wins"
        if speedups.max() < 1
        else "neither wins throughout"
    )
    recipe = RECIPES[speedups.index[0]]
    step = table[table["recipe"] == recipe.name].set_index("framework")["epoch_seconds_median"]
    step = step / recipe.steps_an_epoch * 1e6
    return [
        "Accuracy: the mean test accuracies of minifw and PyTorch differ by at most "
        f"{largest:.2f} points ({where}{allowed}).",
        f"Speed: {winner}; minifw trains {speedups.min():.2f} to {speedups.max():.2f} times as "
        "fast as PyTorch (median of interleaved epochs; quartiles in the table).",
        f"A training step of {recipe.name}, batch {recipe.batch_size}: minifw "
        f"{step['minifw']:.0f} µs, PyTorch {step['pytorch']:.0f} µs.",
    ], not same_start or bool(largest < LARGEST_DIFFERENCE)


def _conditions(conditions: dict[str, Any]) -> str:
    epochs = conditions["epochs"] or "each recipe's own number of"
    return (
        f"Run with torch {conditions['torch']}, {conditions['dtype']} on {conditions['device']}, "
        f"{conditions['jobs']} process(es) of {conditions['threads']} thread(s), {epochs} epochs, "
        f"{conditions['rounds']} timed epochs, first weights by {conditions['initialisation']}. "
        f"minifw trained the seeds of a recipe as stacks of up to {STACK}; the times are those of "
        "one network."
    )


def _write(
    folder: Path,
    finished: list[Finished],
    table: pd.DataFrame,
    timings: pd.DataFrame,
    notes: list[str],
) -> None:
    curves = tables.average_curves(tables.curves(finished))
    regions = average_regions(finished)
    text = tables.readable(table).to_markdown(index=False, disable_numparse=True)
    train, test, _ = RECIPES[finished[0].task.recipe].data(data_generator(finished[0].task.seed))
    write_files(
        folder,
        {
            "comparison.csv": lambda path: table.to_csv(path, index=False),
            "comparison.md": lambda path: path.write_text(
                text + "\n\n" + "\n\n".join(notes) + "\n", encoding="utf-8"
            ),
            "timings.csv": lambda path: timings.to_csv(path, index=False),
            "learning_curves.csv": lambda path: curves.to_csv(
                path, index=False, float_format="%.6g"
            ),
            "learning_curves.svg": lambda path: figures.save(figures.draw_curves(curves), path),
            "data.svg": lambda path: figures.save(figures.draw_data(train, test), path),
            "decision_regions.npz": lambda path: save_regions(regions, path),
            "decision_regions.svg": lambda path: figures.save(figures.draw_regions(regions), path),
        },
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = Console(width=None if sys.stdout.isatty() else 140), Console(stderr=True)
    if arguments.list:
        _list_recipes(out, arguments.json)
        return 0
    arguments.seeds = arguments.seeds or (2 if arguments.quick else 10)
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 21)
    settings = Settings(
        epochs=arguments.epochs or (QUICK_EPOCHS if arguments.quick else None),
        initialisation=arguments.initialisation,
        dtype=arguments.dtype,
        device=arguments.device,
        threads=arguments.threads,
    )
    conditions = {
        "torch": torch.__version__,
        "jobs": arguments.jobs,
        "rounds": arguments.rounds,
        **dataclasses.asdict(settings),
    }
    try:
        check_writable(arguments.output_dir)
        finished, timings = _run(arguments, settings, log)
        table = tables.summarise(tables.final_accuracies(finished), timings)
        verdict, agree = _verdict(table, arguments.initialisation == "recipe")
        notes = [*verdict, _conditions(conditions)]
        _write(arguments.output_dir, finished, table, timings, notes)
    except OutputFolderError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        log.print("compare.py: interrupted; earlier results are as they were")
        return 130
    if arguments.json:
        rows = json.loads(table.to_json(orient="records"))
        print(json.dumps({"conditions": conditions, "agree": agree, "table": rows}, indent=2))
    else:
        print_table(out, tables.readable(table))
        for note in notes:
            out.print(note, highlight=False)
        out.print(f"Tables and figures: {arguments.output_dir}", highlight=False)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
