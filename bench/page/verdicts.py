"""The parts on correctness: the verdicts of all checks, and the mutants that test the checks."""

from pathlib import Path
from typing import Any

import pandas as pd

from bench.page.files import read_csv
from bench.page.tables import table
from minifw.testing.verdict import Status

__all__ = ["faults", "lockstep", "verification"]


def _cases(folder: Path) -> pd.DataFrame:
    return read_csv(folder / "verification.csv", "case", "examples", "status", "of bound")


def _counted(statuses: "pd.Series[str]") -> str:
    """The count of each status: "8 PASSED, 1 FAILED"."""
    return ", ".join(f"{number} {status}" for status, number in statuses.value_counts().items())


def verification(folder: Path) -> dict[str, Any]:
    """Verdicts by case and by class."""
    cases = _cases(folder)
    ulps = [str(column) for column in cases if str(column).startswith("ULP in ")]
    kinds = cases["case"].str.split("[( ]", n=1, regex=True).str[0]
    groups = cases.groupby(kinds.rename("class"), sort=False)
    classes = groups[["of bound", *ulps]].max()
    classes["examples"] = groups["examples"].sum()
    classes["cases"] = groups["status"].agg(_counted)
    good = cases["status"] == Status.PASSED
    return {
        "cases": len(cases),
        "passed": int(good.sum()),
        "examples": int(cases["examples"].sum()),
        "nearest": float(cases["of bound"].max()),
        "others": table(cases[~good], "others", "Cases that are not PASSED"),
        "classes": table(
            classes.reset_index(),
            "classes",
            "Verdicts by class",
            {
                "class": "class",
                "cases": "cases",
                "examples": "examples",
                "of bound": "largest error, % of the bound",
                **{ulp: ulp for ulp in ulps},
            },
            {"of bound": lambda share: f"{100 * share:.0f}"},
        ),
    }


def faults(folder: Path) -> dict[str, Any]:
    """The number of deliberate faults that each check finds."""
    matrix = read_csv(folder / "kill_matrix.csv", "where", "fault")
    kills = matrix.drop(columns=["where", "fault"])
    killers = kills.sum(axis="columns")
    checks = pd.DataFrame(
        {
            "check": kills.columns,
            "faults tried": kills.notna().sum().to_numpy(),
            "found": kills.sum().astype(int).to_numpy(),
            "found by it alone": kills[killers == 1].sum().astype(int).to_numpy(),
        }
    )
    return {
        "faults": len(matrix),
        "killed": int((killers > 0).sum()),
        "survivors": list(matrix.loc[killers == 0, "fault"]),
        "checks": table(checks, "checks", "Faults that each check finds"),
    }


def lockstep(folder: Path) -> dict[str, Any]:
    """The verdicts on whole runs."""
    cases = _cases(folder)
    runs = cases[cases["case"].str.startswith("run of ")]
    return {"runs": len(runs), "passed": int((runs["status"] == Status.PASSED).sum())}
