"""Figures of training: the data set, learning curves with their spread, decision regions."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from bench.figures.estimates import OF_SAMPLES, as_samples
from bench.figures.style import DASHES, INK, INSIDE, NAMES, PALETTE, styled
from minifw.data import DISK_RADIUS
from reference.recipes import Data

__all__ = ["draw_curves", "draw_data", "draw_regions"]

MEASURES = {"loss": "training loss", "validation_accuracy": "validation accuracy"}
SIDE_BY_SIDE = 2  # recipes


def _unit_square(axes: Axes) -> None:
    axes.add_patch(Circle((0.5, 0.5), DISK_RADIUS, fill=False, color=INK, linewidth=1.2))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.spines[:].set_visible(True)


def _panels(
    recipes: list[str], rows: int, columns: int, size: tuple[float, float]
) -> tuple[Figure, list[list[list[Axes]]]]:
    """A figure, and for each recipe its panels by row and column; SIDE_BY_SIDE recipes in a row."""
    beside = min(len(recipes), SIDE_BY_SIDE)
    blocks = -(-len(recipes) // beside)
    figure = plt.figure(figsize=(size[0] * columns * beside, (size[1] * rows + 0.35) * blocks))
    places = figure.subfigures(blocks, beside, squeeze=False).flatten()[: len(recipes)]
    for place, recipe in zip(places, recipes, strict=True):
        place.suptitle(recipe, x=0.02, horizontalalignment="left", fontsize=9, fontweight="bold")
    return figure, [place.subplots(rows, columns, squeeze=False).tolist() for place in places]


@styled
def draw_data(train: Data, test: Data) -> Figure:
    """Draw the training and test points of one seed, by label, with the true circle."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 4.5))
    for axes, name, (points, labels) in zip(
        panels, ("training", "test"), (train, test), strict=True
    ):
        is_inside = (labels.flatten() > labels.double().mean()).cpu().numpy()
        x, y = points.cpu().numpy().T
        # Not seaborn's scatterplot, which repeats the style of each point: three times the file.
        for label, chosen, color, marker in (
            ("inside", is_inside, PALETTE["minifw"], "o"),
            ("outside", ~is_inside, PALETTE["pytorch"], "x"),
        ):
            axes.plot(x[chosen], y[chosen], marker, color=color, markersize=2.5, label=label)
        _unit_square(axes)
        axes.set_title(f"{len(points)} {name} points, {100 * is_inside.mean():.1f} % inside")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def draw_curves(averages: pd.DataFrame, alone: bool = False) -> Figure:
    """Draw loss and accuracy over the epochs by recipe: mean over seeds and standard deviation.

    The accuracy is measured on the validation points: the test points, except for a recipe that
    stops early, which has validation points of its own.

    Args:
        averages: as :func:`bench.runs.tables.average_curves` returns them.
        alone: draw no legend, since the page around the figure has one.
    """
    recipes = list(averages["recipe"].unique())
    figure, places = _panels(recipes, rows=1, columns=len(MEASURES), size=(2, 1.5))
    key = places[0][0][0]
    for recipe, ((*panels,),) in zip(recipes, places, strict=True):
        curves = averages[averages["recipe"] == recipe]
        for axes, (measure, label) in zip(panels, MEASURES.items(), strict=True):
            mean, spread = curves[f"{measure}_mean"], curves[f"{measure}_std"].fillna(0)
            bounds = curves.assign(low=mean - spread, mean=mean, high=mean + spread)
            sns.lineplot(
                as_samples(bounds, "low", "mean", "high"),
                x="epoch",
                y="sample",
                hue="framework",
                style="framework",
                # PyTorch first, so that minifw's dashes lie on its line where the two coincide.
                hue_order=["pytorch", "minifw"],
                palette=PALETTE,
                dashes=DASHES,
                legend="auto" if axes is key and not alone else False,
                ax=axes,
                **OF_SAMPLES,
            )
            axes.set(xlabel="epoch", ylabel="")
            axes.set_title(label, loc="left", fontsize="small", fontweight="normal")
            axes.grid(axis="y")
        loss, accuracy = panels
        loss.set_ylim(0, loss.dataLim.y1 * 1.08)
        accuracy.set_ylim(max(0, averages["validation_accuracy_mean"].min() - 0.1), 1.01)
    if not alone:
        handles, sides = key.get_legend_handles_labels()
        key.legend(handles, [NAMES[side] for side in sides], loc="upper right", fontsize="small")
    return figure


@styled
def draw_regions(regions: pd.DataFrame) -> Figure:
    """By recipe, framework and epoch, the share of seeds whose model takes a point for inside.

    The share is the opacity; the line is the true disk.

    Args:
        regions: as :func:`bench.runs.regions.average_regions` gives them.
    """
    recipes = list(regions["recipe"].unique())
    frameworks = list(regions["framework"].unique())
    columns = int(regions.groupby(["recipe", "framework"]).size().max())
    figure, places = _panels(recipes, len(frameworks), columns, size=(1.08, 1))
    for recipe, panels in zip(recipes, places, strict=True):
        for framework, line in zip(frameworks, panels, strict=True):
            shares = regions[(regions["recipe"] == recipe) & (regions["framework"] == framework)]
            for axes, epoch, share in zip(line, shares["epoch"], shares["share"], strict=False):
                axes.imshow(
                    share,
                    origin="lower",
                    extent=(0, 1, 0, 1),
                    cmap=INSIDE,
                    vmin=0,
                    vmax=1,
                    interpolation="none",
                )
                _unit_square(axes)
                axes.tick_params(labelbottom=False, labelleft=False, length=0)
                if framework == frameworks[0]:
                    when = f"epoch {epoch}" if axes is not line[len(shares) - 1] else "trained"
                    axes.set_title(when, fontsize="small", fontweight="normal")
            for unused in line[len(shares) :]:
                unused.remove()
            line[0].set_ylabel(NAMES[framework])
    return figure
