"""How do other checkers of backward passes do on the same subjects, wrong and right?"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from bench import figures
from bench.cli.command_line import Parser, at_least, consoles, cores, progress_bar, show
from bench.cli.files import OutputFolderError, check_writable, markdown, records, write_files
from bench.cli.provenance import provenance
from bench.faults.checkers import CHECKERS, FAULTY, RIGHT, SUBJECTS, WRONG, put_before

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/checkers.py                     every subject, in half an hour on two cores
  python bench/checkers.py --quick             every tenth, in a few minutes
  python bench/checkers.py --every 4 --output-dir results

exit codes:
  0  done    2  wrong usage    4  the machine failed    130  interrupted
"""


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
            for several in parallel(delayed(put_before)(*subject) for subject in subjects):
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
