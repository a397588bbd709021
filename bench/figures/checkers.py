"""The picture of the comparison with other checkers: what is found, and what is refused."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.figures.style import INK, PALETTE, styled

__all__ = ["draw_checkers"]


@styled
def draw_checkers(table: pd.DataFrame) -> Figure:
    """Draw, side by side, the shares of wrong subjects found and of right ones refused.

    Args:
        table: a row a subject and checker, with "suite", "checker" and "objects".
    """
    right = table["suite"] == "right variants"
    panels = {
        "wrong subjects found\n(more is better)": table[~right],
        "right ones refused\n(less is better)": table[right],
    }
    figure, both = plt.subplots(1, len(panels), figsize=(7, 2.8), sharey=True)
    colors = {
        name: PALETTE["minifw" if name == "minifw verify" else "pytorch"]
        for name in table["checker"].unique()
    }
    for axes, (title, rows) in zip(both, panels.items(), strict=True):
        shares = rows.groupby("checker", sort=False)["objects"].agg(["mean", "sum", "count"])
        shares = shares.reset_index()
        sns.barplot(
            shares, x="mean", y="checker", hue="checker", palette=colors, legend=False, ax=axes
        )
        for place, (mean, objects, count) in enumerate(
            zip(shares["mean"], shares["sum"], shares["count"], strict=True)
        ):
            text = f" {objects} of {count}"
            axes.text(mean, place, text, va="center", color=INK, fontsize="small")
        axes.set(title=title, xlabel="", ylabel="", xlim=(0, 1.3), xticks=[0, 0.5, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure
