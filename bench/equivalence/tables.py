"""Tables of many reports: a row a class, a row a case."""

import math
import re
from collections.abc import Sequence

import pandas as pd

from minifw.testing import Report, Status
from minifw.testing.example import DTYPES

__all__ = ["by_class", "by_row"]


def by_class(reports: Sequence[Report]) -> pd.DataFrame:
    """A row a class: its statuses, and its largest error in percent of the bound."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(re.split("[( ]", report.name)[0], []).append(report)
    rows = []
    for name, group in groups.items():
        statuses = [report.status for report in group]
        verdicts = [verdict for report in group for verdict in report.verdicts]
        rows.append(
            {
                "case": name,
                "rows": len(group),
                "examples": sum(report.examples for report in group),
                "status": ", ".join(
                    f"{statuses.count(status)} {status}" for status in Status if status in statuses
                ),
                "largest error": f"{max((v.share for v in verdicts), default=0):.0%} of the bound",
            }
        )
    return pd.DataFrame(rows)


def by_row(reports: Sequence[Report]) -> pd.DataFrame:
    """A row a case."""
    return pd.DataFrame(
        {
            "case": report.name,
            "examples": report.examples,
            "status": str(report.status),
            **{
                f"{name} in {dtype}": max(
                    (getattr(v, attribute) for v in report.verdicts if v.example.dtype == dtype),
                    default=math.nan,
                )
                for name, attribute in (("ULP", "ulp"), ("of bound", "share"))
                for dtype in DTYPES
            },
            "of bound": max((verdict.share for verdict in report.verdicts), default=0.0),
            **{f"power in {dtype}": report.power(dtype) for dtype in ("float64", "float32")},
        }
        for report in reports
    )
