"""Figures: learning curves by initialization and framework."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
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
from bench.figures.style import BAND, LINES, MUTED, OTHERS, styled

__all__ = ["describe_initialization", "draw_initialization"]

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)


@styled
def draw_initialization(curves: pd.DataFrame) -> Figure:
    """Draw the learning curves of the four cells, and the differences between them.

    Args:
        curves: as :func:`bench.accuracy.initialization.curves` gives it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    _levels(left, curves[curves["quantity"] == "test accuracy"])
    _effects(right, curves)
    ticks = [tick for tick in _TICKS if tick <= curves["epoch"].max()]
    for axes in (left, right):
        axes.set(xlabel="epoch", xscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid()
        axes.legend(fontsize="small")
    return figure


def describe_initialization(curves: pd.DataFrame) -> str:
    """What is to be seen, in words."""
    epochs = curves["epoch"].max()
    ends = curves[(curves["quantity"] == "test accuracy") & (curves["epoch"] == epochs)]
    reached = ", ".join(
        f"{at} {100 * mean:.1f} %" for at, mean in zip(ends["at"], ends["mean"], strict=True)
    )
    return (
        "Left: mean test accuracy over epochs of four cells, with report 001's figures as marks; "
        f"after {epochs} epochs: {reached}. Right: differences between frameworks and between "
        "initializations, with 95 % intervals."
    )


def _levels(axes: Axes, accuracies: pd.DataFrame) -> None:
    colors = dict(zip(REPORTED, OTHERS, strict=False))
    for at, curve in accuracies.groupby("at", sort=False):
        start, side = str(at).split(", ")
        _curve(axes, curve, 100, color=colors[start], linestyle=LINES[side], label=at)
    for start, figures in REPORTED.items():
        epochs = [epoch for epoch in figures if epoch <= accuracies["epoch"].max()]
        axes.plot(
            epochs,
            [100 * figures[epoch] for epoch in epochs],
            linestyle="none",
            marker="o" if start == START else "s",
            color=colors[start],
            label=f"report: {start}, {'its own' if start == START else THEIRS}",
        )
    seeds = accuracies["seeds"].max()
    axes.set(ylabel="test accuracy, %", title=f"means of {seeds} seeds, 95 % intervals")


def _effects(axes: Axes, curves: pd.DataFrame) -> None:
    # A color a contrast, dashes for the second place at which it is taken.
    colors = dict(zip((FRAMEWORKS, STARTS), OTHERS[2:], strict=False))
    for name, at in differences():
        curve = curves[(curves["quantity"] == name) & (curves["at"] == at)]
        if not curve.empty:
            line = LINES[OURS] if at in (AGAINST, THEIRS) else "-"
            _curve(axes, curve, 1, color=colors[name], linestyle=line, label=f"{name} ({at})")
    axes.axhspan(-MARGIN, MARGIN, color=BAND, linewidth=0, zorder=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set(ylabel="difference, points (band: the margin)", title="paired by seed")


def _curve(axes: Axes, curve: pd.DataFrame, scale: int, *, color: str, **style: Any) -> None:
    mean, low, high = (scale * curve[name].to_numpy(float) for name in ("mean", "low", "high"))
    axes.plot(curve["epoch"], mean, color=color, **style)
    axes.fill_between(curve["epoch"], low, high, color=color, alpha=0.15, linewidth=0)
