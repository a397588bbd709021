"""Figures of the peers: a training step of one network, and of a network in a stack."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bench.figures.style import INK, MUTED, OTHERS, PALETTE, styled
from bench.timing.peers import AGAIN

__all__ = ["draw_network", "draw_peers", "draw_stacks"]


def _bars(axes: Axes, table: pd.DataFrame) -> None:
    network = table[table["setting"] == "network"].sort_values("us", ascending=False)
    bars = axes.barh(
        network["peer"],
        network["us"],
        xerr=[network["us"] - network["us_q1"], network["us_q3"] - network["us"]],
        color=[PALETTE.get(peer, MUTED) for peer in network["peer"]],
        ecolor=INK,
        capsize=3,
    )
    axes.bar_label(bars, fmt="{:.0f}", padding=8)
    axes.margins(x=0.15)
    axes.set(xlabel="µs a training step, with quartiles", title="one network")


def _lines(axes: Axes, table: pd.DataFrame) -> None:
    stacks = table[(table["setting"] == "stack") & (table["peer"] != AGAIN)]
    for peer, color, marker in zip(stacks["peer"].unique(), OTHERS, "^vDPX*", strict=False):
        own = stacks[stacks["peer"] == peer]
        style = {"color": PALETTE.get(peer, color), "label": peer}
        axes.plot(own["members"], own["us"], marker=marker, **style)
        axes.fill_between(own["members"], own["us_q1"], own["us_q3"], alpha=0.2, **style)
    axes.set(xscale="log", yscale="log", title="stacks")
    axes.set(xlabel="networks in the stack", ylabel="µs a training step a network")
    sizes = stacks["members"].unique()
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_yticks([], minor=True)
    axes.set_ylim(top=6 * axes.get_ylim()[1])  # room for the legend
    axes.legend(handles=axes.get_lines(), loc="upper center", ncols=3, fontsize="small")


@styled
def draw_network(table: pd.DataFrame) -> Figure:
    """Microseconds of a training step of one network, by peer.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` gives it.
    """
    figure, axes = plt.subplots(figsize=(4, 3.4))
    _bars(axes, table)
    return figure


@styled
def draw_stacks(table: pd.DataFrame) -> Figure:
    """Microseconds of a training step a network, by size of the stack.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` gives it.
    """
    figure, axes = plt.subplots(figsize=(4, 3.4))
    _lines(axes, table)
    return figure


@styled
def draw_peers(table: pd.DataFrame) -> Figure:
    """One network and stacks side by side.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` gives it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    _bars(left, table)
    _lines(right, table)
    return figure
