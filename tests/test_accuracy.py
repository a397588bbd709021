"""Statistics of accuracy: known answers, error rates, and faults of minifw that they must see."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from bench.accuracy import statistics, tables
from bench.faults import FAULTS
from reference.frameworks import MINIFW
from reference.recipes import RECIPES
from reference.run import fit_stacked, prepare

MINIFW_PERCENT = np.array([97.1, 96.4, 98.0, 95.9, 97.7, 96.8])
PYTORCH_PERCENT = np.array([96.9, 96.9, 97.6, 96.4, 97.0, 96.9])


def frame(minifw, pytorch, recipe="relu-mse"):
    """Runs with these test accuracies in percent, from seed 0 on; training is perfect."""
    return pd.DataFrame(
        [
            {
                "recipe": recipe,
                "framework": framework,
                "seed": seed,
                "epochs": 1,
                "train_accuracy": 1.0,
                "test_accuracy": value / 100,
            }
            for framework, values in (("minifw", minifw), ("pytorch", pytorch))
            for seed, value in enumerate(values)
        ]
    )


def compared(minifw, pytorch, margin=1.0, part="test"):
    table = statistics.accuracy_statistics(frame(minifw, pytorch), margin)
    return table.set_index("part").loc[part]


# By statsmodels 0.15, ttost_paired(minifw, pytorch, -margin, margin).
@pytest.mark.parametrize(
    ("margin", "p"),
    [(0.2, 0.22071920979239515), (0.5, 0.03319661324285), (1.0, 0.0023434430462234567)],
)
def test_tost_is_that_of_statsmodels(margin, p):
    row = compared(MINIFW_PERCENT, PYTORCH_PERCENT, margin)
    assert row["difference_tost_p"] == pytest.approx(p, rel=1e-9)
    assert row["difference_verdict"] == ("equivalent" if p < 0.05 else "inconclusive")
    assert row["difference_p"] == pytest.approx(
        scipy.stats.ttest_rel(MINIFW_PERCENT, PYTORCH_PERCENT).pvalue
    )


def test_interquartile_mean_drops_a_quarter_on_each_side():
    assert statistics.interquartile_mean(np.array([0.0, 4, 5, 6, 7, 8, 9, 100])) == 6.5


def test_interval_is_that_of_scipy_on_skewed_values():
    values = np.random.default_rng(5).exponential(size=25) ** 2
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=100_000, rng=np.random.default_rng(6)
    ).confidence_interval
    low, high = statistics.mean_interval(values)
    assert (low, high) == statistics.mean_interval(values), "the same at every call"
    # The ends scatter by 0.7 % of the width: sqrt(0.025 0.975 / 9,999) over the density there.
    assert (low, high) == pytest.approx(expected, abs=0.03 * (high - low))
    assert values.mean() - low < high - values.mean(), "skewed as the values are"


def test_interval_covers_a_skewed_mean_nearly_as_often_as_it_says():
    draws = np.random.default_rng(1).exponential(size=(150, 30))
    covered = sum(low <= 1 <= high for low, high in map(statistics.mean_interval, draws))
    # 150 runs scatter by 2.7 standard deviations = 0.05 around 0.93, which BCa has at n = 30.
    assert 0.88 <= covered / 150 <= 0.98


@pytest.mark.parametrize(("n", "std"), [(5, 0.5), (20, 1.0), (20, 2.4)])
def test_equivalence_is_claimed_at_the_margin_in_at_most_5_percent(n, std):
    draws = np.random.default_rng(2).normal(1.0, std, size=(2000, n))
    claimed = sum(statistics.tost(draw, margin=1.0) < 0.05 for draw in draws)
    assert claimed <= scipy.stats.binom.ppf(0.999, 2000, 0.05)
    if std < 1:  # where there is power, the error is used
        assert claimed >= scipy.stats.binom.ppf(0.001, 2000, 0.05)


@pytest.mark.parametrize(("n", "std"), [(3, 0.3), (6, 0.8), (20, 1.2), (20, 1.9), (20, 3.0)])
def test_power_is_how_often_equal_accuracies_are_found_equivalent(n, std):
    draws = np.random.default_rng(3).normal(0.0, std, size=(3000, n))
    claimed = sum(statistics.tost(draw, margin=1.0) < 0.05 for draw in draws) / 3000
    power = statistics.tost_power(std, n, margin=1.0)
    assert power == pytest.approx(claimed, abs=3.3 * np.sqrt(0.25 / 3000))


def test_seeds_needed_are_the_fewest_of_enough_power():
    needed = statistics.seeds_needed(2.0, margin=1.0)
    assert statistics.tost_power(2.0, needed, 1.0) >= 0.8
    assert statistics.tost_power(2.0, needed - 1, 1.0) < 0.8
    # The normal approximation (z_0.95 + z_0.9)^2 std^2 / margin^2 = 34.3, and 1.4 for Student's t.
    assert needed == 36
    # As many that the chi distribution is a narrow peak: (z_0.95 + z_0.9)^2 80^2 = 54,812.
    assert statistics.seeds_needed(80.0, margin=1.0) == pytest.approx(54_812, abs=5)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.1, -0.1, 0.2, -0.2, 0.1, 0.0], "equivalent"),
        ([0.4, 0.5, 0.6, 0.5, 0.4, 0.6], "equivalent"),  # surely not 0, surely within the margin
        ([1.4, 0.9, 1.6, 0.7, 1.2, 0.8], "different"),
        ([-1.4, -0.5, -1.1, -0.2, -1.0, -0.6], "different"),  # may lie within
        ([5.0, -4.0, 3.0, -2.0, 1.0, -3.0], "inconclusive"),
        ([0.0, 0.0], "inconclusive"),  # too few
        ([0.0, 0.0, 0.0], "equivalent"),
        ([2.0, 2.0, 2.0], "different"),
        ([1.0, 1.0, 1.0], "different"),  # the margin itself is not within
    ],
)
def test_verdicts(differences, verdict):
    row = compared(90 + np.array(differences), np.full(len(differences), 90.0))
    assert row["difference_verdict"] == verdict
    assert row["difference_mean"] == pytest.approx(np.mean(differences))


def test_a_tiny_steady_difference_amid_large_ones_is_not_called_different():
    # BCa's interval of these excludes 0: it takes the one large difference for an outlier.
    differences = np.array([0.1, 0.0, 0.1, 0.1, 0.2, 0.1, 0.0, 0.1, 0.1, 12.0])
    row = compared(80 + differences, np.full(10, 80.0))
    assert row["difference_low"] > 0
    assert row["difference_verdict"] == "inconclusive"
    assert row["difference_iqm"] == pytest.approx(0.1)


def test_seeds_are_paired_and_those_of_one_side_only_count_for_its_mean():
    # Accuracies differ by 10 points between seeds, and by 0.1 between frameworks.
    pytorch = np.array([70.0, 80.0, 90.0, 75.0, 85.0, 95.0])
    runs = frame(pytorch + 0.1, [*pytorch, 50.0, 60.0]).sample(frac=1, random_state=0)
    row = statistics.accuracy_statistics(runs).set_index("part").loc["test"]
    assert row["difference_mean"] == pytest.approx(0.1)
    assert row["difference_std"] == 0
    assert row["difference_verdict"] == "equivalent"
    assert (row["minifw_seeds"], row["pytorch_seeds"], row["difference_seeds"]) == (6, 8, 6)
    assert row["pytorch_mean"] == pytest.approx(np.mean([*pytorch, 50, 60]) / 100)


def test_control_is_pytorch_with_other_seeds():
    pytorch = np.array([70.0, 80.0, 90.0, 78.0, 85.0, 95.0, 11.0])
    row = compared(pytorch, pytorch)
    assert row["control_seeds"] == 3
    assert row["control_mean"] == pytest.approx(((70 - 78) + (80 - 85) + (90 - 95)) / 3)
    assert row["control_verdict"] != "equivalent"
    assert row["difference_verdict"] == "equivalent"
    columns = {
        prefix: {name.partition("_")[2] for name in row.index if name.startswith(prefix)}
        for prefix in ("difference_", "control_")
    }
    assert columns["difference_"] == columns["control_"]


@pytest.mark.parametrize("framework", ["minifw", "pytorch"])
def test_one_framework_alone_is_compared_with_nothing(framework):
    runs = frame(MINIFW_PERCENT, PYTORCH_PERCENT).query("framework == @framework")
    table = statistics.accuracy_statistics(runs)
    row = table.set_index("part").loc["test"]
    assert row[f"{framework}_mean"] > 0.9
    assert row["difference_seeds"] == 0
    assert row["difference_verdict"] == "inconclusive"
    assert np.isnan(row["difference_mean"])
    (sentence,) = tables.verdict_sentences(table)
    assert "nothing is compared" in sentence
    assert len(tables.format_accuracy(table)) == 2


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_have_means_and_no_intervals(seeds):
    table = statistics.accuracy_statistics(frame(MINIFW_PERCENT[:seeds], PYTORCH_PERCENT[:seeds]))
    row = table.set_index("part").loc["test"]
    assert row["minifw_mean"] == pytest.approx(MINIFW_PERCENT[:seeds].mean() / 100)
    assert row[["minifw_low", "difference_high", "difference_tost_p"]].isna().all()
    assert row["minifw_report_vs_mean"] == row["minifw_report_vs_prediction"] == ""
    assert "at least 3 seeds" in " ".join(tables.verdict_sentences(table))
    assert "nan" not in tables.format_accuracy(table).to_csv()


def test_prediction_interval_holds_a_further_run_and_a_further_mean():
    rng = np.random.default_rng(4)
    for runs in (1, 10):
        held = 0
        for _ in range(2000):
            values, further = rng.normal(0.5, 0.05, 12), rng.normal(0.5, 0.05, runs).mean()
            low, high = statistics.prediction_interval(values, runs)
            held += low <= further <= high
        assert held / 2000 == pytest.approx(0.95, abs=3.3 * np.sqrt(0.95 * 0.05 / 2000))
    assert statistics.level_statistics(np.array([0.97, 1.0, 0.99]))["prediction_high"] == 1


def test_reports_figure_is_placed_among_runs_and_beside_the_mean():
    # Report 000: 95.8 % on test points, in one run.
    row = compared([97.0, 96.0, 98.0, 97.5, 96.5, 97.2] * 4, [97.0] * 24)
    assert row["minifw_report"] == 0.958
    assert row["minifw_report_vs_prediction"] == "within"
    assert row["minifw_report_vs_mean"] == "outside"
    assert row["pytorch_report_vs_prediction"] == ""
    # Report 001: a mean of 10, which has less room.
    runs = frame([97.0, 96.0, 98.0, 97.5, 96.5, 97.2] * 4, [97.0] * 24, "xavier-tanh")
    row = statistics.accuracy_statistics(runs).set_index("part").loc["test"]
    assert row["minifw_prediction_high"] - row["minifw_prediction_low"] < 0.012
    assert row["pytorch_report_vs_prediction"] == "outside"


def test_sentences_say_what_the_table_says():
    alike = frame(MINIFW_PERCENT, MINIFW_PERCENT + np.array([0.1, -0.1, 0, 0, 0.1, -0.1]))
    hurt = frame(MINIFW_PERCENT - [3, 4, 5, 3, 4, 5], MINIFW_PERCENT, "dropout-bce")
    noisy = frame(MINIFW_PERCENT - [9, -9, 5, -4, 8, -6], MINIFW_PERCENT, "milestones-relu")
    good = tables.verdict_sentences(statistics.accuracy_statistics(alike))
    assert good[0].startswith("Accuracy: equivalent in all 1 recipes")
    assert "6 seeds" in good[0]
    assert "margin 1 percentage points" in good[0]
    table = statistics.accuracy_statistics(pd.concat([alike, hurt, noisy]))
    mixed = " ".join(tables.verdict_sentences(table))
    assert "4 of 6 equivalent" in mixed
    assert "Different: dropout-bce, test accuracy, -4.00 [" in mixed
    assert "Inconclusive: milestones-relu, test accuracy, " in mixed
    needed = statistics.seeds_needed(table["difference_std"].iloc[-1], 1.0)
    assert f"--seeds {needed}" in mixed
    assert "largest mean difference is 4.00 percentage points (dropout-bce, test accuracy)" in mixed
    few = statistics.accuracy_statistics(pd.concat([alike, noisy]).query("seed < 2"))
    said = tables.verdict_sentences(few)
    assert said[1] == "Inconclusive: a verdict needs at least 3 seeds."
    shown = tables.format_accuracy(table)
    assert shown["verdict"].tolist() == table["difference_verdict"].tolist()
    assert shown.loc[3, "difference, percentage points"].startswith("-4.00 [")


def test_margin_must_be_above_0():
    with pytest.raises(ValueError, match="margin above 0 percentage points, got 0"):
        statistics.accuracy_statistics(frame([1], [1]), 0)


SEEDS = 20


def trained(recipe):
    """Runs of a recipe on minifw, trained together, from as many seeds."""
    runs = [prepare(recipe, MINIFW, seed) for seed in range(SEEDS)]
    fit_stacked(runs, recipe.epochs)
    return runs


def final(framework, runs):
    rows = [
        {
            "recipe": run.recipe.name,
            "framework": framework,
            "seed": run.seed,
            "train_accuracy": run.accuracy(run.train),
            "test_accuracy": run.accuracy(run.test),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def test_a_halved_learning_rate_is_never_equivalent():
    # Of 200 epochs, after which they are inconclusive in training and different in testing.
    recipe = dataclasses.replace(RECIPES["relu-mse"], epochs=20)
    hurt = dataclasses.replace(
        recipe, optimizer=lambda optim, parameters: optim.SGD(parameters, lr=0.05)
    )
    # minifw as it is stands for PyTorch, beside which the sweep's tests put it.
    runs = pd.concat([final("minifw", trained(hurt)), final("pytorch", trained(recipe))])
    verdicts = statistics.accuracy_statistics(runs)["difference_verdict"]
    assert set(verdicts) == {"different"}


def test_dropout_left_on_in_evaluation_is_never_equivalent():
    recipe = dataclasses.replace(RECIPES["dropout-bce"], epochs=30)
    (wrong,) = (fault for fault in FAULTS if fault.name == "Dropout ignores evaluation mode")
    framework = dataclasses.replace(MINIFW, nn=wrong.framework().nn)
    right = trained(recipe)
    hurt = [prepare(recipe, framework, run.seed) for run in right]
    for one, other in zip(hurt, right, strict=True):
        # Training has its masks on in both: the fault is in the measurement alone.
        one.model.load_state_dict(other.model.state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the masks
        measured = final("minifw", hurt)
    table = statistics.accuracy_statistics(pd.concat([measured, final("pytorch", right)]))
    assert (table["difference_mean"] < -1).all()
    assert "equivalent" not in set(table["difference_verdict"])
