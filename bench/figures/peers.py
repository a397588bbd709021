"""Figures of the peers: a training step of one network, and of a network in a stack."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.figures.estimates import OF_SAMPLES, as_samples
from bench.figures.style import INK, MUTED, OTHERS, PALETTE, styled
from bench.timing.peers import REPEAT

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
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="µs per training step, with quartiles", title="one network")


def _lines(axes: Axes, table: pd.DataFrame) -> None:
    stacks = table[(table["setting"] == "stack") & (table["peer"] != REPEAT)]
    peers = stacks["peer"].unique()
    others = zip((peer for peer in peers if peer not in PALETTE), OTHERS, strict=False)
    sns.lineplot(
        as_samples(stacks, "us_q1", "us", "us_q3"),
        x="members",
        y="sample",
        hue="peer",
        style="peer",
        palette=PALETTE | dict(others),
        markers=dict(zip(peers, "o^vDXPs*", strict=False)),
        dashes=False,
        ax=axes,
        **OF_SAMPLES,
    )
    axes.set(xscale="log", yscale="log", title="stacks")
    axes.set(xlabel="networks in the stack", ylabel="µs per training step and network")
    sizes = stacks["members"].unique()
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(top=10 * axes.get_ylim()[1])  # room for the legend
    sns.move_legend(axes, "upper right", ncols=2, title=None, fontsize="small")


@styled
def draw_network(table: pd.DataFrame) -> Figure:
    """Draw the microseconds of a training step of one network, by peer.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` returns it.
    """
    figure, axes = plt.subplots(figsize=(4, 3.4))
    _bars(axes, table)
    return figure


@styled
def draw_stacks(table: pd.DataFrame) -> Figure:
    """Draw the microseconds of a training step per network, by the size of the stack.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` returns it.
    """
    figure, axes = plt.subplots(figsize=(4, 3.4))
    _lines(axes, table)
    return figure


@styled
def draw_peers(table: pd.DataFrame) -> Figure:
    """Draw one network and stacks side by side, or the one of the two that was timed.

    Args:
        table: as :func:`bench.timing.peer_tables.summarize` returns it.
    """
    timed = set(table["setting"])
    parts = [draw for part, draw in (("network", _bars), ("stack", _lines)) if part in timed]
    figure, panels = plt.subplots(1, len(parts), figsize=(4.5 * len(parts), 3.8), squeeze=False)
    for axes, draw in zip(panels.flat, parts, strict=True):
        draw(axes, table)
    return figure
