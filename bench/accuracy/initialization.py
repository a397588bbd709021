"""What comes of the runs of bench/initialization.py: tables and conclusions."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from bench.accuracy import statistics
from bench.accuracy.tables import readable_interval

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
    "in_order",
    "readable_cells",
    "readable_contrasts",
]

CELL = ["variant", "initialization", "framework"]
PLAIN = "plain"
START, AGAINST = "xavier", "default"
OURS, THEIRS = "minifw", "pytorch"
Cell = tuple[str, str, str]
Rows = dict[tuple[str, str, int], "pd.Series[Any]"]  # by contrast, where it is taken, and epoch

# Report 001's test accuracies by initialization: with Xavier's its own framework, with the default
# PyTorch. Means of as many runs.
REPORTED = {
    START: {10: 0.853, 50: 0.956, 200: 0.969},
    AGAINST: {10: 0.731, 50: 0.964, 200: 0.978},
}
REPORTED_RUNS = 10
FRAMEWORKS, STARTS = f"{OURS} - {THEIRS}", f"{START} - {AGAINST}"
AS_REPORTED = f"{OURS} {START} - {THEIRS} {AGAINST}"


def differences() -> dict[tuple[str, str], tuple[list[Cell], list[Cell]]]:
    """By name and where it is taken: the cells that are added and those that are subtracted."""
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
    """The report's epochs, as far as the runs go; the last one if they do not come to the first."""
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
            for part in statistics.PARTS
        ]
    )


def _groups(runs: pd.DataFrame, columns: list[str]) -> Any:
    """Groups in the order in which they come."""
    return runs.groupby(columns, sort=False)


def _paired(runs: pd.DataFrame, part: str) -> pd.DataFrame:
    """Accuracies: rows by epoch and seed, columns by cell."""
    return runs.pivot(index=["epoch", "seed"], columns=CELL, values=f"{part}_accuracy")


def contrasts(runs: pd.DataFrame, margin: float = statistics.MARGIN) -> pd.DataFrame:
    """One row a contrast, epoch and part, paired by seed.

    Returns:
        Columns contrast, at (the initialization, framework or variant at which it is taken; a
        variant is on minifw), epoch, part; :func:`bench.accuracy.statistics.difference_statistics`;
        prediction_low and prediction_high, where a mean of as many pairs as the report's falls 95
        times in 100; report, its own difference, and report_vs_prediction.
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
    paired = {part: _paired(runs, part) for part in statistics.PARTS}
    rows = []
    for (name, at), (added, subtracted) in named.items():
        for epoch in _measured(runs):
            for part in statistics.PARTS:
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
    """What the picture shows: one row an epoch of a curve.

    Returns:
        Columns quantity ("test accuracy", a share, or the name of a contrast, in points), at
        (initialization and framework, or the one at which the contrast is taken), epoch, seeds;
        mean; low and high, its 95 % interval by Student's t, at each epoch by itself.
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


def readable_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Test accuracies for people: a row a cell, a column an epoch, in percent."""
    rows = []
    for cell, group in _groups(cells[cells["part"] == "test"], CELL):
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": group["seeds"].iloc[0]}
        for _, at in group.iterrows():
            row[f"epoch {at['epoch']}: test %"] = readable_interval(at, ".1f", scale=100)
            figure = "" if pd.isna(at["report"]) else f"{100 * at['report']:.1f}"
            row[f"report's {at['epoch']}"] = f"{figure} {at['report_vs_prediction']}".strip()
        rows.append(row)
    return pd.DataFrame(rows)


def readable_contrasts(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Differences of test accuracy for people, in points: a row a contrast."""
    rows = []
    for (name, at), group in _groups(contrasts[contrasts["part"] == "test"], ["contrast", "at"]):
        row = {"difference, points": name, "at": at}
        for _, of in group.iterrows():
            row[f"epoch {of['epoch']}"] = _interval(of)
            row[f"verdict {of['epoch']}"] = of["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(row: "pd.Series[Any]") -> str:
    return readable_interval(row, "+.2f")


def conclusions(cells: pd.DataFrame, contrasts: pd.DataFrame) -> list[str]:
    """What follows for the report's question, from test accuracies, in paragraphs."""
    test: Rows = {
        (str(row["contrast"]), str(row["at"]), int(row["epoch"])): row
        for _, row in contrasts[contrasts["part"] == "test"].iterrows()
    }
    epochs = sorted(set(cells["epoch"].tolist()))

    def said(name: str, at: str, epoch: int) -> str:
        row = test[name, at, epoch]
        return f"{_interval(row)} ({row['verdict']})"

    told = [
        f"After {epoch} epochs: Xavier's weights less the default ones, "
        f"{said(STARTS, OURS, epoch)} points on minifw and "
        f"{said(STARTS, THEIRS, epoch)} on PyTorch; "
        f"minifw less PyTorch, {said(FRAMEWORKS, START, epoch)} from Xavier's weights and "
        f"{said(FRAMEWORKS, AGAINST, epoch)} from the default ones; interaction "
        f"{said('interaction', '', epoch)}."
        for epoch in epochs
    ]
    first, later = epochs[0], epochs[1:]
    told.append(_faster_start(test, first))
    if later:
        told.append(_slower_end(test, later))
    told += _numerics(test, epochs, said)
    told += _levels(cells)
    return told


def _report(row: "pd.Series[Any]") -> str:
    """The report's own difference, beside what as many pairs of ours come to."""
    return (
        f"{row['report']:+.1f} (ten pairs of ours: {row['prediction_low']:+.1f} to "
        f"{row['prediction_high']:+.1f}, {row['report_vs_prediction'] or 'not known'})"
    )


def _faster_start(test: Rows, first: int) -> str:
    """Whose the difference after the first epochs is."""
    by_start = all(
        row["verdict"] == "different" and row["mean"] > 0
        for row in (test[STARTS, side, first] for side in (OURS, THEIRS))
    )
    frameworks = {test[FRAMEWORKS, start, first]["verdict"] for start in REPORTED}
    alike = "equivalent" if frameworks == {"equivalent"} else "not told apart"
    return (
        "The faster start: "
        + (
            "both the initialization's and the framework's."
            if by_start and "different" in frameworks
            else "the initialization's. It is there on either framework, and from the same weights "
            f"the frameworks are {alike}."
            if by_start
            else "the framework's and not the initialization's."
            if "different" in frameworks
            else "not explained: no effect is shown."
        )
        + (
            f" The report's is {_report(test[AS_REPORTED, '', first])} points."
            if first in REPORTED[START]
            else ""
        )
    )


def _slower_end(test: Rows, later: list[int]) -> str:
    """Whether the report's slower end is more than ten runs show by chance."""
    rows = [(epoch, test[AS_REPORTED, "", epoch]) for epoch in later]
    figures = ", ".join(f"{_report(row)} points after {epoch} epochs" for epoch, row in rows)
    outside = [str(epoch) for epoch, row in rows if row["report_vs_prediction"] == "outside"]
    effects = {test[FRAMEWORKS, start, epoch]["verdict"] for start in REPORTED for epoch in later}
    alike = {
        frozenset({"equivalent"}): "equivalent",
        frozenset({"inconclusive"}): "not told apart",
        frozenset({"equivalent", "inconclusive"}): "equivalent or not told apart",
    }.get(frozenset(effects), "different")
    # By variant, after the last epoch: Xavier's weights less the default ones.
    last = {
        at: row for (name, at, epoch), row in test.items() if (name, epoch) == (STARTS, later[-1])
    }
    lower = [at for at, row in last.items() if row["verdict"] == "different" and row["mean"] < 0]
    unlikely = [at for at, row in last.items() if row["report_vs_prediction"] == "outside"]
    return (
        f"The slower end: the report's framework with its weights, less PyTorch with its own, is "
        f"{figures}. "
        + (
            f"That is more than ten such pairs show by chance after {', '.join(outside)} epochs. "
            if outside
            else "So much lies between means of ten runs by chance. "
        )
        + f"From the same weights the frameworks are {alike}. After {later[-1]} epochs Xavier's "
        + (
            f"weights are behind the default ones: {', '.join(lower)}."
            if lower
            else "weights are behind the default ones in nothing that was tried."
        )
        + (
            f" More than chance the report's difference would be with {', '.join(unlikely)}, where "
            "runs scatter less."
            if unlikely
            else ""
        )
    )


def _numerics(test: Rows, epochs: list[int], said: Any) -> list[str]:
    """What float64 changes: all that could come of badly conditioned operations."""
    name = f"float64 - {PLAIN}"
    effects = {row["verdict"] for (contrast, _, _), row in test.items() if contrast == name}
    if not effects:
        return []
    figures = "; ".join(
        f"after {epoch} epochs {said(name, START, epoch)} from Xavier's weights, "
        f"{said(name, AGAINST, epoch)} from the default ones"
        for epoch in epochs
    )
    return [
        f"Numerics: float64 less float32, on minifw, {figures}. "
        + (
            "Precision makes a difference."
            if "different" in effects
            else "Of a loss by rounding nothing is seen."
        )
    ]


def _levels(cells: pd.DataFrame) -> list[str]:
    """How many of the report's own figures each variant comes to."""
    ours = cells[(cells["framework"] == OURS) & cells["report"].notna()]
    ours = ours[ours["report_vs_prediction"] != ""]
    if ours.empty:
        return []
    hits = (ours["report_vs_prediction"] == "within").groupby(ours["variant"], sort=False).sum()
    figures = ours.groupby("variant").size().iloc[0]
    counted = ", ".join(f"{name} {count}" for name, count in hits.items())
    return [
        f"The report's own {figures} figures: so many lie where a mean of ten runs of ours would "
        f"fall 95 times in 100: {counted}. "
        + (
            "Something that its text does not say was otherwise than in all that was tried."
            if hits.max() < figures
            else "So they can be had by what its text leaves open."
        )
    ]
