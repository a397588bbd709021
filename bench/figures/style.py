"""How all figures look: colors, which follow a light or a dark page, and matplotlib's settings."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

__all__ = [
    "BAND",
    "INK",
    "INSIDE",
    "LINES",
    "MUTED",
    "NAMES",
    "OTHERS",
    "PALETTE",
    "PAPER",
    "THEME",
    "styled",
]

Drawn = ParamSpec("Drawn")

INK, PAPER, MUTED, BAND = "#1f2730", "#fefefe", "#7b8794", "#e4e8ec"
NAMES = {"minifw": "minifw", "pytorch": "PyTorch"}
# Told apart without color too: by dashes in curves, by marks elsewhere.
PALETTE = {"minifw": "#c8560b", "pytorch": "#1b6ca8"}
LINES = {"minifw": (0, (2, 2)), "pytorch": "-"}
OTHERS = ("#16876a", "#7a63c7", "#c2347f", "#94660f", "#55850f", "#6b7280")

# By the color that a figure is drawn in: its name in a style sheet, and what it is in the dark.
THEME = {
    "#000000": ("ink", "#e8ebee"),  # of figures drawn in matplotlib's own colors
    "#ffffff": ("paper", "#14181d"),
    INK: ("ink", "#e8ebee"),
    PAPER: ("paper", "#14181d"),
    MUTED: ("muted", "#8b97a3"),
    BAND: ("band", "#2a313a"),
    PALETTE["minifw"]: ("minifw", "#ff9d57"),
    PALETTE["pytorch"]: ("pytorch", "#6bb5ee"),
}

# Shares from 0 to 1, as the opacity of one color: the page shows through, light or dark.
INSIDE = LinearSegmentedColormap.from_list("inside", [(0.54, 0.39, 0.82, a) for a in (0, 0.95)])

_SETTINGS: dict[RcKeyType, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": BAND,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def styled(draw: Callable[Drawn, Figure]) -> Callable[Drawn, Figure]:
    """Decorate a function that draws a figure, so that it has the looks of all others."""

    @wraps(draw)
    def drawn(*arguments: Drawn.args, **keywords: Drawn.kwargs) -> Figure:
        with plt.rc_context(_SETTINGS):
            return draw(*arguments, **keywords)

    return drawn
