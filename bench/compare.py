"""The main job: the reports' recipes on minifw and on PyTorch, accuracy and time side by side."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress

from bench import figures, tables
from bench.baseline import BaselineError, changes, read_baseline, readable_changes, slower
from bench.cluster import ClusterError
from bench.command_line import Parser, at_least, cores, device, percent, print_table, progress_bar
from bench.output import OutputFolderError, check_writable, records, write_files
from bench.provenance import describe, provenance
from bench.regions import average_regions, save_regions
from bench.resume import resume
from bench.store import FILE, History, HistoryError
from bench.sweep import STACK, Finished, Settings, Task
from bench.timing import time_epochs
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import INITIALISATIONS, data_generator

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/compare.py                                  all recipes, 20 seeds, on every core
  python bench/compare.py --quick                          a first look in half a minute
  python bench/compare.py --recipes relu-mse xavier-tanh --seeds 30
  python bench/compare.py --dtype float64 --epochs 50 --output-dir /tmp/float64
  python bench/compare.py --initialisation default         each framework's own first weights
  python bench/compare.py --quick --json > table.json      the table, for a program
  python bench/compare.py --baseline before.json --fail-on-regression 10%
  python bench/compare.py --scheduler tcp://192.0.2.7:8786 the runs on a Dask cluster

Every finished run is kept at once in history.sqlite in the output folder. The same command, after
an interrupt or a crash, does only what is missing, and ends with the same table. bench/history.py
lists and exports what is kept.

exit codes:
  0  good    1  accuracies differ    2  wrong usage    3  slower than allowed    130  interrupted
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
    add("--seeds", type=at_least(1), metavar="N", help="seeds 0 to N-1 (default: 20; quick: 2)")
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
    add("--scheduler", metavar="ADDRESS",
        help="do the runs on the workers of the Dask scheduler at ADDRESS; the timings are made "
        "here")  # fmt: skip
    add("--device", type=device, default="cpu", help="torch device (default: cpu)")
    add("--dtype", choices=DTYPES, default="float32", help="default: float32")
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and figures (default: results)")  # fmt: skip
    add("--fresh", action="store_true",
        help="do all runs anew; they replace the same ones in the history")  # fmt: skip
    add("--baseline", type=Path, metavar="FILE",
        help="show what has changed since an earlier comparison.json")  # fmt: skip
    add("--fail-on-regression", type=percent, metavar="PERCENT",
        help="exit with 3 if, in any recipe, minifw's speed relative to PyTorch's is lower than "
        "the baseline's by more than PERCENT, all of its 95%% interval included")  # fmt: skip
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


def _timings(
    arguments: argparse.Namespace, settings: Settings, history: History, progress: Progress
) -> pd.DataFrame:
    """Seconds of an epoch: a row a recipe and round, a column a framework."""
    bar = progress.add_task("timing", total=100)
    # One process at a time, nothing beside it; the sweep's, which have all imported and warm.
    one_by_one = Parallel(n_jobs=arguments.jobs, pre_dispatch=1, return_as="generator")
    timed = one_by_one(
        delayed(time_epochs)(recipe, arguments.frameworks, arguments.rounds, settings)
        for recipe in arguments.recipes
    )
    timings = []
    for recipe, rounds in zip(arguments.recipes, timed, strict=True):
        of_recipe = pd.DataFrame(rounds).assign(
            recipe=recipe, part="epoch", round=range(len(rounds))
        )
        history.add_timings(
            of_recipe.melt(["recipe", "part", "round"], var_name="side", value_name="seconds"),
            settings,
        )
        timings.append(of_recipe[["recipe", *arguments.frameworks]])
        progress.advance(bar, 100 / len(arguments.recipes))
    return pd.concat(timings, ignore_index=True)


def _run(
    arguments: argparse.Namespace, settings: Settings, log: Console
) -> tuple[list[Finished], int, pd.DataFrame]:
    """Do all runs and all timings, under a progress bar, and keep them in the history.

    Returns the runs, how many of them are from the history, and the timings.
    """
    tasks = [
        Task(recipe, framework, seed)
        for recipe in arguments.recipes
        for framework in arguments.frameworks
        for seed in range(arguments.seeds)
    ]
    with (
        History(arguments.output_dir / FILE, arguments.fresh) as history,
        progress_bar(log, "%") as progress,
    ):
        if history.put_aside:
            log.print(f"compare.py: the earlier history is now {history.put_aside}")
        finished, taken = resume(
            tasks,
            settings,
            history,
            progress,
            arguments.jobs,
            arguments.scheduler,
            arguments.fresh,
        )
        timings = _timings(arguments, settings, history, progress)
    return finished, taken, timings


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


def _made(conditions: dict[str, Any], made: dict[str, str]) -> list[str]:
    """How and on what the table was made, in sentences."""
    epochs = conditions["epochs"] or "each recipe's own number of"
    history = conditions["runs_from_history"]
    return [
        f"Run with torch {made['torch']}, {conditions['dtype']} on {conditions['device']}, "
        f"{conditions['jobs']} process(es) of {conditions['threads']} thread(s), {epochs} epochs, "
        f"{conditions['rounds']} timed epochs, first weights by {conditions['initialisation']}. "
        f"minifw trained the seeds of a recipe as stacks of up to {STACK}; the times are those of "
        "one network.",
        describe(made),
        *(
            [f"Taken from history: {history} of {conditions['runs']} runs; --fresh does them anew."]
            if history
            else []
        ),
    ]


def _write(
    folder: Path,
    finished: list[Finished],
    table: pd.DataFrame,
    timings: pd.DataFrame,
    text: str,
    comparison: dict[str, Any],
) -> None:
    curves = tables.average_curves(tables.curves(finished))
    regions = average_regions(finished)
    train, test, _ = RECIPES[finished[0].task.recipe].data(data_generator(finished[0].task.seed))
    write_files(
        folder,
        {
            "comparison.csv": lambda path: table.to_csv(path, index=False),
            "comparison.md": lambda path: path.write_text(text, encoding="utf-8"),
            "comparison.json": lambda path: path.write_text(
                json.dumps(comparison, indent=2) + "\n", encoding="utf-8"
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


def _compare(arguments: argparse.Namespace, out: Console, log: Console) -> int:
    """Do what the arguments ask for, and return the exit code."""
    settings = Settings(
        epochs=arguments.epochs or (QUICK_EPOCHS if arguments.quick else None),
        initialisation=arguments.initialisation,
        dtype=arguments.dtype,
        device=arguments.device,
        threads=arguments.threads,
    )
    check_writable(arguments.output_dir)
    if arguments.baseline:
        baseline = read_baseline(arguments.baseline, settings, arguments.recipes)
    finished, taken, timings = _run(arguments, settings, log)
    table = tables.summarise(tables.final_accuracies(finished), timings)
    verdict, agree = _verdict(table, arguments.initialisation == "recipe")
    conditions = {
        **dataclasses.asdict(settings),
        "jobs": arguments.jobs,
        "rounds": arguments.rounds,
        "seeds": arguments.seeds,
        "runs": len(finished),
        "runs_from_history": taken,
    }
    made = provenance() | {"threads": str(arguments.threads)}
    comparison = {
        "conditions": conditions,
        "provenance": made,
        "agree": agree,
        "table": records(table),
    }
    shown, regressions = [tables.readable(table)], []
    notes = [*verdict, *_made(conditions, made)]
    if arguments.baseline:
        changed = changes(baseline, table)
        comparison["changes"] = records(changed)
        shown.append(readable_changes(changed))
        if arguments.fail_on_regression is not None:
            regressions = slower(changed, arguments.fail_on_regression)
            notes.append(
                f"Slower than the baseline by more than {arguments.fail_on_regression:.3g} of its "
                f"speed relative to PyTorch's: {', '.join(regressions) or 'none'}."
            )
    texts = [frame.to_markdown(index=False, disable_numparse=True) for frame in shown]
    _write(
        arguments.output_dir,
        finished,
        table,
        timings,
        "\n\n".join([*texts, *notes]) + "\n",
        comparison,
    )
    if arguments.json:
        print(json.dumps(comparison, indent=2))
    else:
        for frame in shown:
            print_table(out, frame)
        for note in notes:
            out.print(note, highlight=False)
        out.print(f"Tables and figures: {arguments.output_dir}", highlight=False)
    return 1 if not agree else 3 if regressions else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = Console(width=None if sys.stdout.isatty() else 140), Console(stderr=True)
    if arguments.list:
        _list_recipes(out, arguments.json)
        return 0
    if arguments.fail_on_regression is not None and arguments.baseline is None:
        parser.error("--fail-on-regression needs a --baseline to compare with")
    if arguments.baseline and set(arguments.frameworks) != set(FRAMEWORKS):
        parser.error("--baseline compares minifw's speed with PyTorch's: leave out --frameworks")
    arguments.seeds = arguments.seeds or (2 if arguments.quick else 20)
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 21)
    try:
        return _compare(arguments, out, log)
    except (OutputFolderError, BaselineError, HistoryError, ClusterError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        log.print("compare.py: interrupted; the same command goes on from the runs that are done")
        return 130


if __name__ == "__main__":
    sys.exit(main())
