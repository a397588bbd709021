"""How do other checkers of backward passes do on the same subjects, wrong and right?"""

import argparse
import functools
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed

import minifw
from bench import figures
from bench.cli.command_line import Parser, at_least, consoles, cores, progress_bar, show
from bench.cli.files import OutputFolderError, check_writable, markdown, records, write_files
from bench.cli.provenance import provenance
from bench.faults import FAULTS
from bench.faults.checkers import CHECKERS
from bench.faults.kill_matrix import rows
from bench.mistakes import MISTAKES
from bench.variants import VARIANTS
from minifw.testing.case import Case
from reference.cases import of_case

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/checkers.py                     every subject, in half an hour on two cores
  python bench/checkers.py --quick             every tenth, in a few minutes
  python bench/checkers.py --every 4 --output-dir results

exit codes:
  0  done    2  wrong usage    4  the machine failed    130  interrupted
"""

FAULTY, WRONG, RIGHT = "faults in minifw", "wrong subjects", "right variants"
# Faults in optimizers, schedules and loops have no row in the table of layers and losses.
LAYER_FAULTS = [place for place, fault in enumerate(FAULTS) if fault.where.startswith("nn.")
                and rows(fault.where.removeprefix("nn."))]  # fmt: skip
SUBJECTS = [
    *((FAULTY, place) for place in LAYER_FAULTS),
    *((WRONG, place) for place in range(len(MISTAKES))),
    *((RIGHT, place) for place in range(len(VARIANTS))),
]


def _parser() -> Parser:
    parser = Parser(
        prog="checkers.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--every", type=at_least(1), default=1, metavar="N",
        help="every Nth subject of the catalogs (default: all)")  # fmt: skip
    add("--quick", action="store_true", help="every tenth")
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, metavar="DIR",
        help="write checkers.csv, .json, .md and .svg there")  # fmt: skip
    add("--json", action="store_true", help="print everything as JSON and nothing else")
    return parser


def _try(suite: str, place: int) -> list[dict[str, Any]]:
    """Put every checker before one subject, in a worker process."""
    torch.set_num_threads(1)
    found = []
    for name in CHECKERS:
        start = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):
            subject, objection = _objection(name, suite, place)
        seconds = time.perf_counter() - start
        found.append(
            {
                "suite": suite,
                "subject": subject,
                "checker": name,
                "objects": bool(objection),
                "objection": objection,
                "seconds": seconds,
            }
        )
    return found


def _objection(checker: str, suite: str, place: int) -> tuple[str, str]:
    """The subject's name, and what the checker objects to."""
    if suite != FAULTY:
        subject = (MISTAKES if suite == WRONG else VARIANTS)[place]
        return subject.name, CHECKERS[checker](subject.comparison())
    fault = FAULTS[place]
    nn = fault.framework().nn
    for case in rows(fault.where.removeprefix("nn.")):
        objection = CHECKERS[checker](of_case(case, nn))
        # What it says of the right layer too, it does not say of the fault.
        if objection and not _of_right(checker, case):
            return fault.name, objection
    return fault.name, ""


@functools.cache
def _of_right(checker: str, case: Case) -> str:
    return CHECKERS[checker](of_case(case, minifw.nn))


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """A row a checker: of each suite how many it objects to, and its median seconds a subject."""
    counts = table.groupby(["checker", "suite"], sort=False)["objects"].agg(["sum", "count"])
    shares = (counts["sum"].astype(str) + " of " + counts["count"].astype(str)).unstack()
    shares = shares.reindex(list(CHECKERS))
    seconds = table.groupby("checker")["seconds"].median().reindex(list(CHECKERS))
    return pd.DataFrame(
        {
            "checker": list(CHECKERS),
            "faults in minifw found": shares[FAULTY].to_numpy(),
            "wrong subjects found": shares[WRONG].to_numpy(),
            "right variants refused": shares[RIGHT].to_numpy(),
            "seconds a subject": seconds.map("{:.2f}".format).to_numpy(),
        }
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    subjects = SUBJECTS[:: 10 if arguments.quick else arguments.every]
    with parser.ending(OutputFolderError):
        if arguments.output_dir:
            check_writable(arguments.output_dir)
        parallel = Parallel(n_jobs=arguments.jobs, return_as="generator")
        found: list[dict[str, Any]] = []
        with progress_bar(log, "subjects") as bar:
            task = bar.add_task("checkers", total=len(subjects))
            for several in parallel(delayed(_try)(*subject) for subject in subjects):
                found += several
                bar.advance(task)
        table = pd.DataFrame(found)
        summary = summarize(table)
        if arguments.json:
            print(json.dumps({"summary": records(summary), "subjects": records(table)}, indent=2))
        else:
            show(out, summary)
        if arguments.output_dir:
            figure = figures.draw_checkers(table)
            made = {"provenance": provenance(), "summary": records(summary)}
            write_files(
                arguments.output_dir,
                {
                    "checkers.csv": table,
                    "checkers.json": json.dumps(made, indent=2) + "\n",
                    "checkers.md": markdown(
                        "# Other checkers on the same subjects",
                        f"{len(subjects)} of {len(SUBJECTS)} subjects of the catalogs.",
                        summary,
                    ),
                    "checkers.svg": lambda path: figures.save(figure, path),
                },
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
