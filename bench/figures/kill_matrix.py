"""The picture of the kill matrix: which checks find the faults of which family."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from bench.figures.style import BAND, INK, PALETTE, styled

__all__ = ["draw_kill_matrix"]

# Opacity, so that the page shows through, and never so much that the numbers are hard to read.
_KILLED = LinearSegmentedColormap.from_list(
    "killed", [(*to_rgb(PALETTE["pytorch"]), opacity) for opacity in (0, 0.6)]
)


@styled
def draw_kill_matrix(matrix: pd.DataFrame, families: Sequence[str]) -> Figure:
    """Draw a heatmap of checks by families of faults: how many faults of a family a check kills.

    The color is the share of those that the check was tried on; a cell is empty where it was tried
    on none. A star marks a check that kills a fault that no other check kills.

    Args:
        matrix: a row a fault, a column a check, as ``KillMatrix.frame`` returns it.
        families: of the faults, in the order of the rows.
    """
    killed = matrix.fillna(0).astype(int)
    killed_alone = killed[killed.sum(axis=1) == 1].reindex(killed.index, fill_value=0)
    by_family = [str(family) for family in families]
    kills = killed.groupby(by_family, sort=False).sum().T
    tried = matrix.notna().groupby(by_family, sort=False).sum().T
    alone = killed_alone.groupby(by_family, sort=False).sum().T
    sizes = pd.Series(by_family).value_counts()
    figure, axes = plt.subplots(figsize=(1.6 + 0.85 * len(sizes), 1 + 0.19 * len(kills)))
    sns.heatmap(
        kills / tried,
        annot=kills.astype(str) + (alone > 0).replace({True: "*", False: ""}),
        fmt="",
        annot_kws={"color": INK, "fontsize": "small"},
        mask=tried == 0,
        cmap=_KILLED,
        vmin=0,
        vmax=1,
        linewidths=0.5,
        linecolor=BAND,
        cbar=False,
        yticklabels=True,
        xticklabels=[f"{family}\n{sizes[family]} faults" for family in kills.columns],
        ax=axes,
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelrotation=0)
    found = (killed.sum(axis=1) > 0).sum()
    axes.set(ylabel="", title=f"{found} of {len(matrix)} faults killed by {len(kills)} checks")
    axes.set_xlabel(
        "faults killed by each check (color: share of those that it was tried on; "
        "*: one of them by no other check)"
    )
    return figure
