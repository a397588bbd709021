"""Figures draw what is in their tables, and leave matplotlib's settings as they were."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from bench import figures
from bench.figures.estimates import OF_SAMPLES, as_samples


def test_seaborn_draws_the_estimates_and_intervals_of_the_table():
    table = pd.DataFrame({"x": [1, 2], "low": [0.0, 2.0], "middle": [1.0, 2.5], "high": [4.0, 3.0]})
    figure, axes = plt.subplots()
    sns.lineplot(as_samples(table, "low", "middle", "high"), x="x", y="sample", **OF_SAMPLES)
    (line,), (band,) = axes.lines, axes.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    plt.close(figure)
    assert [1.0, 2.5] == line.get_ydata().tolist()
    assert {0.0, 4.0} == set(corners[corners[:, 0] == 1, 1])
    assert {2.0, 3.0} == set(corners[corners[:, 0] == 2, 1])


def test_the_style_is_restored_after_a_figure():
    before = dict(plt.rcParams)
    lines = pd.DataFrame(
        {"label": ["a"], "value": [0.1], "low": [0.0], "high": [0.2], "equivalent": True}
    )
    plt.close(figures.draw_differences(lines, 1.0, "test"))
    assert before == dict(plt.rcParams)


def test_intervals_stand_in_the_order_of_their_rows():
    lines = pd.DataFrame(
        {
            "label": ["b", "a", "c"],
            "value": [1.2, 0.9, 1.0],
            "low": [1.1, 0.8, 0.9],
            "high": [1.3, 0.95, 1.1],
            "noise_low": 0.97,
            "noise_high": 1.03,
            "claimed": [True, True, False],
        }
    )
    figure = figures.draw_ratios(lines, "speed-up over PyTorch", "test", (0.5, 2))
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    points = {
        (float(x), float(y))
        for line in axes.lines
        if line.get_marker() not in ("None", "", None)
        for x, y in zip(*line.get_data(), strict=True)
        if x == x
    }
    bottom, top = axes.get_ylim()
    plt.close(figure)
    assert ["b", "a", "c"] == labels
    assert {(1.2, 0.0), (0.9, 1.0), (1.0, 2.0)} == points
    assert bottom > top


def test_the_kill_matrix_counts_kills_by_family_and_marks_lone_killers():
    matrix = pd.DataFrame(
        {"values": [1, 1, 1, None], "ties": [1, 0, 0, None], "rates": [None, None, None, 1]},
        index=list("abcd"),
        dtype=float,
    )
    figure = figures.draw_kill_matrix(matrix, ["layers", "layers", "losses", "schedules"])
    (axes,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    title = axes.get_title()
    plt.close(figure)
    assert "4 of 4 faults killed by 3 checks" == title
    assert {
        (0.5, 0.5): "2*", (1.5, 0.5): "1*",  # values: layers, losses
        (0.5, 1.5): "1", (1.5, 1.5): "0",  # ties
        (2.5, 2.5): "1*",  # rates: schedules
    } == cells  # fmt: skip
