"""Initialization or numerics: the runs, what is concluded from them, and the command line."""

import json
from itertools import product
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from bench import initialization
from bench.accuracy import initialization as tables
from reference.recipes import RECIPES

FILES = {
    "initialization.csv",
    "initialization.md",
    "initialization.svg",
    "initialization_contrasts.csv",
    "initialization_curves.csv",
}
SEEDS = 40
CELLS = [
    *(("plain", start, side) for start in tables.REPORTED for side in ("minifw", "pytorch")),
    *(("float64", start, "minifw") for start in tables.REPORTED),
]


def runs(effect, epochs=(10, 50, 200), noise=0.3):
    """Runs whose test accuracies are 90 % and ``effect(variant, start, side, epoch)`` points."""
    rng = np.random.default_rng(0)
    rows = []
    for (variant, start, side), epoch in product(CELLS, epochs):
        values = 90 + effect(variant, start, side, epoch) + noise * rng.normal(size=SEEDS)
        rows.append(
            pd.DataFrame(
                {
                    "variant": variant,
                    "initialization": start,
                    "framework": side,
                    "seed": range(SEEDS),
                    "epoch": epoch,
                    "train_accuracy": 0.9,
                    "test_accuracy": values / 100,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def concluded(effect, **options):
    made = runs(effect, **options)
    return tables.conclusions(tables.cells(made), tables.contrasts(made))


def test_contrasts_are_the_effects_that_are_put_in():
    def effect(variant, start, side, epoch):
        xavier, minifw = start == "xavier", side == "minifw"
        return 3 * xavier + 2 * minifw + 4 * (xavier and minifw) - (variant == "float64")

    table = tables.contrasts(runs(effect, noise=1e-6)).query("part == 'test' and epoch == 10")
    means = table.set_index(["contrast", "at"])["mean"]
    expected = {
        ("minifw - pytorch", "xavier"): 6,
        ("minifw - pytorch", "default"): 2,
        ("xavier - default", "minifw"): 7,
        ("xavier - default", "pytorch"): 3,
        ("interaction", ""): 4,
        ("minifw xavier - pytorch default", ""): 9,
        ("float64 - plain", "xavier"): -1,
        ("float64 - plain", "default"): -1,
        ("xavier - default", "float64"): 7,
    }
    assert dict(means) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (lambda start, side: 5 * (start == "xavier"), "start: an effect of the initialization"),
        (lambda start, side: 5 * (side == "minifw"), "start: an effect of the framework and not"),
        (lambda start, side: 5 * (start == "xavier") + 3 * (side == "minifw"), "effect of both"),
        (lambda start, side: 0, "start: not explained"),
        (lambda start, side: -5 * (start == "xavier"), "start: not explained"),
        (
            lambda start, side: 5 * (start == "xavier" and side == "minifw"),
            "an effect of the framework",
        ),
    ],
)
def test_whose_the_faster_start_is_follows_from_the_runs(effect, said):
    told = " ".join(concluded(lambda variant, start, side, epoch: effect(start, side)))
    assert said in told


def test_a_slower_end_is_called_chance_only_if_ten_runs_show_as_much():
    chance = " ".join(concluded(lambda *_: 0, noise=3.0))
    assert "Means of ten runs differ that much by chance" in chance
    # Hardly any noise: the report's -0.8 and -0.9 points could not come of equal frameworks,
    shown = " ".join(concluded(lambda *_: 0, noise=0.3))
    assert "After 50, 200 epochs that is more than ten such pairs show by chance" in shown
    assert "the frameworks are equivalent" in shown
    # and they could if our runs had such a slower end themselves.
    slower = " ".join(concluded(lambda v, s, side, e: -0.9 * (side == "minifw"), noise=0.3))
    assert "Means of ten runs differ" in slower
    worse = " ".join(concluded(lambda v, s, side, epoch: -2.0 * (side == "minifw" and epoch > 10)))
    assert "the frameworks are different" in worse
    behind = " ".join(concluded(lambda v, start, *_: -2.0 * (start == "xavier")))
    assert "weights are behind the default ones: minifw, pytorch, float64" in behind
    assert "in no variant" in chance
    calmer = runs(lambda *_: 0, noise=3.0)
    still = calmer["variant"] == "float64"
    calmer.loc[still, "test_accuracy"] = 0.9 + (calmer.loc[still, "test_accuracy"] - 0.9) / 10
    told = " ".join(tables.conclusions(tables.cells(calmer), tables.contrasts(calmer)))
    assert "The report's difference would exceed chance with float64" in told


def test_float64_tells_whether_precision_matters():
    assert "Precision makes a difference" in " ".join(
        concluded(lambda variant, *_: 2.0 * (variant == "float64"))
    )
    assert "Rounding shows no effect" in " ".join(concluded(lambda *_: 0))


def test_figures_of_the_report_are_those_of_the_recipe():
    for start, side in (("xavier", "minifw"), ("default", "pytorch")):
        reported = RECIPES["xavier-tanh"].reported[side]
        assert tables.REPORTED[start][200] == reported.test
        assert reported.runs == tables.REPORTED_RUNS


def test_both_frameworks_and_each_variant_start_from_one_draw():
    tasks = [
        initialization.StackTask(variant, start, side, (3,))
        for start in initialization.INITIALIZATIONS
        for variant, side in (("plain", "minifw"), ("plain", "pytorch"), ("float64", "minifw"))
    ]
    ends = [initialization._do(task, epochs=2)["test_accuracy"].tolist() for task in tasks]
    assert ends[0] == ends[1] == ends[2]
    assert ends[3] == ends[4] == ends[5]
    assert ends[0] != ends[3]


@pytest.mark.parametrize("variant", ["half the loss", "zero biases", "normalized inputs"])
def test_variants_train_otherwise(variant):
    plain, other = (
        initialization._do(initialization.StackTask(name, "xavier", "minifw", (3,)), epochs=3)
        for name in ("plain", variant)
    )
    assert plain["test_accuracy"].tolist() != other["test_accuracy"].tolist()


def test_a_variant_is_the_recipe_but_for_what_it_names():
    recipe = RECIPES["xavier-tanh"]
    half, twice = (initialization.VARIANTS[f"{name} the loss"] for name in ("half", "twice"))
    for variant, lr in ((half, 0.05), (twice, 0.2)):
        changed = variant.change(recipe)
        weights = list(changed.model(initialization.FRAMEWORKS["minifw"].nn).parameters())
        optimizer = changed.optimizer(initialization.FRAMEWORKS["minifw"].optim, weights)
        assert optimizer.param_groups[0]["lr"] == lr
    zero = initialization.VARIANTS["zero biases"].change(recipe)
    for name, run in (
        (name, initialization.prepare(made, initialization.FRAMEWORKS["minifw"], seed=1))
        for name, made in (("zero", zero), ("plain", recipe))
    ):
        state = run.model.state_dict()
        biases = [value for key, value in state.items() if key.endswith("bias")]
        assert all((bias == 0).all() for bias in biases) == (name == "zero")


def test_prints_tables_and_writes_every_file(tmp_path, capsys):
    arguments = ["--seeds", "3", "--epochs", "2", "--jobs", "1", "--output-dir", str(tmp_path)]
    assert initialization.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in tmp_path.iterdir()} == FILES
    cells = pd.read_csv(tmp_path / "initialization.csv")
    assert set(cells["seeds"]) == {3}
    assert set(cells["epoch"]) == {2}
    assert len(cells.query("part == 'test'")) == 2 * (len(initialization.VARIANTS) + 1)
    contrasts = pd.read_csv(tmp_path / "initialization_contrasts.csv")
    # Two epochs from one start: nothing but rounding can lie between the two.
    assert (contrasts.loc[contrasts["contrast"] == "minifw - pytorch", "mean"] == 0).all()
    text = (tmp_path / "initialization.md").read_text()
    for shown in ("After 2 epochs", "The faster start", "normalized inputs"):
        assert shown in text
        assert shown in printed.out
    picture = ElementTree.parse(tmp_path / "initialization.svg").getroot()
    words = " ".join(picture.itertext())
    assert "test accuracy, %" in words
    assert "after 2 epochs: xavier, pytorch" in words, "the description of the picture"


def test_json_is_all_that_is_printed_and_processes_do_not_matter(tmp_path, capsys):
    printed = []
    for jobs in ("1", "2"):
        options = ["--seeds", "2", "--epochs", "1", "--jobs", jobs, "--json", "--output-dir"]
        initialization.main([*options, str(tmp_path)])
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0]["cells"] == printed[1]["cells"]
    assert printed[0]["contrasts"] == printed[1]["contrasts"]
    assert printed[0]["conditions"]["seeds"] == 2
