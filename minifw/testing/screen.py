"""A report on the screen: the verdict first, then what it rests on, then what it does not cover.

Plain text of at most 80 columns that is readable in a log, or Markdown.
"""

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minifw.testing.report import Report

__all__ = ["csv_text", "sections"]

WIDTH = 80
TENSOR_COLUMNS = ("tensor", "dtype", "status", "error", "allowed")

TIMING_COLUMNS = ("size", "part", "subject", "reference", "speed-up", "claim", "memory")

Row = Mapping[str, Any]


def _cell(value: Any) -> str:
    """A value as people read it; nothing for a number that there is not."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2g}"
    return str(value)


def _shortened(text: str, width: int) -> str:
    """``text`` without its middle, where it is too long: names of parameters differ at the ends."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def _text_table(rows: Sequence[Row], columns: Sequence[str], wide: bool) -> Iterator[str]:
    """Columns with two blanks between them; a long last one is wrapped, a long first one cut."""
    cells = [list(columns), *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    if not wide:
        middle = sum(widths[1:-1]) + 2 * (len(columns) - 1)
        widths[-1] = min(widths[-1], max(WIDTH - widths[0] - middle, len(columns[-1]), 24))
        widths[0] = min(widths[0], WIDTH - middle - widths[-1])
    for number, row in enumerate(cells):
        first = _shortened(row[0], widths[0])
        last = textwrap.wrap(row[-1], widths[-1]) or [""]
        between = [text.ljust(width) for text, width in zip(row[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *between, last[0]]).rstrip()
        indent = " " * (sum(widths[:-1]) + 2 * (len(columns) - 1))
        yield from (indent + line for line in last[1:])
        if not number:
            yield "  ".join("-" * width for width in widths)


def _markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    for cells in [
        columns,
        ["---"] * len(columns),
        *([_cell(row[name]) for name in columns] for row in rows),
    ]:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV, numbers to the last digit; nothing for a number that there is not."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {
                    name: "" if isinstance(value, float) and math.isnan(value) else value
                    for name, value in row.items()
                }
            )
    return out.getvalue()


def _bullets(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")


def sections(report: "Report", *, verbose: bool, markdown: bool) -> Iterator[tuple[str, list[str]]]:
    """What follows the headline: titles and lines; a section that would be empty is left out.

    Args:
        report: to be printed.
        verbose: whether to print every column of the tensors.
        markdown: whether tables are Markdown.
    """

    def table(rows: Sequence[Row], columns: Sequence[str], wide: bool = False) -> list[str]:
        if not rows:
            return []
        make = _markdown_table(rows, columns) if markdown else _text_table(rows, columns, wide)
        return list(make)

    tensors = report.rows()
    clauses = [
        {
            "clause": clause.name,
            "state": clause.state,
            "decides": "yes" if clause.decides else "no",
            "where": "see above" if clause.verdict in report.failures[:1] else clause.reason,
        }
        for clause in report.clauses
        if clause.state != "not tried"  # which are all named below, by reason
    ]
    others = [
        clause.verdict.example
        for clause in report.clauses
        if clause.verdict and clause.verdict not in report.failures[:1]
    ]
    everything = {
        "": list(_simplest(report)),
        "clauses": table(clauses, ("clause", "state", "decides", "where")),
        "tensors": table(
            tensors, tuple(tensors[0]) if verbose and tensors else TENSOR_COLUMNS, verbose
        ),
        "disagreeing estimates": list(_bullets(_objections(report))),
        "timing": table(_timing_rows(report), TIMING_COLUMNS)
        + list(_bullets([report.timing.conditions] if report.timing else [])),
        "to reproduce": [f"  {report.command} --example '{example}'" for example in others],
        "not verified": list(_bullets(report.not_verified)),
        "notes": list(_bullets(report.notes)),
    }
    yield from ((title, lines) for title, lines in everything.items() if lines)


def _duration(seconds: float) -> str:
    unit, size = ("ms", 1e-3) if seconds >= 1e-3 else ("µs", 1e-6)
    return f"{seconds / size:.3g} {unit}"


def _timing_rows(report: "Report") -> list[dict[str, str]]:
    """Medians, the speed-up with its 95 % interval, and the memory as a multiple."""
    return [
        {
            "size": row["size"],
            "part": row["part"],
            "subject": _duration(row["subject"]),
            "reference": _duration(row["reference"])
            + ("" if row["beside"] == "eager" else f" {row['beside']}"),
            "speed-up": f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]",
            "claim": {"subject faster": "faster", "reference faster": "slower"}.get(
                row["claim"], "-"
            ),
            "memory": f"{row['subject_bytes'] / row['reference_bytes']:.2f}x"
            if row["reference_bytes"]
            else "",
        }
        for row in (report.timing.rows() if report.timing else [])
    ]


def _simplest(report: "Report") -> Iterator[str]:
    """The simplest failure that decides, what it looks like, and the line that reproduces it."""
    for verdict in report.failures[:1]:
        yield from _bullets([str(verdict), report.diagnosis])
        yield f"  {report.command} --example '{verdict.example}'"


def _objections(report: "Report") -> Iterator[str]:
    yield from (str(t) for t in report.testimonies if t.status != "PASSED")
    if report.gradcheck:
        yield f"torch.autograd.gradcheck: {report.gradcheck}"
