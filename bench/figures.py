"""Figures: the data set, learning curves with their spread, decision regions and the true disk."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator

from bench.peer_timing import AGAIN
from bench.sweep import Finished
from minifw.data import DISK_RADIUS
from reference.recipes import Data

__all__ = ["draw_curves", "draw_data", "draw_peers", "draw_regions", "save"]

# Told apart without colour too: by dashes in curves, by titles elsewhere.
PALETTE = {"minifw": "#d95f02", "pytorch": "#1b6ca8"}
OTHERS = ("#1b9e77", "#7570b3", "#e7298a", "#a6761d", "#66a61e", "#666666")
COLUMNS = 5
LINES = {"minifw": (0, (2, 2)), "pytorch": "-"}


def _unit_square(axes: Axes) -> None:
    axes.add_patch(Circle((0.5, 0.5), DISK_RADIUS, fill=False, color="black", linewidth=1.2))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def draw_data(train: Data, test: Data) -> Figure:
    """Training and test points of one seed, by label, with the true circle."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 5.2), layout="constrained")
    for axes, name, (points, labels) in zip(
        panels, ("training", "test"), (train, test), strict=True
    ):
        inside = labels.flatten() > labels.double().mean()
        frame = pd.DataFrame(points.cpu().numpy(), columns=["x", "y"]).assign(
            label=np.where(inside.cpu().numpy(), "inside", "outside")
        )
        sns.scatterplot(
            frame,
            x="x",
            y="y",
            hue="label",
            style="label",
            hue_order=["inside", "outside"],
            style_order=["inside", "outside"],
            palette=["#d95f02", "#1b6ca8"],
            s=14,
            linewidth=0,
            ax=axes,
        )
        _unit_square(axes)
        axes.set_title(f"{len(points)} {name} points, {100 * inside.float().mean():.1f} % inside")
        sns.move_legend(axes, "upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, title=None)
    return figure


def _panels(
    recipes: int, rows: int, width: float, height: float
) -> tuple[Figure, list[list[Axes]]]:
    """A figure, and for each recipe a column of ``rows`` panels; COLUMNS recipes side by side."""
    columns, blocks = min(recipes, COLUMNS), -(-recipes // COLUMNS)
    figure, grid = plt.subplots(
        rows * blocks,
        columns,
        figsize=(width * columns + 1, height * rows * blocks + 0.5),
        layout="constrained",
        squeeze=False,
    )
    places = [
        list(grid[rows * block : rows * (block + 1), column])
        for block in range(blocks)
        for column in range(columns)
    ]
    for unused in places[recipes:]:
        for axes in unused:
            axes.remove()
    return figure, places


def draw_curves(averages: pd.DataFrame, seeds: int) -> Figure:
    """By recipe, loss and accuracy over the epochs: mean over seeds and standard deviation.

    The accuracy is that on the points of validation: the test points, but for a recipe that stops
    early, which has points of its own.

    Args:
        averages: as :func:`bench.tables.average_curves` gives them.
        seeds: how many seeds they are over.
    """
    recipes = list(averages["recipe"].unique())
    figure, panels = _panels(len(recipes), rows=2, width=3.1, height=2.9)
    # PyTorch first, so that minifw's dashes lie on its line where the two coincide.
    frameworks = sorted(averages["framework"].unique(), reverse=True)
    measures = {"loss": "training loss", "validation_accuracy": "validation accuracy"}
    for (row, (measure, label)), (place, recipe) in product(
        enumerate(measures.items()), enumerate(recipes)
    ):
        axes = panels[place][row]
        for framework in frameworks:
            curve = averages[(averages["recipe"] == recipe) & (averages["framework"] == framework)]
            mean, spread = curve[f"{measure}_mean"], curve[f"{measure}_std"].fillna(0)
            style = {"color": PALETTE[framework], "label": framework}
            axes.plot(curve["epoch"], mean, **style, linestyle=LINES[framework])
            axes.fill_between(
                curve["epoch"], mean - spread, mean + spread, **style, alpha=0.2, linewidth=0
            )
        axes.set(xlabel="epoch", ylabel=label if place % COLUMNS == 0 else "")
        if row == 0:
            axes.set(title=recipe, ylim=(0, axes.dataLim.y1 * 1.08))
        else:
            axes.set_ylim(max(0, averages["validation_accuracy_mean"].min() - 0.1), 1.01)
    figure.legend(
        handles=panels[0][0].get_lines(),
        loc="outside lower center",
        ncols=len(frameworks),
        title=f"mean and standard deviation over {seeds} seeds",
    )
    return figure


def draw_regions(finished: Sequence[Finished]) -> Figure:
    """By recipe and framework, the share of seeds whose model takes a point for inside."""
    recipes = list(dict.fromkeys(run.task.recipe for run in finished))
    frameworks = list(dict.fromkeys(run.task.framework for run in finished))
    figure, panels = _panels(len(recipes), rows=len(frameworks), width=2.7, height=2.7)
    for place, recipe in enumerate(recipes):
        for row, framework in enumerate(frameworks):
            axes = panels[place][row]
            inside = np.mean(
                [
                    run.regions[-1]
                    for run in finished
                    if (run.task.recipe, run.task.framework) == (recipe, framework)
                ],
                axis=0,
            )
            image = axes.imshow(
                inside,
                origin="lower",
                extent=(0, 1, 0, 1),
                cmap="Oranges",
                vmin=0,
                vmax=1,
            )
            _unit_square(axes)
            if row == 0:
                axes.set_title(recipe)
            if place % COLUMNS == 0:
                axes.set_ylabel(framework, fontsize="large")
    seeds = len({run.task.seed for run in finished})
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.8)
    bar.set_label(f"share of {seeds} seeds that say inside (line: the true disk)")
    return figure


def draw_peers(table: pd.DataFrame) -> Figure:
    """Microseconds of a step by peer, and of a step a network by size of the stack.

    Args:
        table: as :func:`bench.peer_tables.summarise` gives it.
    """
    figure, (bars, lines) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    network = table[table["setting"] == "network"].sort_values("us", ascending=False)
    bars.barh(
        network["peer"],
        network["us"],
        xerr=[network["us"] - network["us_q1"], network["us_q3"] - network["us"]],
        color=[PALETTE.get(peer, "#b0b0b0") for peer in network["peer"]],
        capsize=3,
    )
    bars.bar_label(bars.containers[-1], fmt="{:.0f}", padding=8)
    bars.margins(x=0.15)
    bars.set(xlabel="µs a training step, with quartiles", title="one network")

    stacks = table[(table["setting"] == "stack") & (table["peer"] != AGAIN)]
    for peer, colour, marker in zip(stacks["peer"].unique(), OTHERS, "^vDPX*", strict=False):
        own = stacks[stacks["peer"] == peer]
        style = {"color": PALETTE.get(peer, colour), "label": peer}
        lines.plot(own["members"], own["us"], marker=marker, **style)
        lines.fill_between(own["members"], own["us_q1"], own["us_q3"], alpha=0.2, **style)
    lines.set(xscale="log", yscale="log", title="stacks")
    lines.set(xlabel="networks in the stack", ylabel="µs a training step a network")
    sizes = stacks["members"].unique()
    lines.set_xticks(sizes, list(map(str, sizes)))
    lines.set_xticks([], minor=True)
    lines.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lines.yaxis.set_major_formatter("{x:g}")
    lines.set_yticks([], minor=True)
    lines.legend(handles=lines.get_lines())
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a picture, and close it."""
    figure.savefig(path, dpi=110)
    plt.close(figure)
