"""What the command lines share: arguments, one-line errors, tables and progress bars."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = [
    "Parser",
    "at_least",
    "consoles",
    "cores",
    "device",
    "percent",
    "positive",
    "progress_bar",
    "show",
]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows the usage)\n")

    @contextlib.contextmanager
    def ending(
        self, *errors: type[Exception], left: str = "earlier results are as they were"
    ) -> Iterator[None]:
        """Context that one of ``errors`` ends with exit code 2, and an interrupt with 130."""
        try:
            yield
        except errors as error:
            self.error(str(error))
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted; {left}\n")


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least ``smallest``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {smallest}, got {text!r}"
            )
        return number

    return parse


def positive(text: str) -> float:
    """The type of an argument that is a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


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


def device(text: str) -> str:
    """The type of an argument that names a torch device, once it has been seen to work."""
    try:
        torch.zeros(1, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"cannot use device {text!r}: {reason}") from None
    return text


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
