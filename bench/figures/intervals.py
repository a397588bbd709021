"""Figures of intervals: differences of accuracy against a margin, ratios of time against noise."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.figures.style import BAND, INK, MUTED, PALETTE, PAPER, styled

__all__ = ["draw_differences", "draw_ratios"]

WIDTH, ROW, HEAD = 3.7, 0.27, 0.85  # inches


@styled
def draw_differences(differences: pd.DataFrame, margin: float, title: str) -> Figure:
    """A forest plot: differences of accuracy with their intervals, over the band of the margin.

    Args:
        differences: a row a line: label, value, low, high, in points; held, whether the interval
            counts as good.
        margin: half the width of the band, in points.
        title: of the figure.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, ROW * len(differences) + HEAD))
    axes.axvspan(-margin, margin, color=BAND, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    numbers = differences[["value", "low", "high"]].to_numpy(float)
    for place, ((value, *ends), held) in enumerate(zip(numbers, differences["held"], strict=True)):
        axes.plot(ends, [place, place], color=INK, solid_capstyle="butt")
        color = PALETTE["pytorch" if held else "minifw"]
        axes.plot(value, place, "o" if held else "X", color=color, markersize=6)
    _rows(figure, differences["label"])
    reach = 1.15 * max(margin, np.nanmax(np.abs(numbers)))
    axes.set(xlim=(-reach, reach), xlabel="minifw minus PyTorch, points")
    axes.set_title(title, loc="left")
    return figure


@styled
def draw_ratios(
    ratios: pd.DataFrame, label: str, title: str, limits: tuple[float, float]
) -> Figure:
    """A dot plot: ratios with their intervals, over the noise floor of each.

    Args:
        ratios: a row a line: label, value, low, high; noise_low, noise_high, the ends of the noise
            floor; claimed, whether the interval leaves 1 out.
        label: of the horizontal axis.
        title: of the figure.
        limits: ends of the axis, so that several figures can have the same.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, ROW * len(ratios) + HEAD))
    axes.axvline(1, color=MUTED, linewidth=0.8)
    numbers = ratios[["value", "low", "high", "noise_low", "noise_high"]].to_numpy(float)
    for place, (row, claimed) in enumerate(zip(numbers, ratios["claimed"], strict=True)):
        value, ends, noise, line = row[0], row[1:3], row[3:], [place, place]
        axes.plot(noise, line, color=BAND, linewidth=9, solid_capstyle="butt", zorder=0)
        axes.plot(ends, line, color=INK, solid_capstyle="butt")
        color = PALETTE["minifw" if value > 1 else "pytorch"]
        inner = color if claimed else PAPER
        axes.plot(value, place, "o", color=color, markerfacecolor=inner, markersize=6)
    _rows(figure, ratios["label"])
    axes.set(xlim=limits, xlabel=label)
    axes.set_title(title, loc="left")
    return figure


def _rows(figure: Figure, labels: "pd.Series[str]") -> None:
    """Name the rows of the only panel, from top to bottom."""
    (axes,) = figure.axes
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
