"""The picture of scaling: time, speed-up and arithmetic against width, depth and batch."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.figures.estimates import OF_SAMPLES, as_samples
from bench.figures.style import BAND, INK, MUTED, NAMES, PALETTE, styled

__all__ = ["draw_scaling"]

TITLES = {"width": "width of a layer", "depth": "hidden layers", "batch": "samples in a batch"}
BY_FRAMEWORK: dict[str, Any] = {
    "x": "size",
    "hue": "framework",
    "style": "framework",
    "palette": {NAMES[side]: color for side, color in PALETTE.items()},
    "markers": dict(zip(NAMES.values(), "os", strict=True)),
    "dashes": False,
}


@styled
def draw_scaling(table: pd.DataFrame, peak: float) -> Figure:
    """Draw a column of panels for each size that grows: time, speed-up, share of the peak.

    Args:
        table: as bench/scaling.py writes it.
        peak: floating-point operations per second of a matrix product.
    """
    rows = (
        (_times, "µs per training step"),
        (_speed_ups, "speed-up over PyTorch"),
        (_shares, f"% of the peak of torch.mm\n({peak / 1e9:.0f} GFLOP/s)"),
    )
    names = table["axis"].unique()
    size = (3.6 * len(names) + 0.6, 8)
    figure, grid = plt.subplots(
        len(rows), len(names), figsize=size, sharex="col", sharey="row", squeeze=False
    )
    for name, column in zip(names, grid.T, strict=True):
        measured = table[(table["axis"] == name) & (table["wrong"] == "")]
        for axes, (draw, label) in zip(column, rows, strict=True):
            draw(axes, measured, legend="auto" if axes in grid[:, 0] else False)
            axes.set(xlabel=TITLES[name], ylabel=label)
            axes.label_outer()
            axes.grid()
        axes.set_xscale("log", base=2)
        sizes = measured["size"].iloc[::2]
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
    _log_ticks(grid[0, 0], (1, 3), "{x:,g}")
    _log_ticks(grid[1, 0], (1, 1.5, 2, 3, 5), "{x:g}")
    # An interval that is wider than all estimates is cut off.
    grid[1, 0].set_ylim(table["ratio"].min() / 2, table["ratio"].max() * 1.5)
    grid[2, 0].set_ylim(bottom=0)
    sns.move_legend(grid[0, 0], "upper left", title=None)
    grid[1, 0].legend(loc="lower left")
    figure.suptitle(
        "A training step of the disk network as it grows: overhead, then arithmetic",
        fontweight="bold",
    )
    return figure


def _frameworks(table: pd.DataFrame) -> pd.DataFrame:
    """A row a size and framework: framework, low, time and high in µs, share in %."""
    sides = [
        table.assign(
            framework=name,
            low=1e6 * table[f"{side}_q1"],
            time=1e6 * table[side],
            high=1e6 * table[f"{side}_q3"],
            share=100 * table[f"{side}_peak_share"],
        )
        for side, name in NAMES.items()
    ]
    return pd.concat(sides, ignore_index=True)


def _times(axes: Axes, table: pd.DataFrame, legend: Any) -> None:
    samples = as_samples(_frameworks(table), "low", "time", "high")
    sns.lineplot(samples, y="sample", ax=axes, legend=legend, **BY_FRAMEWORK, **OF_SAMPLES)


def _speed_ups(axes: Axes, table: pd.DataFrame, legend: Any) -> None:
    axes.axhline(1, color=MUTED, linewidth=0.8)
    axes.fill_between(
        table["size"],
        table["noise_low"],
        table["noise_high"],
        color=BAND,
        linewidth=0,
        label="noise floor: a framework timed against itself",
    )
    sns.lineplot(
        as_samples(table, "ratio_low", "ratio", "ratio_high"),
        x="size",
        y="sample",
        color=INK,
        marker="D",
        err_style="bars",
        err_kws={"capsize": 3},
        label="speed-up, with 95 % interval",
        ax=axes,
        legend=legend,
        **OF_SAMPLES,
    )


def _shares(axes: Axes, table: pd.DataFrame, legend: Any) -> None:
    axes.axhline(50, color=MUTED, linewidth=0.8, linestyle=":")
    sns.lineplot(_frameworks(table), y="share", ax=axes, legend=False, **BY_FRAMEWORK)


def _log_ticks(axes: Axes, digits: tuple[float, ...], form: str) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_major_formatter(form)
    axes.yaxis.set_minor_locator(NullLocator())
