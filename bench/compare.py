"""The main job: the reports' recipes on minifw and on PyTorch, accuracy and time side by side."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress

from bench.accuracy.statistics import MARGIN, accuracy_statistics
from bench.cli.command_line import (
    Parser,
    at_least,
    consoles,
    cores,
    device,
    percent,
    positive,
    progress_bar,
    show,
)
from bench.cli.files import OutputFolderError, check_writable, markdown, records
from bench.cli.provenance import provenance
from bench.comparison.baseline import (
    BaselineError,
    changes,
    read_baseline,
    readable_changes,
    slower,
)
from bench.comparison.result import Comparison
from bench.page.files import UnreadableFileError
from bench.report import write_report
from bench.runs import tables
from bench.runs.cluster import ClusterError
from bench.runs.resume import resume
from bench.runs.store import FILE, History, HistoryError
from bench.runs.sweep import STACK, Settings, Task
from bench.timing.recipes import SIZED, TIMED, step_memory, summarize_speed, time_recipe
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES, Recipe
from reference.run import INITIALIZATIONS

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/compare.py                                  all recipes, on every core
  python bench/compare.py --quick                          a first look in half a minute
  python bench/compare.py --recipes relu-mse xavier-tanh --seeds 30
  python bench/compare.py --dtype float64 --epochs 50 --output-dir /tmp/float64
  python bench/compare.py --initialization default         each framework's own first weights
  python bench/compare.py --quick --json > table.json      the table, for a program
  python bench/compare.py --baseline before.json --fail-on-regression 10%
  python bench/compare.py --scheduler tcp://192.0.2.7:8786 the runs on a Dask cluster

Every finished run is kept at once in history.sqlite in the output folder. The same command, after
an interrupt or a crash, does only what is missing, and ends with the same table. bench/history.py
lists and exports what is kept.

exit codes:
  0  good    1  they differ    2  wrong usage    3  slower than allowed    130  interrupted
"""

DTYPES = ("float32", "float64")
# With so many the equivalence test has a power of at least 0.98 at a margin of 1 point: the paired
# differences scatter by 2 points where runs are chaotic, and by 1 at most elsewhere.
SEEDS, CHAOTIC = 20, {"xavier-tanh": 60}
QUICK_SEEDS, QUICK_EPOCHS = 2, 20
ROUNDS, QUICK_ROUNDS = 21, 6  # of fewer than 6 there is no interval


def _parser() -> Parser:
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
    add("--seeds", type=at_least(1), metavar="N",
        help=f"seeds 0 to N-1 (default: {SEEDS}, but "
        f"{', '.join(f'{number} of {name}' for name, number in CHAOTIC.items())}, whose runs are "
        f"chaotic; quick: {QUICK_SEEDS})")  # fmt: skip
    add("--epochs", type=at_least(1), metavar="N",
        help=f"epochs a run (default: each recipe's own; quick: {QUICK_EPOCHS})")  # fmt: skip
    add("--initialization", choices=INITIALIZATIONS, default="recipe",
        help="first weights: the recipe's, the same on both frameworks, or each framework's "
        "default (default: recipe)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="timed turns of each framework and of each again "
        f"(default: {ROUNDS}; quick: {QUICK_ROUNDS})")  # fmt: skip
    add("--margin", type=positive, default=MARGIN, metavar="POINTS",
        help="equivalence margin: points of accuracy that count as none "
        "(default: %(default)g)")  # fmt: skip
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
        help=f"{QUICK_SEEDS} seeds, {QUICK_EPOCHS} epochs, {QUICK_ROUNDS} rounds, "
        "unless given")  # fmt: skip
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
        show(console, pd.DataFrame(rows))


def _time(
    arguments: argparse.Namespace, settings: Settings, history: History, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time every recipe, and measure the memory of a step; nothing if one framework is alone."""
    recipes = [RECIPES[name] for name in arguments.recipes]
    if set(arguments.frameworks) != set(FRAMEWORKS):
        recipes = []
    bar = progress.add_task("timing", total=len(recipes))
    # One process at a time, nothing beside it; the sweep's, which have all imported and warm.
    one_by_one = Parallel(n_jobs=arguments.jobs, pre_dispatch=1, return_as="generator")
    rounds, memory = [], []
    for timed, sizes in one_by_one(
        delayed(_measure)(recipe, arguments.rounds, settings) for recipe in recipes
    ):
        history.add_timings(timed[timed["wrong"] == ""].drop(columns="wrong"), settings)
        rounds.append(timed)
        memory.append(sizes)
        progress.advance(bar)
    return (
        pd.concat(rounds, ignore_index=True) if rounds else pd.DataFrame(columns=TIMED),
        pd.concat(memory, ignore_index=True) if memory else pd.DataFrame(columns=SIZED),
    )


def _measure(recipe: Recipe, rounds: int, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    return time_recipe(recipe, rounds, settings), step_memory(recipe, settings)


def _run(arguments: argparse.Namespace, settings: Settings, log: Console) -> Comparison:
    """Do all runs and all timings, under a progress bar, and keep them in the history."""
    tasks = [
        Task(recipe, framework, seed)
        for recipe in arguments.recipes
        for framework in arguments.frameworks
        for seed in range(arguments.seeds or CHAOTIC.get(recipe, SEEDS))
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
        rounds, memory = _time(arguments, settings, history, progress)
    conditions = {
        **dataclasses.asdict(settings),
        "margin": arguments.margin,
        "jobs": arguments.jobs,
        "rounds": arguments.rounds,
        "seeds": arguments.seeds,
        "runs": len(finished),
        "runs_from_history": taken,
    }
    return Comparison(
        finished=finished,
        rounds=rounds,
        accuracy=accuracy_statistics(
            tables.final_accuracies(finished), arguments.margin, settings.epochs is None
        ),
        speed=summarize_speed(rounds, memory),
        conditions=conditions,
        provenance=provenance() | {"threads": str(arguments.threads)},
    )


def _compare(arguments: argparse.Namespace, out: Console, log: Console) -> int:
    """Do what the arguments ask for, and return the exit code."""
    settings = Settings(
        epochs=arguments.epochs or (QUICK_EPOCHS if arguments.quick else None),
        initialization=arguments.initialization,
        dtype=arguments.dtype,
        device=arguments.device,
        threads=arguments.threads,
    )
    check_writable(arguments.output_dir)
    if arguments.baseline:
        baseline = read_baseline(arguments.baseline, settings, arguments.recipes)
    comparison = _run(arguments, settings, log)
    values, shown, notes = comparison.as_dict(), [comparison.table()], comparison.sentences()
    regressions = []
    if arguments.baseline:
        changed = changes(baseline, comparison.accuracy, comparison.speed)
        values["changes"] = records(changed)
        shown.append(readable_changes(changed))
        if arguments.fail_on_regression is not None:
            regressions = slower(changed, arguments.fail_on_regression)
            notes.append(
                f"Slower than the baseline by more than {arguments.fail_on_regression:.3g} of its "
                f"speed relative to PyTorch's: {', '.join(regressions) or 'none'}."
            )
    comparison.write(arguments.output_dir, markdown(*shown, *notes), values)
    write_report(arguments.output_dir)
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        show(out, *shown, *notes, f"Page, tables and figures: {arguments.output_dir}")
    return 1 if not comparison.same else 3 if regressions else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    if arguments.list:
        _list_recipes(out, arguments.json)
        return 0
    if arguments.fail_on_regression is not None and arguments.baseline is None:
        parser.error("--fail-on-regression needs a --baseline to compare with")
    if arguments.baseline and set(arguments.frameworks) != set(FRAMEWORKS):
        parser.error("--baseline compares minifw's speed with PyTorch's: leave out --frameworks")
    arguments.seeds = arguments.seeds or (QUICK_SEEDS if arguments.quick else None)
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    refused = OutputFolderError, BaselineError, HistoryError, ClusterError, UnreadableFileError
    with parser.ending(*refused, left="the same command goes on from the runs that are done"):
        return _compare(arguments, out, log)


if __name__ == "__main__":
    sys.exit(main())
