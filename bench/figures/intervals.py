"""Figures of intervals: differences of accuracy and a margin, speed-ups and a noise floor."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures.estimates import OF_SAMPLES, as_samples
from bench.figures.style import BAND, MUTED, PALETTE, styled

__all__ = ["draw_differences", "draw_ratios"]

WIDTH, ROW, HEAD = 3.7, 0.27, 0.85  # inches


@styled
def draw_differences(differences: pd.DataFrame, margin: float, title: str) -> Figure:
    """Draw a forest plot: minifw's accuracy minus PyTorch's, with intervals and a band, the margin.

    Args:
        differences: a row an interval: label, value, low, high, in percentage points; equivalent,
            whether it lies within the margin.
        margin: half the width of the band, in percentage points.
        title: of the figure.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, ROW * len(differences) + HEAD))
    axes.axvspan(-margin, margin, color=BAND, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    colors = {True: PALETTE["pytorch"], False: PALETTE["minifw"]}
    _points(axes, differences, "equivalent", colors, ["o", "X"])
    reach = 1.15 * max(margin, np.nanmax(differences[["value", "low", "high"]].abs()))
    axes.set(xlim=(-reach, reach), xlabel="difference, percentage points")
    axes.set_title(title, loc="left")
    return figure


@styled
def draw_ratios(
    ratios: pd.DataFrame, label: str, title: str, limits: tuple[float, float]
) -> Figure:
    """Draw a dot plot: ratios with their intervals, and the noise floor of each as a bar.

    Args:
        ratios: a row a ratio: label, value, low, high; noise_low, noise_high, the ends of the noise
            floor; claimed, whether the interval excludes 1.
        label: of the horizontal axis.
        title: of the figure.
        limits: ends of the axis, so that several figures can have the same.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, ROW * len(ratios) + HEAD))
    axes.axvline(1, color=MUTED, linewidth=0.8)
    rows = range(len(ratios))
    axes.hlines(rows, ratios["noise_low"], ratios["noise_high"], color=BAND, linewidth=9, zorder=0)
    faster = np.where(ratios["value"] > 1, "minifw", "pytorch")
    ratios = ratios.assign(faster=np.where(ratios["claimed"], faster, "neither"))
    _points(axes, ratios, "faster", PALETTE | {"neither": MUTED}, ["o", "s", "X"])
    axes.set(xlim=limits, xlabel=label)
    axes.set_title(title, loc="left")
    return figure


def _points(
    axes: Axes, table: pd.DataFrame, hue: str, colors: dict[Any, str], markers: list[str]
) -> None:
    """Draw a point with its interval, in the color of ``hue``, in a row for each label."""
    sns.pointplot(
        as_samples(table, "low", "value", "high"),
        x="sample",
        y="label",
        hue=hue,
        order=table["label"],
        hue_order=list(colors),
        palette=colors,
        markers=markers,
        linestyle="none",
        markersize=5,
        err_kws={"linewidth": 1.6},
        legend=False,
        ax=axes,
        **OF_SAMPLES,
    )
    axes.set(ylabel="", ylim=(len(table) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
