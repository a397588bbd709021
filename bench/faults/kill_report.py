"""What the kill matrix leaves in the output folder: a table, a report and a picture."""

from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.cli.files import write_files
from bench.faults.kill_matrix import LAYER_CHECKS, KillMatrix

__all__ = ["draw_kill_matrix", "write_kill_matrix"]

COLORS = {
    "check not made": "#ffffff",
    "passes": "#e3e8ec",
    "kills the fault": "#1b6ca8",
    "is the only one to": "#d95f02",
}
CELL, NAMES, HEAD = 0.17, 5.4, 1.9  # inches: a cell, room for the faults' names, for the checks'


def write_kill_matrix(matrix: KillMatrix, folder: Path) -> None:
    """Write kill_matrix.csv, .md and .png."""
    figure = draw_kill_matrix(matrix)
    write_files(
        folder,
        {
            "kill_matrix.csv": lambda path: matrix.frame().astype("Int64").to_csv(path),
            "kill_matrix.md": lambda path: path.write_text(_report(matrix)),
            "kill_matrix.png": lambda path: figure.savefig(path, dpi=130),
        },
    )
    plt.close(figure)


def _report(matrix: KillMatrix) -> str:
    faults, checks = matrix.faults(), matrix.checks()
    return "\n\n".join(
        [
            "# The tester tested",
            f"{(faults['killed by'] > 0).sum()} of {len(faults)} faults are killed; survivors: "
            f"{', '.join(matrix.survivors()) or 'none'}. A check kills a fault if it fails with "
            "the fault, and passes without it, on the same row.",
            "## Faults",
            faults.to_markdown(index=False),
            "## Checks",
            checks.to_markdown(index=False),
            "Checks that kill nothing that another does not, each taken by itself, since two may "
            f"stand in for each other: {', '.join(matrix.redundant())}.\n",
        ]
    )


def draw_kill_matrix(matrix: KillMatrix) -> Figure:
    """Blue where a check kills a fault, orange where no other does; counts at the margins."""
    frame = matrix.frame()
    layers = frame[LAYER_CHECKS[0]].notna()
    panels = [frame[of].dropna(axis=1, how="all") for of in (layers, ~layers)]
    panels = [panel for panel in panels if len(panel)]
    widths = [NAMES + CELL * panel.shape[1] + 0.5 for panel in panels]
    height = HEAD + CELL * max(map(len, panels)) + 0.8
    figure = plt.figure(figsize=(sum(widths), height))
    left = 0.0
    for panel, width in zip(panels, widths, strict=True):
        box = (left + NAMES, height - HEAD - CELL * len(panel), width - NAMES - 0.5)
        axes = figure.add_axes(
            (
                box[0] / sum(widths),
                box[1] / height,
                box[2] / sum(widths),
                CELL * len(panel) / height,
            )
        )
        _draw_panel(axes, panel)
        left += width
    killed = len(frame) - len(matrix.survivors())
    figure.suptitle(
        f"{killed} of {len(frame)} faults killed by {frame.shape[1]} checks", y=1 - 0.15 / height
    )
    figure.legend(
        handles=[Patch(facecolor=c, edgecolor="#b0b8be", label=n) for n, c in COLORS.items()],
        loc="lower center",
        ncols=len(COLORS),
        frameon=False,
    )
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    killed = panel.fillna(0).astype(bool)
    alone = killed.sum(axis=1) == 1
    levels = panel.notna().to_numpy().astype(int) + killed.to_numpy()
    levels[alone.to_numpy()] += killed[alone].to_numpy()
    axes.pcolormesh(
        levels, cmap=ListedColormap(list(COLORS.values())), vmin=0, vmax=3, edgecolors="white"
    )
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    axes.set_yticks(np.arange(len(panel)) + 0.5, panel.index.get_level_values("fault"))
    axes.set_xticks(
        np.arange(panel.shape[1]) + 0.5,
        [f"{name}  {killed[name].sum()}" for name in panel.columns],
        rotation=90,
    )
    axes.xaxis.tick_top()
    for row, count in enumerate(killed.sum(axis=1)):
        axes.text(panel.shape[1] + 0.3, row + 0.5, str(count), fontsize=7, va="center")
    row = 0
    for _, group in groupby(panel.index.get_level_values("where")):
        row += len(list(group))
        axes.axhline(
            row, color="#5c6770", linewidth=0.6, xmin=-NAMES / CELL / panel.shape[1], clip_on=False
        )
