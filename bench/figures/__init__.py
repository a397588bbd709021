"""Figures: functions from a table to a picture, and the ways to write it to a file or a page."""

from bench.figures.checkers import draw_checkers
from bench.figures.initialization import describe_initialization, draw_initialization
from bench.figures.intervals import draw_differences, draw_ratios
from bench.figures.kill_matrix import draw_kill_matrix
from bench.figures.peers import draw_network, draw_peers, draw_stacks
from bench.figures.scaling import draw_scaling
from bench.figures.style import INK, PALETTE, styled
from bench.figures.svg import as_svg, inline, save
from bench.figures.training import draw_curves, draw_data, draw_regions

__all__ = [
    "INK",
    "PALETTE",
    "as_svg",
    "describe_initialization",
    "draw_checkers",
    "draw_curves",
    "draw_data",
    "draw_differences",
    "draw_initialization",
    "draw_kill_matrix",
    "draw_network",
    "draw_peers",
    "draw_ratios",
    "draw_regions",
    "draw_scaling",
    "draw_stacks",
    "inline",
    "save",
    "styled",
]
