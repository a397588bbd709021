"""The table of torch versions: tests, verdicts and speed-up in each.

`tox -e torch24,torch28,torch213,torch215` writes a folder a version: the tests' tests.xml,
verify.py's verification.csv and compare.py's comparison.json.
"""

import argparse
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.cli.command_line import Parser, consoles, exit_codes, show
from bench.cli.files import (
    Content,
    OutputFolderError,
    check_writable,
    markdown,
    records,
    write_files,
)
from minifw.testing.example import DTYPES
from reference.torch_changes import CHANGES

__all__ = ["main", "read_versions"]

EPILOG = """\
examples:
  tox -e torch24,torch28,torch213,torch215         run everything in each version
  python bench/torch_versions.py                   the table from .tox/versions
  python bench/torch_versions.py --json            the table, for a program

exit codes:
  0  success    1  a test or a verdict failed in a version    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe
"""


class NoVersionsError(ValueError):
    """The folder holds no version, or an incomplete one."""


def _parser() -> Parser:
    parser = Parser(
        prog="torch_versions.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=Path(".tox/versions"), metavar="FOLDER",
        help="where tox wrote a folder a version (default: %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for the tables (default: results)")  # fmt: skip
    add("--json", action="store_true", help="print the table as JSON and nothing else")
    return parser


def _read(folder: Path) -> dict[str, Any]:
    """The row of one version."""
    suite = ET.parse(folder / "tests.xml").find("testsuite")
    if suite is None:
        raise ValueError("tests.xml has no testsuite")
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    verification = pd.read_csv(folder / "verification.csv")
    comparison = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    speed = pd.DataFrame(comparison["speed"])
    ratios = speed.loc[speed["part"] == "epoch", "ratio"]
    return {
        "torch": comparison["provenance"]["torch"],
        "tests passed": counts["tests"] - sum(counts[n] for n in ("failures", "errors", "skipped")),
        "failed": counts["failures"] + counts["errors"],
        "skipped": counts["skipped"],
        "units verified": int((verification["status"] == "PASSED").sum()),
        "not passed": int((verification["status"] != "PASSED").sum()),
        **{f"error in {dtype}": verification[f"of bound in {dtype}"].max() for dtype in DTYPES},
        "smallest ratio": ratios.min(),
        "median ratio": ratios.median(),
        "largest ratio": ratios.max(),
        "processor": comparison["provenance"]["processor"],
        "date": comparison["provenance"]["date"],
    }


def read_versions(folder: Path) -> pd.DataFrame:
    """One row a version of torch, in ascending order.

    Raises:
        NoVersionsError: there is none, or the files of a version are incomplete.
    """
    remedy = "run tox -e torch24,torch28,torch213,torch215 first"
    rows = []
    for version in sorted(folder.glob("*/")):
        try:
            rows.append(_read(version))
        except (OSError, ValueError, LookupError, ET.ParseError) as error:
            reason = " ".join(str(error).split())
            raise NoVersionsError(f"{str(version)!r} is incomplete ({reason}); {remedy}") from None
    if not rows:
        raise NoVersionsError(f"no version of torch in {str(folder)!r}; {remedy}")
    order = [tuple(int(part) for part in row["torch"].split("+")[0].split(".")) for row in rows]
    return pd.DataFrame([row for _, row in sorted(zip(order, rows, strict=True))])


def _format_table(table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable table."""
    errors = table.filter(like="error in").map(
        lambda share: "" if pd.isna(share) else f"{share:.0%}"
    )
    return pd.DataFrame(
        {
            "torch": table["torch"],
            "tests passed": table["tests passed"],
            "failed": table["failed"],
            "skipped": table["skipped"],
            "verified": table["units verified"],
            "not passed": table["not passed"],
            **errors,
            "speed-up over PyTorch": [
                f"{row['median ratio']:.2f} ({row['smallest ratio']:.2f} to "
                f"{row['largest ratio']:.2f})"
                for _, row in table.iterrows()
            ],
        }
    )


def _notes(table: pd.DataFrame) -> list[str]:
    """What the table means, and what was not compared in which version."""
    return [
        "An error is the largest of all verdicts, in percent of the bound of its example. The "
        "speed-up over PyTorch is of an epoch: the median over the recipes, with the smallest and "
        "the largest, of a short run on "
        f"{table['processor'].iloc[0]}, {table['date'].iloc[0]}.",
        *(
            f"Missing in {'.'.join(map(str, change.missing_in))} and earlier, so not compared "
            f"there: {change.what}."
            for change in CHANGES.values()
        ),
    ]


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    with parser.ending(NoVersionsError, OutputFolderError):
        table = read_versions(arguments.folder)
        check_writable(arguments.output_dir)
    shown, notes = _format_table(table), _notes(table)
    files: dict[str, Content] = {
        "torch_versions.csv": table,
        "torch_versions.md": markdown(shown, *notes),
    }
    write_files(arguments.output_dir, files)
    if arguments.json:
        print(json.dumps(records(table), indent=2))
    else:
        show(consoles()[0], shown, *notes)
    return 1 if (table[["failed", "not passed"]] > 0).any(axis=None) else 0


if __name__ == "__main__":
    sys.exit(main())
