"""Reading tables, JSON and paragraphs from the output folder."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup

__all__ = ["NoRowsError", "UnreadableFileError", "paragraphs", "read_csv", "read_json"]


class UnreadableFileError(ValueError):
    """A file of the output folder has unexpected content."""

    def __init__(self, path: Path, problem: object) -> None:
        line = str(problem).partition("\n")[0]
        super().__init__(
            f"cannot read {str(path)!r}: {line}; remove it, or run the command that writes it again"
        )


class NoRowsError(Exception):
    """A table has columns but no rows: its command had nothing to measure."""


def read_csv(path: Path, *columns: str) -> pd.DataFrame:
    """Read a table that must have rows and ``columns``."""
    try:
        frame = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UnreadableFileError(path, error) from None
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UnreadableFileError(path, f"it has no column {', '.join(missing)}")
    if frame.empty:
        raise NoRowsError
    return frame


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UnreadableFileError(path, error) from None
    if not isinstance(read, dict):
        raise UnreadableFileError(path, f"expected a JSON object, got {type(read).__name__}")
    return read


def paragraphs(path: Path) -> Markup:
    """Read the paragraphs of a Markdown file; "" if it is missing.

    Headings, tables and pictures are left out.
    """
    blocks = path.read_text(encoding="utf-8").split("\n\n") if path.is_file() else []
    text = [block for block in blocks if not block.lstrip().startswith(("#", "|", "!"))]
    # The renderer escapes HTML.
    return Markup(MarkdownIt("commonmark", {"html": False}).render("\n\n".join(text)))
