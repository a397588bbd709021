"""Tables and conclusions from the runs of bench/initialization.py."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from bench.accuracy import statistics
from bench.accuracy.tables import format_interval

__all__ = [
    "AGAINST",
    "CELL",
    "FRAMEWORKS",
    "OURS",
    "PLAIN",
    "REPORTED",
    "START",
    "STARTS",
    "THEIRS",
    "cells",
    "conclusions",
    "contrasts",
    "curves",
    "differences",
    "format_cells",
    "format_contrasts",
    "in_order",
]

CELL = ["variant", "initialization", "framework"]
PLAIN = "plain"
START, AGAINST = "xavier", "default"
OURS, THEIRS = "minifw", "pytorch"
Cell = tuple[str, str, str]
Rows = dict[
    tuple[str, str, int], "pd.Series[Any]"
]  # by contrast, the cell it holds fixed, and epoch

# Report 001's test accuracies by initialization: of its own framework with Xavier's, of PyTorch
# with the default. Means of REPORTED_RUNS runs.
REPORTED = {
    START: {10: 0.853, 50: 0.956, 200: 0.969},
    AGAINST: {10: 0.731, 50: 0.964, 200: 0.978},
}
REPORTED_RUNS = 10
FRAMEWORKS, STARTS = f"{OURS} - {THEIRS}", f"{START} - {AGAINST}"
AS_REPORTED = f"{OURS} {START} - {THEIRS} {AGAINST}"


def differences() -> dict[tuple[str, str], tuple[list[Cell], list[Cell]]]:
    """By contrast and the cell it holds fixed: the cells added and the cells subtracted."""
    here = {(start, side): (PLAIN, start, side) for start in REPORTED for side in (OURS, THEIRS)}
    ours, theirs = here[START, OURS], here[AGAINST, THEIRS]
    return {
        **{(FRAMEWORKS, start): ([here[start, OURS]], [here[start, THEIRS]]) for start in REPORTED},
        **{(STARTS, side): ([here[START, side]], [here[AGAINST, side]]) for side in (OURS, THEIRS)},
        ("interaction", ""): ([ours, theirs], [here[AGAINST, OURS], here[START, THEIRS]]),
        (AS_REPORTED, ""): ([ours], [theirs]),
    }


def in_order(runs: pd.DataFrame, order: list[tuple[str, str]]) -> pd.DataFrame:
    """Runs by variant and initialization as in ``order``, then framework, seed and epoch."""
    places = {pair: place for place, pair in enumerate(order)}
    place = [places[pair] for pair in zip(runs["variant"], runs["initialization"], strict=True)]
    return (
        runs.assign(place=place)
        .sort_values(["place", "framework", "seed", "epoch"], ignore_index=True)
        .drop(columns="place")
    )


def _measured(runs: pd.DataFrame) -> list[int]:
    """The report's epochs that the runs reach; the last epoch if they reach none."""
    last = int(runs["epoch"].max())
    return [epoch for epoch in REPORTED[START] if epoch <= last] or [last]


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, epoch and part: :func:`bench.accuracy.statistics.level_statistics`.

    Args:
        runs: a row an epoch of every run: the cell (variant, initialization, framework), seed,
            epoch, train_accuracy and test_accuracy.
    """
    measured = runs[runs["epoch"].isin(_measured(runs))]
    return pd.DataFrame(
        [
            dict(zip([*CELL, "epoch"], cell, strict=True))
            | {"part": part}
            | statistics.level_statistics(
                group[f"{part}_accuracy"].to_numpy(float),
                REPORTED[cell[1]].get(cell[3], np.nan) if part == "test" else np.nan,
                REPORTED_RUNS,
            )
            for cell, group in _groups(measured, [*CELL, "epoch"])
            for part in statistics.SPLITS
        ]
    )


def _groups(runs: pd.DataFrame, columns: list[str]) -> Any:
    """Groups in order of appearance."""
    return runs.groupby(columns, sort=False)


def _paired(runs: pd.DataFrame, part: str) -> pd.DataFrame:
    """Accuracies: rows by epoch and seed, columns by cell."""
    return runs.pivot(index=["epoch", "seed"], columns=CELL, values=f"{part}_accuracy")


def contrasts(runs: pd.DataFrame, margin: float = statistics.MARGIN) -> pd.DataFrame:
    """One row a contrast, epoch and part, paired by seed.

    Returns:
        Columns contrast, at (the initialization, framework or variant held fixed; a variant is on
        minifw), epoch, part; :func:`bench.accuracy.statistics.difference_statistics`;
        prediction_low and prediction_high, the 95 % prediction interval of a mean of as many
        pairs as the report's; report, the report's difference, and report_vs_prediction.
    """
    variants = [variant for variant in runs["variant"].unique() if variant != PLAIN]
    named = (
        differences()
        | {
            (f"{variant} - {PLAIN}", start): ([(variant, start, OURS)], [(PLAIN, start, OURS)])
            for variant in variants
            for start in REPORTED
        }
        | {
            (STARTS, variant): ([(variant, START, OURS)], [(variant, AGAINST, OURS)])
            for variant in variants
        }
    )
    paired = {part: _paired(runs, part) for part in statistics.SPLITS}
    rows = []
    for (name, at), (added, subtracted) in named.items():
        for epoch in _measured(runs):
            for part in statistics.SPLITS:
                by_cell = paired[part].loc[epoch]
                values = statistics.points(
                    by_cell[added].sum(axis="columns") - by_cell[subtracted].sum(axis="columns")
                )
                low, high = statistics.prediction_interval(values, REPORTED_RUNS)
                report = np.nan
                compares = name == AS_REPORTED or (name == STARTS and at in variants)
                if compares and part == "test" and epoch in REPORTED[START]:
                    report = round(100 * (REPORTED[START][epoch] - REPORTED[AGAINST][epoch]), 9)
                rows.append(
                    {"contrast": name, "at": at, "epoch": epoch, "part": part}
                    | statistics.difference_statistics(values, margin)
                    | {"prediction_low": low, "prediction_high": high, "report": report}
                    | {"report_vs_prediction": statistics.placed(report, low, high)}
                )
    return pd.DataFrame(rows)


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of the picture: one row an epoch of a curve.

    Returns:
        Columns quantity ("test accuracy", a share, or the name of a contrast, in percentage
        points), at (initialization and framework, or the one held fixed), epoch, seeds; mean; low
        and high, its pointwise 95 % interval by Student's t.
    """
    paired = _paired(runs, "test")
    series = {
        ("test accuracy", f"{start}, {side}"): paired[(PLAIN, start, side)]
        for start in REPORTED
        for side in (THEIRS, OURS)
    } | {
        name: 100 * (paired[added].sum(axis="columns") - paired[subtracted].sum(axis="columns"))
        for name, (added, subtracted) in differences().items()
        if name[1]
    }
    frames = []
    for (quantity, at), values in series.items():
        by_epoch = values.groupby("epoch")
        seeds, mean = by_epoch.size(), by_epoch.mean()
        half = by_epoch.sem().fillna(0) * scipy.stats.t.ppf(0.975, (seeds - 1).clip(lower=1))
        frame = pd.DataFrame(
            {"seeds": seeds, "mean": mean, "low": mean - half, "high": mean + half}
        )
        frames.append(frame.reset_index().assign(quantity=quantity, at=at))
    columns = ["quantity", "at", "epoch", "seeds", "mean", "low", "high"]
    return pd.concat(frames, ignore_index=True)[columns]


def format_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Human-readable test accuracies in percent: a row a cell, a column an epoch."""
    rows = []
    for cell, group in _groups(cells[cells["part"] == "test"], CELL):
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": group["seeds"].iloc[0]}
        for _, at in group.iterrows():
            row[f"epoch {at['epoch']}: test %"] = format_interval(at, ".1f", scale=100)
            figure = "" if pd.isna(at["report"]) else f"{100 * at['report']:.1f}"
            row[f"report's {at['epoch']}"] = f"{figure} {at['report_vs_prediction']}".strip()
        rows.append(row)
    return pd.DataFrame(rows)


def format_contrasts(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Human-readable differences of test accuracy in percentage points: a row a contrast."""
    rows = []
    for (name, at), group in _groups(contrasts[contrasts["part"] == "test"], ["contrast", "at"]):
        row = {"difference, percentage points": name, "at": at}
        for _, contrast in group.iterrows():
            row[f"epoch {contrast['epoch']}"] = _interval(contrast)
            row[f"verdict {contrast['epoch']}"] = contrast["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(row: "pd.Series[Any]") -> str:
    return format_interval(row, "+.2f")


def conclusions(cells: pd.DataFrame, contrasts: pd.DataFrame) -> list[str]:
    """Paragraphs that answer the report's question from the test accuracies."""
    test: Rows = {
        (str(row["contrast"]), str(row["at"]), int(row["epoch"])): row
        for _, row in contrasts[contrasts["part"] == "test"].iterrows()
    }
    epochs = sorted(set(cells["epoch"].tolist()))

    def describe(name: str, at: str, epoch: int) -> str:
        row = test[name, at, epoch]
        return f"{_interval(row)} ({row['verdict']})"

    paragraphs = [
        f"After {epoch} epochs, in percentage points of test accuracy: Xavier's minus the default "
        f"initialization, {describe(STARTS, OURS, epoch)} on minifw and "
        f"{describe(STARTS, THEIRS, epoch)} on PyTorch; "
        f"minifw minus PyTorch, {describe(FRAMEWORKS, START, epoch)} with Xavier's and "
        f"{describe(FRAMEWORKS, AGAINST, epoch)} with the default; interaction "
        f"{describe('interaction', '', epoch)}."
        for epoch in epochs
    ]
    first, later = epochs[0], epochs[1:]
    paragraphs.append(_faster_start(test, first))
    if later:
        paragraphs.append(_slower_end(test, later))
    paragraphs += _numerics(test, epochs, describe)
    paragraphs += _levels(cells)
    return paragraphs


def _report(row: "pd.Series[Any]") -> str:
    """The report's difference, and the prediction interval of as many pairs of ours."""
    return (
        f"{row['report']:+.1f} (ten pairs of ours: {row['prediction_low']:+.1f} to "
        f"{row['prediction_high']:+.1f}, {row['report_vs_prediction'] or 'unknown'})"
    )


def _faster_start(test: Rows, first: int) -> str:
    """Which factor explains the difference after the first epochs."""
    by_start = all(
        row["verdict"] == "different" and row["mean"] > 0
        for row in (test[STARTS, side, first] for side in (OURS, THEIRS))
    )
    frameworks = {test[FRAMEWORKS, start, first]["verdict"] for start in REPORTED}
    alike = "equivalent" if frameworks == {"equivalent"} else "not distinguishable"
    return (
        "The faster start: "
        + (
            "an effect of both initialization and framework."
            if by_start and "different" in frameworks
            else "an effect of the initialization. Both frameworks show it, and from the same "
            f"weights they are {alike}."
            if by_start
            else "an effect of the framework and not of the initialization."
            if "different" in frameworks
            else "not explained: no effect is shown."
        )
        + (
            f" The report's difference is {_report(test[AS_REPORTED, '', first])} percentage "
            "points."
            if first in REPORTED[START]
            else ""
        )
    )


def _slower_end(test: Rows, later: list[int]) -> str:
    """Whether the report's slower end exceeds what ten runs show by chance."""
    rows = [(epoch, test[AS_REPORTED, "", epoch]) for epoch in later]
    figures = ", ".join(
        f"{_report(row)} percentage points after {epoch} epochs" for epoch, row in rows
    )
    outside = [str(epoch) for epoch, row in rows if row["report_vs_prediction"] == "outside"]
    effects = {test[FRAMEWORKS, start, epoch]["verdict"] for start in REPORTED for epoch in later}
    alike = {
        frozenset({"equivalent"}): "equivalent",
        frozenset({"inconclusive"}): "not distinguishable",
        frozenset({"equivalent", "inconclusive"}): "equivalent or not distinguishable",
    }.get(frozenset(effects), "different")
    # By variant, after the last epoch: Xavier's weights less the default ones.
    last = {
        at: row for (name, at, epoch), row in test.items() if (name, epoch) == (STARTS, later[-1])
    }
    lower = [at for at, row in last.items() if row["verdict"] == "different" and row["mean"] < 0]
    unlikely = [at for at, row in last.items() if row["report_vs_prediction"] == "outside"]
    return (
        f"The slower end: the report's framework with its weights minus PyTorch with its own is "
        f"{figures}. "
        + (
            f"After {', '.join(outside)} epochs that is more than ten such pairs show by chance. "
            if outside
            else "Means of ten runs differ that much by chance. "
        )
        + f"From the same weights the frameworks are {alike}. After {later[-1]} epochs Xavier's "
        + (
            f"weights are behind the default ones: {', '.join(lower)}."
            if lower
            else "weights are behind the default ones in no variant."
        )
        + (
            f" The report's difference would exceed chance with {', '.join(unlikely)}, where runs "
            "scatter less."
            if unlikely
            else ""
        )
    )


def _numerics(test: Rows, epochs: list[int], describe: Any) -> list[str]:
    """The effect of float64: an upper bound on that of badly conditioned operations."""
    name = f"float64 - {PLAIN}"
    effects = {row["verdict"] for (contrast, _, _), row in test.items() if contrast == name}
    if not effects:
        return []
    figures = "; ".join(
        f"after {epoch} epochs {describe(name, START, epoch)} with Xavier's initialization, "
        f"{describe(name, AGAINST, epoch)} with the default"
        for epoch in epochs
    )
    return [
        f"Numerics: float64 minus float32 on minifw, {figures}. "
        + (
            "Precision makes a difference."
            if "different" in effects
            else "Rounding shows no effect."
        )
    ]


def _levels(cells: pd.DataFrame) -> list[str]:
    """How many of the report's figures each variant reproduces."""
    ours = cells[(cells["framework"] == OURS) & cells["report"].notna()]
    ours = ours[ours["report_vs_prediction"] != ""]
    if ours.empty:
        return []
    hits = (ours["report_vs_prediction"] == "within").groupby(ours["variant"], sort=False).sum()
    figures = ours.groupby("variant").size().iloc[0]
    counted = ", ".join(f"{name} {count}" for name, count in hits.items())
    return [
        f"Of the report's {figures} figures, as many lie in the 95 % prediction interval of a mean "
        f"of ten runs: {counted}. "
        + (
            "The report must differ from every variant in something that its text does not say."
            if hits.max() < figures
            else "So a choice that its text leaves open reproduces them all."
        )
    ]
