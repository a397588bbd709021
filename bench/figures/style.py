"""How all figures look: seaborn's theme in colors that follow a light or a dark page."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "DASHES",
    "INK",
    "INSIDE",
    "MUTED",
    "NAMES",
    "OTHERS",
    "PALETTE",
    "THEME",
    "styled",
]

Parameters = ParamSpec("Parameters")

_BLUE, _ORANGE, _GREEN, _VERMILION, _PINK, _BROWN, _, _GRAY, _, _SKY = sns.color_palette(
    "colorblind"
).as_hex()

INK, PAPER, MUTED, BAND = "#1f2730", "#fefefe", "#7b8794", "#e4e8ec"
NAMES = {"minifw": "minifw", "pytorch": "PyTorch"}
PALETTE = {"minifw": _VERMILION, "pytorch": _BLUE}
# Frameworks are told apart without color too: by dashes in curves, by markers elsewhere.
DASHES = {"minifw": (2, 2), "pytorch": ""}
OTHERS = (_GREEN, _PINK, _BROWN, _GRAY)

# The color that a figure is drawn in: its name in a style sheet, and what it is on a dark page.
THEME = {
    "#000000": ("ink", "#e8ebee"),  # of figures drawn in matplotlib's own colors
    "#ffffff": ("paper", "#14181d"),
    INK: ("ink", "#e8ebee"),
    PAPER: ("paper", "#14181d"),
    MUTED: ("muted", "#8b97a3"),
    BAND: ("band", "#2a313a"),
    PALETTE["minifw"]: ("minifw", _ORANGE),
    PALETTE["pytorch"]: ("pytorch", _SKY),
}

# Shares from 0 to 1, as the opacity of one color: the page shows through, light or dark.
INSIDE = LinearSegmentedColormap.from_list("inside", [(0.54, 0.39, 0.82, a) for a in (0, 0.95)])

_SETTINGS = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "grid.color": BAND,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 6,
    "patch.linewidth": 0,
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorate a function that draws a figure, so that it looks like all others."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with plt.rc_context():  # seaborn sets its theme globally; this restores what was set before
            sns.set_theme("paper", "ticks", rc=_SETTINGS)
            return draw(*args, **kwargs)

    return drawn
