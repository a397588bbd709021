"""The page: everything in the output folder as one self-contained HTML file."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console

from bench import ROOT
from bench.cli.command_line import Parser, exit_codes, progress_bar
from bench.cli.files import OutputFolderError, check_writable, write_files
from bench.page.files import NoRowsError, UnreadableFileError, read_json
from bench.page.parts import PAGE_PARTS
from bench.page.summary import summary

__all__ = ["NothingToReportError", "main", "write_report"]

EPILOG = """\
examples:
  python bench/report.py                               results/report.html, from the files in
  results python bench/report.py --output-dir /tmp/float64     the page of another folder

exit codes:
  0  success    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

PAGE = "report.html"
# Verdicts in cells of tables are marked by shape and color.
MARKS = {
    "PASSED": ("good", "✓"),
    "FAILED": ("bad", "✕"),
    "ERROR": ("bad", "✕"),
    "MISTRUSTED": ("open", "?"),
    "equivalent": ("good", "✓"),
    "different": ("bad", "✕"),
    "inconclusive": ("open", "?"),
}


class NothingToReportError(ValueError):
    """The folder holds none of the files that the page is made from."""


def write_report(folder: Path) -> None:
    """Write report.html into ``folder``, from the other files in it.

    Raises:
        NothingToReportError: the folder holds no file for the page.
        UnreadableFileError: a file has unexpected content.
    """
    available = [part for part in PAGE_PARTS if part.file is None or (folder / part.file).is_file()]
    with progress_bar(Console(stderr=True), "parts") as progress:
        shown = {}
        for part in progress.track(available, description="drawing"):
            with contextlib.suppress(NoRowsError):
                shown[part.name] = part.show(folder)
    if not any(part.file and part.name in shown for part in PAGE_PARTS):
        raise NothingToReportError(
            f"there is nothing to report in {str(folder)!r}; python bench/compare.py writes "
            "results, into the folder that --output-dir names"
        )
    comparison = folder / "comparison.json"
    environment = Environment(
        loader=FileSystemLoader(ROOT / "bench" / "page" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(PAGE).render(
        parts=PAGE_PARTS,
        shown=shown,
        answers=summary(shown),
        marks=MARKS,
        made=read_json(comparison) if comparison.is_file() else {},
    )
    write_files(folder, {PAGE: lambda path: path.write_text(page, encoding="utf-8")})


def _parser() -> Parser:
    parser = Parser(
        prog="report.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder of the results and of the page (default: results)",
    )  # fmt: skip
    return parser


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    folder = parser.parse_args(argv).output_dir
    refused = OutputFolderError, NothingToReportError, UnreadableFileError
    with parser.ending(*refused, left="an earlier page is unchanged"):
        if not folder.is_dir():
            raise OutputFolderError(
                f"cannot write to the output folder {str(folder)!r} (there is no such folder); "
                "name that of the results with --output-dir"
            )
        check_writable(folder)
        write_report(folder)
    Console().print(f"Page: {folder / PAGE}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
