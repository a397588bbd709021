"""Output files: all of them whole, or none of them touched."""

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from minifw.testing.command_line import OutputFolderError, check_writable

__all__ = ["Content", "OutputFolderError", "check_writable", "markdown", "records", "write_files"]

# Of a file: a text, a table, or what writes it.
Content = str | pd.DataFrame | Callable[[Path], object]


def write_files(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files named by the keys: a text, a table as CSV, or what a function does with a path.

    All are written elsewhere in the folder first and then renamed, so that whenever the process is
    killed each file is either the earlier one or the new one, whole.
    """
    for left in folder.glob(".partial-*"):
        with contextlib.suppress(OSError), _locked(left):  # fails if its process is alive
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial, _locked(partial):
        for name, content in contents.items():
            path = Path(partial, name)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif isinstance(content, pd.DataFrame):
                content.to_csv(path, index=False)
            else:
                content(path)
        for name in contents:
            Path(partial, name).replace(folder / name)


@contextlib.contextmanager
def _locked(folder: Path | str) -> Iterator[None]:
    """Lock a folder until the end of the context or of the process; OSError if another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def markdown(*parts: pd.DataFrame | str) -> str:
    """Tables and paragraphs as a text in Markdown."""
    blocks = [
        part if isinstance(part, str) else part.to_markdown(index=False, disable_numparse=True)
        for part in parts
    ]
    return "\n\n".join(blocks) + "\n"


def records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows of ``frame`` for JSON, to the last digit; None for what is missing or infinite."""
    known = frame.notna() & ~frame.isin([math.inf, -math.inf])
    return frame.astype(object).where(known, None).to_dict("records")
