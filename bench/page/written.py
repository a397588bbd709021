"""Parts that show the files of a command unchanged: paragraphs, picture and table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import figures
from bench.page.files import paragraphs, read_csv
from bench.page.tables import Format, table

__all__ = ["as_written"]


def as_written(
    folder: Path,
    name: str,
    caption: str,
    headings: Mapping[str, str] | None = None,
    formats: Mapping[str, Format] | None = None,
) -> dict[str, Any]:
    """Show the files ``name``.csv, and ``name``.md and .svg if they exist.

    Args:
        folder: the output folder.
        name: of the files, without suffix.
        caption: of picture and table.
        headings, formats: as for :func:`bench.page.tables.table`.
    """
    picture = folder / f"{name}.svg"
    return {
        "text": paragraphs(folder / f"{name}.md"),
        "caption": caption,
        "picture": figures.inline(picture.read_text(encoding="utf-8"), name, caption)
        if picture.is_file()
        else "",
        "written": table(
            read_csv(folder / f"{name}.csv", *(headings or {})), name, caption, headings, formats
        ),
    }
