"""Tables of the page: headings and sortable cells from any frame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = [
    "Cell",
    "Format",
    "Table",
    "count",
    "microseconds",
    "number",
    "p_value",
    "percent",
    "points",
    "size",
    "table",
    "two_digits",
]

Format = Callable[[Any], str]

# Suffixes of the two columns of an interval, after the name of its value.
INTERVALS = (("_low", "_high"), ("_q1", "_q3"))
NOTHING = "–"  # noqa: RUF001 -- a dash, for a cell without a value


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and the number it sorts by; None if it sorts as text."""

    text: str
    key: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; the first cell of a row names it.

    Attributes:
        name: of the table, different for each of a page.
        caption: what it shows.
        headings: of the columns.
        numeric: by column, whether it holds numbers.
        rows: of cells.
    """

    name: str
    caption: str
    headings: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]


def number(value: float) -> str:
    """Three significant digits, without an exponent for ordinary sizes."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 3
    return f"{value:,.{max(0, digits)}f}"


def count(value: float) -> str:
    """A whole number."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share as a percentage, without the sign."""
    return f"{100 * value:.1f}"


def two_digits(value: float) -> str:
    """A ratio, or a probability."""
    return f"{value:.2f}"


def points(value: float) -> str:
    """A difference in percentage points, with its sign unless it is 0."""
    rounded = round(value, 2)
    return f"{rounded:+.2f}".replace("-", "\u2212") if rounded else "0.00"


def p_value(value: float) -> str:
    """A probability; small ones as "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def microseconds(seconds: float) -> str:
    """Seconds in microseconds."""
    return number(1e6 * seconds)


def size(memory: float) -> str:
    """Bytes in the unit that fits."""
    unit, factor = next(
        ((unit, 2**power) for unit, power in (("GiB", 30), ("MiB", 20)) if memory >= 2**power),
        ("KiB", 2**10),
    )
    return f"{memory / factor:.3g} {unit}"


def _default(column: "pd.Series[Any]") -> Format:
    if pd.api.types.is_bool_dtype(column):
        return lambda value: "yes" if value else "no"
    if not pd.api.types.is_numeric_dtype(column):
        return str
    # pandas reads a column of whole numbers with a missing one as floats.
    return count if (column.dropna() % 1 == 0).all() else number


def table(
    frame: pd.DataFrame,
    name: str,
    caption: str,
    headings: Mapping[str, str] | None = None,
    formats: Mapping[str, Format] | None = None,
) -> Table:
    """Make a table of ``frame``: a column "x" with "x_low" and "x_high" becomes one with intervals.

    Args:
        frame: what is shown.
        name: of the table.
        caption: what it shows.
        headings: by column to show, its heading. Default: all columns, by their own names.
        formats: by column, how a value is written. Default: by its dtype.
    """
    names = [str(column) for column in frame]
    ends = {
        name: both
        for low, high in INTERVALS
        for name in names
        if set(both := [name + low, name + high]) <= set(names)
    }
    if headings is None:
        absorbed = {end for columns in ends.values() for end in columns}
        headings = {name: name.replace("_", " ") for name in names if name not in absorbed}
    formats = formats or {}
    columns = []
    for column in headings:
        write = formats.get(column) or _default(frame[column])
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        columns.append(
            [
                _cell(values, write, numeric)
                for values in frame[[column, *ends.get(column, [])]].itertuples(index=False)
            ]
        )
    return Table(
        name,
        caption,
        headings=list(headings.values()),
        numeric=[pd.api.types.is_numeric_dtype(frame[column]) for column in headings],
        rows=[list(cells) for cells in zip(*columns, strict=True)],
    )


def _cell(values: tuple[Any, ...], write: Format, numeric: bool) -> Cell:
    value, *interval = values
    if pd.isna(value):
        return Cell(NOTHING)
    text = write(value)
    if interval and not any(pd.isna(end) for end in interval):
        text += " ({} to {})".format(*map(write, interval))
    return Cell(text, float(value) if numeric else None)
