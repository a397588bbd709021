"""What the command lines share: arguments, one-line errors, tables and progress bars."""

import argparse
import os
import sys

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from minifw.testing.command_line import Parser, at_least, device, exit_codes, positive

__all__ = [
    "Parser",
    "at_least",
    "consoles",
    "cores",
    "device",
    "exit_codes",
    "percent",
    "positive",
    "progress_bar",
    "show",
]


def percent(text: str) -> float:
    """The type of an argument that is a share below 1, written as 10% or as 10."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1
    if not 0 <= number < 100:
        raise argparse.ArgumentTypeError(
            f"expected a percentage of at least 0 and below 100, such as 10%, got {text!r}"
        )
    return number / 100


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def consoles() -> tuple[Console, Console]:
    """Standard output, wide enough for all tables if it is no terminal, and standard error."""
    return Console(width=None if sys.stdout.isatty() else 180), Console(stderr=True)


def show(console: Console, *parts: str | pd.DataFrame) -> None:
    """Print texts and tables, these with lines between the groups of their first columns."""
    for part in parts:
        printed = part if isinstance(part, str) else _table(part)
        console.print(printed, highlight=False, markup=False)


def _table(frame: pd.DataFrame) -> Table:
    table = Table(*map(str, frame.columns))
    first = frame.iloc[:, 0]
    starts = first != first.shift()
    grouped = starts.sum() == first.nunique() < len(frame)
    for (_, row), start in zip(frame.iterrows(), starts, strict=True):
        if grouped and start:
            table.add_section()
        table.add_row(*map(str, row))
    return table


def progress_bar(console: Console, unit: str) -> Progress:
    """A bar that counts in ``unit``; none if ``console`` is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
