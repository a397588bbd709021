"""Figures of report 001's question: learning curves by initialization and framework."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.accuracy.initialization import (
    AGAINST,
    FRAMEWORKS,
    OURS,
    REPORTED,
    START,
    STARTS,
    THEIRS,
    differences,
)
from bench.accuracy.statistics import MARGIN
from bench.figures.estimates import OF_SAMPLES, as_samples
from bench.figures.style import BAND, DASHES, INK, MUTED, OTHERS, styled

__all__ = ["describe_initialization", "draw_initialization"]

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)


@styled
def draw_initialization(curves: pd.DataFrame) -> Figure:
    """Draw the learning curves of both initializations on both frameworks, and their differences.

    Args:
        curves: as :func:`bench.accuracy.initialization.curves` returns it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    _accuracies(left, curves[curves["quantity"] == "test accuracy"])
    _differences(right, curves)
    ticks = [tick for tick in _TICKS if tick <= curves["epoch"].max()]
    for axes in (left, right):
        axes.set(xlabel="epoch", xscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid()
        axes.legend(fontsize="small")
    return figure


def describe_initialization(curves: pd.DataFrame) -> str:
    """Say in words what the picture shows."""
    epochs = curves["epoch"].max()
    ends = curves[(curves["quantity"] == "test accuracy") & (curves["epoch"] == epochs)]
    reached = ", ".join(
        f"{at} {100 * mean:.1f} %" for at, mean in zip(ends["at"], ends["mean"], strict=True)
    )
    return (
        "Left: mean test accuracy over the epochs by initialization and framework, with report "
        f"001's figures as markers; after {epochs} epochs: {reached}. Right: differences between "
        "frameworks and between initializations in percentage points, with 95 % intervals."
    )


def _accuracies(axes: Axes, accuracies: pd.DataFrame) -> None:
    colors = dict(zip(REPORTED, OTHERS, strict=False))
    cells = {cell: cell.split(", ") for cell in accuracies["at"].unique()}
    percent = accuracies.assign(**(100 * accuracies[["low", "mean", "high"]]))
    _curves(
        axes,
        percent.assign(curve=percent["at"]),
        palette={cell: colors[start] for cell, (start, _) in cells.items()},
        dashes={cell: DASHES[side] for cell, (_, side) in cells.items()},
    )
    last = accuracies["epoch"].max()
    for (start, figures), marker in zip(REPORTED.items(), "os", strict=True):
        axes.plot(
            [epoch for epoch in figures if epoch <= last],
            [100 * accuracy for epoch, accuracy in figures.items() if epoch <= last],
            linestyle="none",
            marker=marker,
            color=colors[start],
            label=f"report: {start}, {'its own framework' if start == START else THEIRS}",
        )
    seeds = accuracies["seeds"].max()
    axes.set(ylabel="test accuracy, %", title=f"means of {seeds} seeds, 95 % intervals")


def _differences(axes: Axes, curves: pd.DataFrame) -> None:
    # A color a contrast, and dashes for the second of the two cells where it is measured.
    colors = {FRAMEWORKS: INK, STARTS: OTHERS[2]}
    shown = {(name, at): f"{name} ({at})" for name, at in differences() if name in colors}
    _curves(
        axes,
        curves.assign(curve=curves["quantity"] + " (" + curves["at"] + ")"),
        palette={curve: colors[name] for (name, _), curve in shown.items()},
        dashes={
            curve: DASHES[OURS if at in (AGAINST, THEIRS) else THEIRS]
            for (_, at), curve in shown.items()
        },
    )
    axes.axhspan(-MARGIN, MARGIN, color=BAND, linewidth=0, zorder=0, label="equivalence margin")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set(ylabel="difference, percentage points", title="paired by seed")


def _curves(axes: Axes, table: pd.DataFrame, **looks: dict[str, Any]) -> None:
    """Draw the curves that ``looks`` names, with their intervals."""
    table = table[table["curve"].isin(looks["palette"])]
    samples = as_samples(table, "low", "mean", "high")
    sns.lineplot(
        samples, x="epoch", y="sample", hue="curve", style="curve", ax=axes, **looks, **OF_SAMPLES
    )
