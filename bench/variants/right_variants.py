"""Every right variant through verify: what does not pass is a false alarm."""

from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.catalog.verdicts import verify_all
from bench.cli.files import markdown, write_files
from bench.variants import VARIANTS
from minifw.testing import Status

__all__ = ["describe_variants", "false_alarms", "right_variants", "write_right_variants"]


def right_variants(jobs: int, console: Console) -> pd.DataFrame:
    """Verify every variant in ``jobs`` processes: the table of ``verify_all``."""
    return verify_all(VARIANTS, jobs, console, "variant")


def false_alarms(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`right_variants` that did not pass."""
    return table[table["status"] != Status.PASSED]


def describe_variants(table: pd.DataFrame) -> str:
    """How many passed, in a sentence."""
    passed = len(table) - len(false_alarms(table))
    return f"{passed} of {len(table)} right variants PASSED, each under the contract that fits it."


def write_right_variants(table: pd.DataFrame, folder: Path) -> None:
    """Write right_variants.csv and .md."""
    text = markdown(
        "# Right variants",
        f"{describe_variants(table)} What did not is a false alarm.",
        table.round({"seconds": 1}).astype(str),
    )
    write_files(folder, {"right_variants.csv": table, "right_variants.md": text})
