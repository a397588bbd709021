"""Every mistake of the catalog through verify: what passes is a hole in the harness."""

from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.catalog.verdicts import verify_all
from bench.cli.files import markdown, write_files
from bench.mistakes import MISTAKES
from minifw.testing import Status

__all__ = ["describe_subjects", "missed", "new_misses", "write_wrong_subjects", "wrong_subjects"]


def wrong_subjects(jobs: int, console: Console) -> pd.DataFrame:
    """Verify every mistake in ``jobs`` processes.

    Returns:
        The table of ``verify_all``, and the columns "clause" (the one meant to find it), "by its
        clause" (whether that is among the broken: "yes" or "no") and "known miss" (why it is not
        found yet).
    """
    table = verify_all(MISTAKES, jobs, console, "mistake")
    clauses = [row.clause for row in MISTAKES]
    found = [c in b.split(", ") for c, b in zip(clauses, table["broken"], strict=True)]
    table.insert(2, "clause", clauses)
    table.insert(5, "by its clause", ["yes" if by_it else "no" for by_it in found])
    table["known miss"] = [row.missed for row in MISTAKES]
    return table


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`wrong_subjects` that passed."""
    return table[table["status"] == Status.PASSED]


def new_misses(table: pd.DataFrame) -> list[str]:
    """The names of those that passed and of which that was not known."""
    return list(missed(table).query("`known miss` == ''")["mistake"])


def describe_subjects(table: pd.DataFrame) -> str:
    """How many were found, and the names of the others."""
    names = list(missed(table)["mistake"])
    by_clause = (table["by its clause"] == "yes").sum()
    found = f"{len(table) - len(names)} of {len(table)} wrong subjects found"
    return (
        f"{found}, {by_clause} of them by the clause that they break"
        f"{'; missed: ' + '; '.join(names) if names else ''}."
    )


def write_wrong_subjects(table: pd.DataFrame, folder: Path) -> None:
    """Write wrong_subjects.csv and .md."""
    text = markdown(
        "# Wrong subjects",
        f"{describe_subjects(table)} What PASSED is a hole in the harness.",
        table.round({"seconds": 1}).astype(str),
    )
    write_files(folder, {"wrong_subjects.csv": table, "wrong_subjects.md": text})
