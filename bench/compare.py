"""The main command: the reports' recipes on minifw and on PyTorch, accuracy and time compared."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from joblib import delayed
from rich.console import Console
from rich.progress import Progress

from bench.accuracy.statistics import MARGIN, accuracy_statistics
from bench.cli.command_line import (
    Parser,
    at_least,
    consoles,
    cores,
    device,
    exit_codes,
    percent,
    positive,
    progress_bar,
    show,
)
from bench.cli.files import OutputFolderError, check_writable, markdown, records
from bench.cli.provenance import provenance
from bench.cli.workers import workers
from bench.comparison.baseline import (
    BaselineError,
    changes,
    format_changes,
    read_baseline,
    slower,
)
from bench.comparison.result import Result
from bench.page.files import UnreadableFileError
from bench.report import write_report
from bench.runs import tables
from bench.runs.cluster import ClusterError
from bench.runs.resume import resume
from bench.runs.store import FILE, RunStore, StoreError
from bench.runs.sweep import STACK, Settings, Task
from bench.timing.recipes import SIZED, TIMED, step_memory, summarize_speed, time_recipe
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES, Recipe
from reference.run import INITIALIZATIONS

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/compare.py                                  all recipes, on every core
  python bench/compare.py --quick                          finishes in half a minute
  python bench/compare.py --recipes relu-mse xavier-tanh --seeds 30
  python bench/compare.py --dtype float64 --epochs 50 --output-dir /tmp/float64
  python bench/compare.py --initialization default         each framework's own initial weights
  python bench/compare.py --quick --json > table.json      the table, for a program
  python bench/compare.py --baseline before.json --fail-on-regression 10%
  python bench/compare.py --scheduler tcp://192.0.2.7:8786 the runs on a Dask cluster

Every finished run is stored at once in history.sqlite in the output folder. After an interrupt or a
crash, the same command makes only the missing runs and prints the same table. bench/history.py
lists and exports the stored runs.

exit codes:
  0  equal    1  different    2  wrong usage    3  slower than allowed
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

DTYPES = ("float32", "float64")
# Enough for the equivalence test to have a power of at least 0.98 at a margin of 1 percentage
# point: paired differences have a standard deviation of 2 where runs are chaotic, of at most 1
# elsewhere.
SEEDS, CHAOTIC = 20, {"xavier-tanh": 60}
QUICK_SEEDS, QUICK_EPOCHS = 2, 20
JOBS = 8  # the most for each core: more fill the memory and are slower
ROUNDS, QUICK_ROUNDS = 21, 6  # fewer than 6 have no interval


def _parser() -> Parser:
    parser = Parser(
        prog="compare.py",
        description=__doc__,
        epilog=EPILOG,
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
        help="initial weights: the recipe's, the same on both frameworks, or each framework's "
        "default (default: recipe)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="rounds of timing, in each of which every framework is timed twice "
        f"(default: {ROUNDS}; quick: {QUICK_ROUNDS})")  # fmt: skip
    add("--margin", type=positive, default=MARGIN, metavar="POINTS",
        help="equivalence margin in percentage points of accuracy "
        "(default: %(default)g)")  # fmt: skip
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s); minifw trains the seeds of a "
        f"recipe as stacks of up to {STACK}; timings are of one network")  # fmt: skip
    add("--threads", type=at_least(1), default=1, metavar="N",
        help="threads of torch in each (default: 1)")  # fmt: skip
    add("--scheduler", metavar="ADDRESS",
        help="make the runs on the workers of the Dask scheduler at ADDRESS; timings are made "
        "here")  # fmt: skip
    add("--device", type=device, default="cpu", help="torch device (default: cpu)")
    add("--dtype", choices=DTYPES, default="float32", help="default: float32")
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and figures (default: results)")  # fmt: skip
    add("--fresh", action="store_true",
        help="repeat all runs and replace the stored ones")  # fmt: skip
    add("--baseline", type=Path, metavar="FILE",
        help="show the changes since an earlier comparison.json")  # fmt: skip
    add("--fail-on-regression", type=percent, metavar="PERCENT",
        help="exit with 3 if the speed-up over PyTorch of any recipe, with its whole 95%% "
        "interval, is lower than the baseline's by more than PERCENT")  # fmt: skip
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
    arguments: argparse.Namespace, settings: Settings, store: RunStore, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time every recipe and measure the memory of a step; nothing for a single framework."""
    recipes = [RECIPES[name] for name in arguments.recipes]
    if set(arguments.frameworks) != set(FRAMEWORKS):
        recipes = []
    bar = progress.add_task("timing", total=len(recipes))
    # One process at a time; the sweep's processes, which have imported everything.
    one_by_one = workers(arguments.jobs, pre_dispatch=1, return_as="generator")
    rounds, memory = [], []
    for timed, sizes in one_by_one(
        delayed(_measure)(recipe, arguments.rounds, settings) for recipe in recipes
    ):
        store.add_timings(timed[timed["wrong"] == ""].drop(columns="wrong"), settings)
        rounds.append(timed)
        memory.append(sizes)
        progress.advance(bar)
    return (
        pd.concat(rounds, ignore_index=True) if rounds else pd.DataFrame(columns=TIMED),
        pd.concat(memory, ignore_index=True) if memory else pd.DataFrame(columns=SIZED),
    )


def _measure(recipe: Recipe, rounds: int, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    return time_recipe(recipe, rounds, settings), step_memory(recipe, settings)


def _run(arguments: argparse.Namespace, settings: Settings, log: Console) -> Result:
    """Make and store all runs and timings, under a progress bar."""
    tasks = [
        Task(recipe, framework, seed)
        for recipe in arguments.recipes
        for framework in arguments.frameworks
        for seed in range(arguments.seeds or CHAOTIC.get(recipe, SEEDS))
    ]
    with (
        RunStore(
            arguments.output_dir / FILE,
            "rename" if arguments.fresh else "rename damaged",
        ) as store,
        progress_bar(log, "%") as progress,
    ):
        if store.put_aside:
            log.print(
                f"compare.py: the earlier store could not be used and is now {store.put_aside}; "
                "its runs are repeated",
                soft_wrap=True,
            )
        finished, taken = resume(
            tasks,
            settings,
            store,
            progress,
            arguments.jobs,
            arguments.scheduler,
            arguments.fresh,
        )
        rounds, memory = _time(arguments, settings, store, progress)
    conditions = {
        **dataclasses.asdict(settings),
        "margin": arguments.margin,
        "jobs": arguments.jobs,
        "rounds": arguments.rounds,
        "seeds": arguments.seeds,
        "runs": len(finished),
        "runs_from_history": taken,
    }
    return Result(
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
    """Run the comparison that the arguments describe, and return the exit code."""
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
        shown.append(format_changes(changed))
        if arguments.fail_on_regression is not None:
            regressions = slower(changed, arguments.fail_on_regression)
            notes.append(
                f"Recipes whose speed-up over PyTorch fell by more than "
                f"{arguments.fail_on_regression:.3g} of the baseline's: "
                f"{', '.join(regressions) or 'none'}."
            )
    comparison.write(arguments.output_dir, markdown(*shown, *notes), values)
    write_report(arguments.output_dir)
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        show(out, *shown, *notes, f"Page, tables and figures: {arguments.output_dir}")
    return 1 if not comparison.same else 3 if regressions else 0


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    if arguments.list:
        _list_recipes(out, arguments.json)
        return 0
    if arguments.threads > cores():
        parser.error(f"--threads: at most one for each of the {cores()} cores")
    if arguments.jobs > JOBS * cores():
        parser.error(f"--jobs: at most {JOBS} for each of the {cores()} cores")
    if arguments.fail_on_regression is not None and arguments.baseline is None:
        parser.error("--fail-on-regression needs a --baseline to compare with")
    if arguments.baseline and set(arguments.frameworks) != set(FRAMEWORKS):
        parser.error("--baseline compares both frameworks: leave out --frameworks")
    arguments.seeds = arguments.seeds or (QUICK_SEEDS if arguments.quick else None)
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    refused = OutputFolderError, BaselineError, StoreError, ClusterError, UnreadableFileError
    with parser.ending(*refused, left="the same command resumes from the finished runs"):
        return _compare(arguments, out, log)


if __name__ == "__main__":
    sys.exit(main())
