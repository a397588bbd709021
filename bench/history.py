"""List the stored runs of compare.py, and export them as CSV or JSON."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from bench.cli.command_line import Parser, consoles, exit_codes, show
from bench.cli.files import OutputFolderError, check_writable, records, write_files
from bench.runs.store import FILE, RunStore, StoreError

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/history.py                                  list the runs in results/history.sqlite
  python bench/history.py --output-dir /tmp/float64
  python bench/history.py --export runs.csv                a row a run
  python bench/history.py --table curves --export curves.json
  python bench/history.py --table timings --export timings.csv
  python bench/history.py --json                           the list, for a program

exit codes:
  0  success    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe
"""

TABLES = {
    "runs": "a row a run: its settings, versions and machine, and its accuracies",
    "curves": "a row an epoch of a run: loss and accuracies",
    "timings": "a row a timing: recipe, part, round, side and its seconds",
}
FORMATS = (".csv", ".json")
# The list shows one row for runs that agree in these columns.
ALIKE = [
    *("recipe", "framework", "epochs", "initialization", "dtype", "device", "threads"),
    *("torch", "numpy", "processor", "sources"),
]


def _parser() -> Parser:
    parser = Parser(
        prog="history.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help=f"the folder that compare.py wrote to, with {FILE} (default: results)")  # fmt: skip
    add("--export", type=Path, metavar="FILE", help="write a whole table to FILE, .csv or .json")
    add("--table", choices=list(TABLES), default="runs",
        help="which one: " + "; ".join(f"{name}, {what}" for name, what in TABLES.items())
        + " (default: runs)")  # fmt: skip
    add("--json", action="store_true", help="print the list as JSON and nothing else")
    return parser


def _listed(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for all runs that differ only in seed and stack."""
    return (
        runs.groupby(ALIKE, sort=False)
        .agg(
            runs=("seed", "size"),
            seeds=("seed", "nunique"),
            test_accuracy_mean=("test_accuracy", "mean"),
            made=("made", "max"),
        )
        .reset_index()
    )


def _format_table(listed: pd.DataFrame) -> pd.DataFrame:
    """The list as a human-readable table, without columns that are constant."""
    shown = listed.assign(**{"test %": (100 * listed["test_accuracy_mean"]).map("{:.1f}".format)})
    same = [name for name in ALIKE[2:] if listed[name].nunique() == 1]
    return shown.drop(columns=[*same, "test_accuracy_mean"])


def _write_csv(frames: Iterator[pd.DataFrame], path: Path) -> int:
    """Write frames as they come, and return the number of rows."""
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for index, frame in enumerate(frames):
            frame.to_csv(file, index=False, header=index == 0)
            rows += len(frame)
    return rows


def _write_json(frames: Iterator[pd.DataFrame], path: Path) -> int:
    """Write a list of records as they come, one a line, and return their number."""
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for frame in frames:
            for record in records(frame):
                file.write(("," if rows else "") + "\n " + json.dumps(record))
                rows += 1
        file.write("\n]\n")
    return rows


def _damage(store: RunStore) -> list[str]:
    return [f"{len(store.damaged)} damaged rows are left out."] if store.damaged else []


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, _ = consoles()
    path, export = arguments.output_dir / FILE, arguments.export
    if export and export.suffix not in FORMATS:
        parser.error(f"--export: expected a name that ends in .csv or .json, got {str(export)!r}")
    if not path.is_file():
        parser.error(f"there is no store {str(path)!r}: compare.py writes it; see --output-dir")
    with parser.ending(StoreError, OutputFolderError), RunStore(path) as store:
        if export:
            check_writable(export.parent)
            write = _write_csv if export.suffix == ".csv" else _write_json
            rows = 0

            def written(file: Path) -> None:
                nonlocal rows
                rows = write(store.frames(arguments.table), file)

            write_files(export.parent, {export.name: written})
            show(out, f"{rows} rows of {arguments.table}: {export}", *_damage(store))
            return 0
        listed = _listed(store.table("runs"))
    if arguments.json:
        print(json.dumps(records(listed), indent=2))
    else:
        show(out, _format_table(listed), *_damage(store))
    return 0


if __name__ == "__main__":
    sys.exit(main())
