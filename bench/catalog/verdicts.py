"""Every implementation of a catalog through verify."""

import time
import warnings
from collections.abc import Sequence

import pandas as pd
import torch
from joblib import delayed
from rich.console import Console

from bench.catalog.implementation import Implementation
from bench.cli.command_line import progress_bar
from bench.cli.workers import workers

__all__ = ["verify_all"]

EXAMPLES = 20  # of the fuzzer, on each


def verify_all(
    rows: Sequence[Implementation], jobs: int, console: Console, what: str
) -> pd.DataFrame:
    """Verify every implementation.

    Args:
        rows: of a catalog.
        jobs: processes.
        console: where to draw the progress.
        what: one of them is called: the name of a column.

    Returns:
        A row each: "family", ``what``, "contract", "status", "broken" (the clauses that decide and
        are not kept), "reason" and "seconds".
    """
    parallel = workers(jobs, return_as="generator")
    found = []
    with progress_bar(console, f"{what}s") as bar:
        task = bar.add_task(f"{what}s", total=len(rows))
        for result in parallel(delayed(_verdict)(row, what) for row in rows):
            found.append(result)
            bar.advance(task)
    return pd.DataFrame(found)


def _verdict(row: Implementation, what: str) -> dict[str, object]:
    torch.set_num_threads(1)
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):
        try:
            report = row.verify(max_examples=EXAMPLES)
            broken = [c for c in report.clauses if c.decides and c.state == "broken"]
            status, clauses = str(report.status), ", ".join(c.name for c in broken)
            reason = broken[0].reason if broken else ""
        except Exception as error:  # a mistake of the engine too
            status, clauses, reason = "ERROR", "", f"{type(error).__name__}: {error}"
    return {
        "family": row.family,
        what: row.name,
        "contract": row.contract,
        "status": status,
        "broken": clauses,
        "reason": reason,
        "seconds": time.perf_counter() - start,
    }
