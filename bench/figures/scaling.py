"""The picture of scaling: time, ratio and arithmetic against width, depth and batch."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.figures.style import NAMES, PALETTE

__all__ = ["draw_scaling"]

MARKERS = {"minifw": "o", "pytorch": "s"}
TITLES = {"width": "width of a layer", "depth": "hidden layers", "batch": "samples a batch"}
GRAY = "#666666"


def _times(axes: Axes, own: pd.DataFrame) -> None:
    for side, color in PALETTE.items():
        axes.plot(
            own["size"], 1e6 * own[side], color=color, marker=MARKERS[side], label=NAMES[side]
        )
        axes.fill_between(
            own["size"],
            1e6 * own[f"{side}_q1"],
            1e6 * own[f"{side}_q3"],
            color=color,
            alpha=0.2,
            linewidth=0,
        )


def _ratios(axes: Axes, own: pd.DataFrame) -> None:
    axes.axhline(1, color=GRAY, linewidth=1)
    axes.fill_between(
        own["size"],
        own["noise_low"],
        own["noise_high"],
        color=GRAY,
        alpha=0.25,
        linewidth=0,
        label="noise floor: a side over itself",
    )
    axes.errorbar(
        own["size"],
        own["ratio"],
        yerr=[own["ratio"] - own["ratio_low"], own["ratio_high"] - own["ratio"]],
        color="black",
        marker="D",
        capsize=3,
        label="ratio, with 95 % interval",
    )


def _shares(axes: Axes, own: pd.DataFrame) -> None:
    axes.axhline(50, color=GRAY, linewidth=1, linestyle=":")
    for side, color in PALETTE.items():
        axes.plot(own["size"], 100 * own[f"{side}_peak_share"], color=color, marker=MARKERS[side])


def draw_scaling(table: pd.DataFrame, peak: float) -> Figure:
    """Draw a column of panels for each size that grows: time, ratio, share of the peak.

    Args:
        table: as bench/scaling.py writes it.
        peak: FLOP a second of a matrix product.
    """
    rows = (
        (_times, "µs a training step"),
        (_ratios, "PyTorch's time / minifw's"),
        (_shares, f"% of the peak of torch.mm\n({peak / 1e9:.0f} GFLOP/s)"),
    )
    names = list(table["axis"].unique())
    figure, grid = plt.subplots(
        len(rows),
        len(names),
        figsize=(4.2 * len(names) + 0.6, 9),
        sharex="col",
        sharey="row",
        layout="constrained",
        squeeze=False,
    )
    for column, name in enumerate(names):
        own = table[(table["axis"] == name) & (table["wrong"] == "")]
        for axes, (draw, label) in zip(grid[:, column], rows, strict=True):
            draw(axes, own)
            axes.set_xscale("log", base=2)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        sizes = own["size"].iloc[::2]
        grid[-1, column].set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        grid[-1, column].xaxis.set_minor_locator(NullLocator())
        grid[-1, column].set_xlabel(TITLES[name])
    grid[0, 0].set_yscale("log")
    grid[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    grid[0, 0].yaxis.set_major_formatter("{x:,g}")
    grid[0, 0].yaxis.set_minor_locator(NullLocator())
    grid[1, 0].set_yscale("log")
    # Where an interval is wider than all that is known, it is cut off.
    grid[1, 0].set_ylim(table["ratio"].min() / 2, table["ratio"].max() * 1.5)
    grid[1, 0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    grid[1, 0].yaxis.set_major_formatter("{x:g}")
    grid[1, 0].yaxis.set_minor_locator(NullLocator())
    grid[0, 0].legend()
    grid[1, 0].legend(loc="lower left")
    grid[2, 0].set_ylim(bottom=0)
    figure.suptitle("A training step of the disk network as it grows: overhead, then arithmetic")
    return figure
