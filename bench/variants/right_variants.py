"""Every right variant through verify: what does not pass is a false alarm."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from joblib import delayed
from rich.console import Console

from bench.cli.command_line import progress_bar
from bench.cli.files import markdown, write_files
from bench.cli.workers import workers
from bench.variants import VARIANTS, Variant
from minifw.testing import Report, Status
from minifw.testing.verification import verify_comparison

__all__ = [
    "describe_variants",
    "false_alarms",
    "right_variants",
    "verify_variant",
    "write_right_variants",
]

EXAMPLES = 20  # of the fuzzer, on each variant


def verify_variant(row: Variant, max_examples: int = EXAMPLES) -> Report:
    """Verify one variant under its contract."""
    return verify_comparison(
        row.comparison(),
        contract=row.contract,
        allow=row.allow,
        dtypes=row.dtypes,
        max_examples=max_examples,
    )


def right_variants(
    jobs: int, console: Console, rows: Sequence[int] = range(len(VARIANTS))
) -> pd.DataFrame:
    """Verify every variant.

    Args:
        jobs: processes.
        console: where to draw the progress.
        rows: places in the catalog. Default: all.

    Returns:
        A row a variant: "family", "variant", "contract", "status", "broken" (the clauses that
        decide and are not kept), "reason" and "seconds".
    """
    parallel = workers(jobs, return_as="generator")
    found = []
    with progress_bar(console, "variants") as bar:
        task = bar.add_task("right variants", total=len(rows))
        for result in parallel(delayed(_row)(place) for place in rows):
            found.append(result)
            bar.advance(task)
    return pd.DataFrame(found)


def _row(place: int) -> dict[str, object]:
    torch.set_num_threads(1)
    row, start = VARIANTS[place], time.perf_counter()
    result = {"family": row.family, "variant": row.name, "contract": row.contract}
    with warnings.catch_warnings(action="ignore"):
        try:
            report = verify_variant(row)
            broken = [c for c in report.clauses if c.decides and c.state == "broken"]
            status, clauses = str(report.status), ", ".join(c.name for c in broken)
            reason = broken[0].reason if broken else ""
        except Exception as error:  # an alarm of the engine too
            status, clauses, reason = "ERROR", "", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return result | {"status": status, "broken": clauses, "reason": reason, "seconds": seconds}


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
