"""The picture of a timing: the speed-up over PyTorch against the size."""

from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from minifw.testing.timing.measure import Timing

__all__ = ["draw_speed_up"]


def draw_speed_up(timing: Timing, title: str, path: Path) -> None:
    """Draw medians with their 95 % intervals and the line at 1; of a sweep, lines through them.

    Args:
        timing: what was measured.
        title: of the picture.
        path: of the file, whose ending is the format: .png or .svg.
    """
    table = timing.table.assign(beside=timing.table["beside"] + " PyTorch")
    swept = table["size"].str.contains(" ") & ~table["size"].str.contains(",")
    what = "size of the inputs"
    if swept.any():
        split = table.loc[swept, "size"].str.rsplit(" ", n=1, expand=True)
        table, what = table[swept].assign(size=split[1]), split[0].iloc[0]
    several = table["beside"].nunique() > 1
    parts = table["part"].unique()
    colors = dict(zip(parts, sns.color_palette("colorblind", len(parts)), strict=True))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="0.3", linewidth=1, zorder=1)
        sns.lineplot(
            table, x="size", y="ratio", hue="part", palette=colors, ax=axes,
            style="beside" if several else None, markers=several, marker="o",
            linestyle="-" if swept.any() else "",
        )  # fmt: skip
        for part, rows in table.groupby("part"):
            axes.vlines(rows["size"], rows["ratio_low"], rows["ratio_high"], color=colors[part])
        axes.set(
            yscale="log", xlabel=what, ylabel="speed-up over PyTorch (above 1: faster)", title=title
        )
        axes.yaxis.set_major_formatter("{x:.2g}")
        axes.yaxis.set_minor_formatter("{x:.2g}")
        sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), frameon=False, title="")
        figure.savefig(path, dpi=150)
