"""The baseline: changes since an earlier comparison, by recipe."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bench.runs.sweep import Settings

__all__ = ["BaselineError", "changes", "format_changes", "read_baseline", "slower"]


class BaselineError(ValueError):
    """The baseline cannot be used; the message says why, and the remedy, in one line."""


def _values(accuracy: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """By recipe: minifw's test accuracy, and its speed-up over PyTorch with its interval."""
    tested = accuracy[accuracy["part"] == "test"].set_index("recipe")["minifw_mean"]
    timed = speed[speed["part"] == "epoch"].set_index("recipe")
    return pd.concat([tested, timed[["ratio", "ratio_low", "ratio_high"]]], axis="columns").dropna()


def read_baseline(path: Path, settings: Settings, recipes: list[str]) -> pd.DataFrame:
    """Read the values to compare with from a comparison.json: a row a recipe.

    Raises:
        BaselineError: the file is not a comparison, has none of ``recipes``, or was made with other
            settings.
    """
    remedy = "--baseline expects the comparison.json of an earlier run"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        baseline = _values(pd.DataFrame(read["accuracy"]), pd.DataFrame(read["speed"]))
        conditions = {name: read["conditions"][name] for name in asdict(settings)}
    except OSError as error:
        raise BaselineError(f"cannot read {str(path)!r} ({error.strerror}); {remedy}") from None
    except (ValueError, LookupError, TypeError):
        raise BaselineError(f"{str(path)!r} is not a comparison; {remedy}") from None
    for name, here in asdict(settings).items():
        if conditions[name] != here:
            raise BaselineError(
                f"the baseline {str(path)!r} was made with {name} {conditions[name]}, this run "
                f"has {here}; compare runs of the same settings"
            )
    baseline = baseline.loc[[recipe for recipe in recipes if recipe in baseline.index]]
    if baseline.empty:
        raise BaselineError(
            f"the baseline {str(path)!r} has none of the recipes of this run on both frameworks; "
            "name others with --recipes"
        )
    return baseline


def changes(baseline: pd.DataFrame, accuracy: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe of the baseline that is timed now.

    Args:
        baseline: as :func:`read_baseline` gives it.
        accuracy: as :func:`bench.accuracy.statistics.accuracy_statistics` gives it.
        speed: as :func:`bench.timing.recipes.summarize_speed` gives it.

    Returns:
        Columns: recipe; test_points, the change of minifw's test accuracy in percentage points;
        baseline_ratio and ratio, the speed-up over PyTorch then and now; speed_change, ratio /
        baseline_ratio - 1, with its 95 % interval, speed_change_low and speed_change_high, from
        the interval of ratio: the baseline is treated as exact.
    """
    now = _values(accuracy, speed)
    both = baseline.add_suffix("_then").join(now, how="inner")
    then = both["ratio_then"]
    return pd.DataFrame(
        {
            "test_points": 100 * (both["minifw_mean"] - both["minifw_mean_then"]),
            "baseline_ratio": then,
            "ratio": both["ratio"],
            "speed_change": both["ratio"] / then - 1,
            "speed_change_low": both["ratio_low"] / then - 1,
            "speed_change_high": both["ratio_high"] / then - 1,
        }
    ).reset_index()


def slower(changes: pd.DataFrame, share: float) -> list[str]:
    """Name the recipes that are slower than the baseline by more than ``share``.

    Even the upper end of the interval must be slower, so that noise raises no alarm.
    """
    return list(changes.loc[changes["speed_change_high"] < -share, "recipe"])


def format_changes(changes: pd.DataFrame) -> pd.DataFrame:
    """The changes as a human-readable table."""
    return pd.DataFrame(
        {
            "recipe": changes["recipe"],
            "test accuracy, change in percentage points": changes["test_points"].map(
                "{:+.2f}".format
            ),
            "speed-up over PyTorch, baseline": changes["baseline_ratio"].map("{:.2f}".format),
            "now": changes["ratio"].map("{:.2f}".format),
            "change": [
                f"{row.speed_change:+.1%} ({row.speed_change_low:+.1%} to "
                f"{row.speed_change_high:+.1%})"
                for row in changes.itertuples()
            ],
        }
    )
