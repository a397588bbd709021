"""Statistics: are minifw and PyTorch equally accurate, and how certain is the answer?

Accuracies are shares in [0, 1]; differences and margins are in percentage points.
"""

from bisect import bisect_left
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from reference.recipes import RECIPES, Reported

__all__ = [
    "ALPHA",
    "FEWEST_SEEDS",
    "FRAMEWORKS",
    "MARGIN",
    "POWER",
    "SPLITS",
    "accuracy_statistics",
    "difference_statistics",
    "interquartile_mean",
    "level_statistics",
    "mean_interval",
    "placed",
    "points",
    "prediction_interval",
    "seeds_needed",
    "tost",
    "tost_power",
]

Values = npt.NDArray[np.float64]

ALPHA = 0.05  # significance level of every test; every interval is a 95 % interval
MARGIN = 1.0  # equivalence margin in percentage points, fixed before any run
FEWEST_SEEDS = 3  # the smallest sample whose spread is estimated
POWER = 0.8  # the usual target of a study
SPLITS = ("train", "test")
FRAMEWORKS = ("minifw", "pytorch")


def interquartile_mean(values: Values) -> float:
    """The mean of the middle half of the values; NaN if there are none."""
    return float(scipy.stats.trim_mean(values, 0.25)) if len(values) else np.nan


def mean_interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of the mean, by the bias-corrected and accelerated bootstrap (BCa).

    Equal values have an interval of width 0. Fewer than 3 values have none: NaN. The resamples are
    always the same. Source: Efron (1987), Better bootstrap
    confidence intervals.
    """
    if len(values) < FEWEST_SEEDS:
        return np.nan, np.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = scipy.stats.bootstrap(
        (values,), np.mean, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def prediction_interval(values: Values, runs: int = 1) -> tuple[float, float]:
    """Where the mean of ``runs`` further values falls with probability 0.95, by Student's t.

    mean -+ t s sqrt(1 / runs + 1 / n), for normally distributed values. NaN for fewer than 3.
    Source: Hahn and Meeker (1991), Statistical intervals, chapter 4.
    """
    n = len(values)
    if n < FEWEST_SEEDS:
        return np.nan, np.nan
    quantile = scipy.stats.t.ppf(1 - ALPHA / 2, n - 1)
    half = quantile * values.std(ddof=1) * np.sqrt(1 / runs + 1 / n)
    return float(values.mean() - half), float(values.mean() + half)


def _t(differences: Values, value: float) -> float:
    """Student's t of the mean difference against a value; without spread, infinite or 0."""
    distance = differences.mean() - value
    if np.ptp(differences) == 0:
        return float(np.copysign(np.inf, distance)) if abs(distance) > 0 else 0.0
    return float(distance / (differences.std(ddof=1) / np.sqrt(len(differences))))


def tost(differences: Values, margin: float) -> float:
    """The p-value of two one-sided t-tests that the mean lies within -margin and margin.

    The larger of the p-values of mean > -margin and mean < margin. Source: Schuirmann (1987).
    """
    freedom = len(differences) - 1
    above = scipy.stats.t.sf(_t(differences, -margin), freedom)
    below = scipy.stats.t.cdf(_t(differences, margin), freedom)
    return float(max(above, below))


def tost_power(std: float, n: int, margin: float) -> float:
    """The probability that :func:`tost` finds n differences equivalent if their true mean is 0.

    Given the sample's standard deviation S, both tests reject if the mean is within margin -
    t S / sqrt(n) of 0. The probability of that is normal for a given S; it is integrated over S,
    which is std times a chi variable. Exact for normal differences: Owen's Q, as in Phillips
    (1990), Power of the two one-sided tests procedure.
    """
    if std == 0:
        return 1.0
    freedom = n - 1
    quantile = scipy.stats.t.ppf(1 - ALPHA, freedom)
    width = margin * np.sqrt(n) / std
    chi = scipy.stats.chi(freedom)

    def within(spread: float) -> float:
        reach = width - quantile * spread / np.sqrt(freedom)
        return float(2 * scipy.stats.norm.cdf(reach) - 1)

    # Integrate only where the density is not negligible: a narrow peak if n is large.
    start, end = chi.ppf([1e-12, 1 - 1e-12])
    end = min(end, width * np.sqrt(freedom) / quantile)
    return float(chi.expect(within, lb=start, ub=end)) if start < end else 0.0


def seeds_needed(std: float, margin: float) -> int:
    """The smallest number of seeds with which :func:`tost` has a power of 80 %."""
    sizes = range(FEWEST_SEEDS, 1_000_000)
    return sizes[bisect_left(sizes, POWER, key=lambda n: tost_power(std, n, margin))]


def difference_statistics(differences: Values, margin: float) -> dict[str, Any]:
    """Statistics of paired differences of accuracy, in percentage points, and a verdict.

    The verdict is

    - "equivalent" if the two one-sided tests show that the mean lies within the margin, even if it
      is shown not to be 0: the margin was declared irrelevant beforehand.
    - "different" if they do not, and a two-sided t-test shows that the mean is not 0. It need not
      be shown to exceed the margin: the frameworks start from the same weights and should differ
      by rounding alone.
    - "inconclusive" otherwise, and always for fewer than 3 seeds, for which only "seeds", "mean"
      and "iqm" are numbers.

    The tests decide, not the bootstrap interval. Differences between chaotic runs are mostly tiny
    and sometimes large; for 20 of them with true mean 0, the interval misses 0 one time in five,
    the t-test at most one time in twenty.

    Returns:
        seeds; mean, iqm (interquartile mean), low and high (:func:`mean_interval`), std; p (of the
        two-sided t-test), tost_p, tost_power (for a true mean of 0 and a standard deviation of
        std); verdict.
    """
    n = len(differences)
    row: dict[str, Any] = {
        "seeds": n,
        "mean": float(differences.mean()) if n else np.nan,
        "iqm": interquartile_mean(differences),
    }
    row["low"], row["high"] = mean_interval(differences)
    if n < FEWEST_SEEDS:
        return (
            row
            | dict.fromkeys(("std", "p", "tost_p", "tost_power"), np.nan)
            | {"verdict": "inconclusive"}
        )
    # Equal differences have a spread of 0, and not what rounding of their mean leaves.
    std = float(differences.std(ddof=1)) if np.ptp(differences) else 0.0
    p = float(2 * scipy.stats.t.sf(abs(_t(differences, 0.0)), n - 1))
    tost_p = tost(differences, margin)
    return row | {
        "std": std,
        "p": p,
        "tost_p": tost_p,
        "tost_power": tost_power(std, n, margin),
        "verdict": "equivalent" if tost_p < ALPHA else "different" if p < ALPHA else "inconclusive",
    }


def points(differences: "pd.Series[float]") -> Values:
    """Differences of shares as percentage points, without NaN.

    Accuracies are counts out of 1,000, so rounding to 9 digits removes only the quotient's error.
    """
    shares = np.asarray(differences.dropna(), dtype=np.float64)
    return np.round(100 * shares, 9)


def placed(value: float, low: float, high: float) -> str:
    """Whether a value lies "within" or "outside" an interval; "" if one of them is NaN."""
    if np.isnan([value, low, high]).any():
        return ""
    return "within" if low <= value <= high else "outside"


def level_statistics(values: Values, report: float = np.nan, runs: int = 1) -> dict[str, Any]:
    """Statistics of accuracies, in shares, and where a report's figure lies among them.

    Args:
        values: one a seed.
        report: the report's figure; NaN if it gives none.
        runs: the number of runs that the figure is the mean of.

    Returns:
        seeds, mean, iqm (interquartile mean), low and high (:func:`mean_interval`), prediction_low
        and prediction_high (:func:`prediction_interval` of as many runs, cut to [0, 1]), report;
        report_vs_prediction and report_vs_mean: whether it lies "within" or "outside" the
        prediction interval and the interval of the mean, "" if there is none.
    """
    low, high = mean_interval(values)
    predicted = np.clip(prediction_interval(values, runs), 0.0, 1.0)
    return {
        "seeds": len(values),
        "mean": float(values.mean()) if len(values) else np.nan,
        "iqm": interquartile_mean(values),
        "low": low,
        "high": high,
        "prediction_low": float(predicted[0]),
        "prediction_high": float(predicted[1]),
        "report": report,
        "report_vs_prediction": placed(report, *predicted),
        "report_vs_mean": placed(report, low, high),
    }


def accuracy_statistics(
    final: pd.DataFrame, margin: float = MARGIN, place_reports: bool = True
) -> pd.DataFrame:
    """Compare the final accuracies of runs: one row a recipe and part.

    Args:
        final: one row a run, as :func:`bench.runs.tables.final_accuracies` gives them. A seed
            that only one framework has counts for its mean and not for the difference; the columns
            of a framework without runs are NaN.
        margin: the equivalence margin, in percentage points.
        place_reports: whether to place the reports' figures; they belong to runs of the recipe's
            own length.

    Returns:
        Columns recipe, part ("train", "test") and margin; then with these prefixes

        - minifw\\_, pytorch\\_: :func:`level_statistics`, in shares. report_vs_prediction says
          whether the report's run could be one of ours; report_vs_mean, whether it lies in the
          interval of our mean, where a single run need not lie.
        - difference\\_: :func:`difference_statistics` of minifw minus PyTorch, seed by seed.
        - control\\_: the same of PyTorch on the first half of the seeds minus PyTorch on the second
          half: the effect of seeds alone, with half as many pairs.

    No correction for the number of recipes is needed, because every recipe must pass.
    """
    if not margin > 0:
        raise ValueError(f"expected a margin above 0 percentage points, got {margin}")
    rows = []
    for recipe, runs in final.groupby("recipe", sort=False):
        reported = RECIPES[str(recipe)].reported if place_reports else {}
        for part in SPLITS:
            by_seed = runs.pivot(index="seed", columns="framework", values=f"{part}_accuracy")
            by_seed = by_seed.reindex(columns=list(FRAMEWORKS)).astype(float).sort_index()
            groups = {}
            for name in FRAMEWORKS:
                figures = reported.get(name, Reported(None, None))
                figure = getattr(figures, part)
                groups[name] = level_statistics(
                    by_seed[name].dropna().to_numpy(float),
                    np.nan if figure is None else figure,
                    figures.runs,
                )
            groups["difference"] = difference_statistics(
                points(by_seed["minifw"] - by_seed["pytorch"]), margin
            )
            alone = by_seed["pytorch"].dropna().reset_index(drop=True)
            half = len(alone) // 2
            second = alone[half : 2 * half].reset_index(drop=True)
            groups["control"] = difference_statistics(points(alone[:half] - second), margin)
            rows.append(
                {"recipe": recipe, "part": part, "margin": margin}
                | {
                    f"{prefix}_{name}": value
                    for prefix, group in groups.items()
                    for name, value in group.items()
                }
            )
    return pd.DataFrame(rows)
