"""Profile a training step: each call of torch, all calls alone, and the rest.

The calls are recorded with their arguments in a step of another model, then repeated alone and
timed interleaved with whole steps that are not observed. For minifw they are the calls from Python;
for PyTorch, where autograd makes most calls, the ATen operations below it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from bench.cli.command_line import Parser, at_least, consoles, exit_codes, progress_bar, show
from bench.cli.files import (
    Content,
    OutputFolderError,
    check_writable,
    markdown,
    records,
    write_files,
)
from bench.timing.dispatched_calls import record_calls, record_operations
from bench.timing.interleave import in_fresh_process
from minifw.data import batches
from minifw.testing.timing.rounds import interleave
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/profile_step.py                             relu-mse, on minifw and PyTorch
  python bench/profile_step.py softmax-residual --output-dir /tmp/profile
  python bench/profile_step.py --quick --json > profile.json

exit codes:
  0  success    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

STEP = "whole step"
FLOOR = "all calls alone"
REST = "rest: Python, and autograd if there is one"
REPEATS = 20  # of a step, or of all calls; a single call is repeated ten times as often


def _parser() -> Parser:
    parser = Parser(
        prog="profile_step.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", nargs="?", choices=list(RECIPES), default="relu-mse", metavar="RECIPE",
        help="one of those that compare.py --list shows (default: %(default)s)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="rounds: one trial of the step and of each call (default: 51; quick: 5)")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for the tables (default: results)")  # fmt: skip
    add("--quick", action="store_true", help="5 rounds, unless given")
    add("--json", action="store_true", help="print the table as JSON and nothing else")
    return parser


def _step(recipe: str, framework: str) -> Callable[[], object]:
    """One training step on the first batch, of a new model that has made one step."""
    run = prepare(RECIPES[recipe], FRAMEWORKS[framework], seed=0)
    batch = next(batches(run.train, run.recipe.batch_size, run.batch_order))
    model_and_optimizer = (run.model, run.criterion, run.optimizer)
    step = partial(run.framework.train_step, *model_and_optimizer, *batch)
    step()  # the set-up in a first step is not part of a step
    return step


def _time(calls: list[Callable[[], object]], repeats: int) -> float:
    """Microseconds that ``calls`` take together, with warm caches."""
    for call in calls:
        call()
    start = time.perf_counter()
    for _ in range(repeats):
        for call in calls:
            call()
    return 1e6 * (time.perf_counter() - start) / repeats


def _time_alone(calls: list[Callable[[], object]], repeats: int) -> float:
    """The same in inference mode: calls of minifw and ATen operations need no autograd."""
    with torch.inference_mode():
        return _time(calls, repeats)


def _profile(recipe: str, framework: str, rounds: int) -> pd.DataFrame:
    """One row a kind of call, slowest first, then all calls, the rest and the whole step.

    Returns:
        Columns: framework, part; calls a step; median and quartiles of the microseconds a step;
        "share" of the whole step.
    """
    torch.set_num_threads(1)
    record = record_calls if framework == "minifw" else record_operations
    calls = record(_step(recipe, framework))
    kinds: dict[str, list[Callable[[], object]]] = {}
    for call in calls:
        kinds.setdefault(call.name, []).append(call.repeat)
    trials = {
        kind: partial(_time_alone, repeats, 10 * REPEATS) for kind, repeats in kinds.items()
    } | {
        FLOOR: partial(_time_alone, [call.repeat for call in calls], REPEATS),
        STEP: partial(_time, [_step(recipe, framework)], REPEATS),
    }
    times = pd.DataFrame(interleave(trials, rounds))
    times[REST] = times[STEP] - times[FLOOR]
    table = times.quantile([0.5, 0.25, 0.75]).T.set_axis(["us", "us_q1", "us_q3"], axis="columns")
    numbers = {kind: len(repeats) for kind, repeats in kinds.items()} | {FLOOR: len(calls)}
    table.insert(0, "calls", pd.Series(numbers))
    table["share"] = table["us"] / times[STEP].median()
    slowest = table.loc[list(kinds)].sort_values("us", ascending=False).index
    table = table.loc[[*slowest, FLOOR, REST, STEP]].rename_axis("part").reset_index()
    table.insert(0, "framework", framework)
    return table


def _format_table(table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable table: microseconds of one call and of all calls of a kind."""
    each = table["us"] / table["calls"]
    return pd.DataFrame(
        {
            "framework": table["framework"],
            "part": table["part"],
            "calls": table["calls"].map("{:.0f}".format).where(table["calls"].notna(), ""),
            "µs each": each.map("{:.2f}".format).where(each.notna(), ""),
            "µs a step": table["us"].map("{:.1f}".format),
            "quartiles": table["us_q1"].map("{:.1f}".format)
            + "-"
            + table["us_q3"].map("{:.1f}".format),
            "%": (100 * table["share"]).map("{:.0f}".format),
        }
    )


def _notes(recipe: str, rounds: int) -> list[str]:
    """How it was measured, in sentences."""
    return [
        f"One training step of {recipe}, batch {RECIPES[recipe].batch_size}, float32, on one "
        f"thread and core, torch {torch.__version__}.",
        f"Medians over {rounds} rounds, in which the step, each kind of call and all calls are "
        "timed interleaved; the rest is the step minus all calls, within a round.",
        "The calls were recorded with their arguments in a step of another model and are repeated "
        "on the same tensors, in inference mode; the step that is timed is not observed.",
        "minifw: the calls from Python. pytorch: the ATen operations below autograd, except "
        "detach. PyTorch calls most of them from C++; from Python, as here, each takes about 0.5 "
        "µs longer, so its rest is larger than shown.",
    ]


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    rounds = arguments.rounds or (5 if arguments.quick else 51)
    with parser.ending(OutputFolderError):
        check_writable(arguments.output_dir)
        with progress_bar(log, "frameworks") as progress:
            tables = [
                in_fresh_process(1, _profile, arguments.recipe, framework, rounds)
                for framework in progress.track(FRAMEWORKS, description="profiling")
            ]
        table = pd.concat(tables, ignore_index=True)
        notes = _notes(arguments.recipe, rounds)
        files: dict[str, Content] = {
            "profile.csv": table,
            "profile.md": markdown(_format_table(table), *notes),
        }
        write_files(arguments.output_dir, files)
    if arguments.json:
        printed = {
            "recipe": arguments.recipe,
            "torch": torch.__version__,
            "rounds": rounds,
            "table": records(table),
        }
        print(json.dumps(printed, indent=2))
    else:
        show(out, _format_table(table), *notes, f"Tables: {arguments.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
