"""Output files: all of them whole, or none of them touched."""

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["OutputFolderError", "check_writable", "records", "write_files"]


class OutputFolderError(OSError):
    """The output folder cannot be written."""


def check_writable(folder: Path) -> None:
    """Make ``folder`` if there is none, and raise unless a file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="."):
            pass
    except OSError as error:
        raise OutputFolderError(
            f"cannot write to the output folder {str(folder)!r} ({error.strerror}); "
            "name another with --output-dir"
        ) from None


def write_files(folder: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files named by the keys; a writer is given the path to write to.

    All are written elsewhere in the folder first and then renamed, so that whenever the process is
    killed each file is either the earlier one or the new one, whole.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        for name, write in writers.items():
            write(Path(partial, name))
        for name in writers:
            Path(partial, name).replace(folder / name)


def records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows of ``frame`` for JSON, to the last digit; None for what is missing or infinite."""
    known = frame.notna() & ~frame.isin([math.inf, -math.inf])
    return frame.astype(object).where(known, None).to_dict("records")
