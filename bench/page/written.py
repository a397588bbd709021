"""Parts that show what a command line wrote, as it stands: paragraphs, picture and table."""

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
    """Show the files called ``name``: .csv, and .md and .svg where there are any.

    Args:
        folder: where they are.
        name: of the files, without their endings.
        caption: of picture and table.
        headings, formats: as :func:`bench.page.tables.table` takes them.
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
