"""The main job's command line: what it prints, what it writes, and what it refuses."""

import dataclasses
import json
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import torch

from bench import compare, figures
from bench.accuracy.statistics import accuracy_statistics
from bench.runs import resume, tables
from bench.runs import sweep as sweeping
from bench.runs.store import FILE
from bench.runs.sweep import Finished, Settings, Task, sweep
from bench.timing.recipes import TIMED_PARTS
from reference.recipes import RECIPES

FILES = {
    "accuracy.csv",
    "accuracy.md",
    "comparison.json",
    "comparison.md",
    "data.svg",
    "decision_regions.npz",
    "decision_regions.svg",
    "history.sqlite",
    "learning_curves.csv",
    "learning_curves.svg",
    "report.html",
    "speed.csv",
    "speed.md",
    "timings.csv",
}
SHORT = ["--recipes", "relu-mse", "--seeds", "2", "--epochs", "2", "--rounds", "2", "--jobs", "1"]


def test_prints_a_table_and_writes_every_file(tmp_path, capsys):
    recipes = ["--recipes", "xavier-tanh", "relu-mse"]
    code = compare.main([*SHORT, *recipes, "--output-dir", str(tmp_path / "new")])
    printed = capsys.readouterr()

    assert code == 0
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    accuracy = pd.read_csv(tmp_path / "new" / "accuracy.csv").query("part == 'test'")
    assert accuracy["recipe"].tolist() == ["xavier-tanh", "relu-mse"]
    assert set(accuracy["difference_seeds"]) == {2}
    # Two epochs from one start: nothing but rounding can lie between the two.
    assert set(accuracy["difference_mean"]) == {0}
    assert accuracy["minifw_report"].isna().all(), "the reports' runs were longer"
    speed = pd.read_csv(tmp_path / "new" / "speed.csv")
    assert (speed[["minifw", "pytorch"]] > 0).all(axis=None)
    assert set(speed["claim"]) == {"no difference shown"}, "of two rounds nothing is claimed"
    written = (tmp_path / "new" / "comparison.md").read_text()
    for shown in ("xavier-tanh", "a verdict needs at least 3 seeds", "float32"):
        assert shown in printed.out
        assert shown in written
    curves = pd.read_csv(tmp_path / "new" / "learning_curves.csv")
    assert len(curves) == 2 * 2 * 2
    for path in (tmp_path / "new").glob("*.svg"):
        ET.parse(path)


def test_classes_and_normalized_inputs_are_drawn_in_the_unit_square(tmp_path, capsys):
    recipes = ["--recipes", "softmax-custom", "softmax-residual", "--epochs", "20", "--seeds", "1"]
    arguments = [*SHORT, *recipes, "--output-dir", str(tmp_path)]
    assert compare.main(arguments) == 0
    (run,) = sweep([Task("softmax-custom", "minifw", 0)], Settings(epochs=20), jobs=1)
    inside = run.regions[-1]
    assert inside[50, 50], "the center of the disk"
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any(), "the corners"
    assert inside.mean() == pytest.approx(0.5, abs=0.05)


def test_a_chaotic_recipe_has_seeds_of_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "SEEDS", 2)
    monkeypatch.setattr(compare, "CHAOTIC", {"xavier-tanh": 3})
    arguments = ["--recipes", "relu-mse", "xavier-tanh", "--epochs", "1", "--rounds", "2"]
    assert compare.main([*arguments, "--jobs", "1", "--output-dir", str(tmp_path)]) == 0
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    assert accuracy["difference_seeds"].tolist() == [2, 2, 3, 3]
    assert "2 to 3 seeds" in capsys.readouterr().out


@pytest.mark.parametrize("framework", ["minifw", "pytorch"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_regions_are_those_of_runs_of_so_many_epochs(framework, seeds):
    def swept(epochs):
        tasks = [Task("softmax-custom", framework, seed) for seed in range(seeds)]
        return list(sweep(tasks, Settings(epochs=epochs), jobs=1))

    for run, after_10, after_1 in zip(swept(12), swept(10), swept(1), strict=True):
        assert (run.region_epochs, after_10.region_epochs) == ((1, 10, 12), (1, 10))
        assert (run.regions[0] == after_1.regions[-1]).all()
        assert (run.regions[1] == after_10.regions[-1]).all()
        assert (run.regions[1] != run.regions[2]).any()


@pytest.mark.parametrize("framework", ["minifw", "pytorch"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_reading_regions_changes_nothing_of_a_run(framework, seeds, monkeypatch):
    tasks = [Task("dropout-bce", framework, seed) for seed in range(seeds)]
    read = list(sweep(tasks, Settings(epochs=3), jobs=1))
    monkeypatch.setattr(sweeping, "REGION_EPOCHS", ())
    for with_it, without in zip(read, sweep(tasks, Settings(epochs=3), jobs=1), strict=True):
        assert (with_it.region_epochs, without.region_epochs) == ((1, 3), (3,))
        here, there = (run.history.drop(columns="seconds") for run in (with_it, without))
        pd.testing.assert_frame_equal(here, there, check_exact=True)


def test_a_run_that_stops_early_has_no_regions_of_later_epochs(monkeypatch):
    recipe = dataclasses.replace(RECIPES["early-stopping"], patience=2)
    monkeypatch.setitem(RECIPES, recipe.name, recipe)
    tasks = [Task(recipe.name, "minifw", seed) for seed in range(3)]
    runs = list(sweep(tasks, Settings(), jobs=1))
    ends = [len(run.history) for run in runs]
    assert len(set(ends)) > 1
    for run, end in zip(runs, ends, strict=True):
        assert run.region_epochs == (*(epoch for epoch in (1, 10, 50) if epoch < end), end)
        assert len(run.regions) == len(run.region_epochs)


def test_what_is_in_the_history_is_not_done_again(tmp_path, capsys, monkeypatch):
    compare.main([*SHORT, "--output-dir", str(tmp_path)])
    assert "from the store" not in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "accuracy.csv")
    parts = []

    def spy(missing, *arguments):
        parts.extend(missing)
        return train(missing, *arguments)

    train = resume.train
    monkeypatch.setattr(resume, "train", spy)
    compare.main([*SHORT, "--jobs", "2", "--output-dir", str(tmp_path)])
    assert parts == []
    assert "Read from the store: 4 of 4 runs" in capsys.readouterr().out
    assert table.equals(pd.read_csv(tmp_path / "accuracy.csv"))

    compare.main([*SHORT, "--seeds", "3", "--output-dir", str(tmp_path)])
    # The stack of three rounds otherwise than that of two.
    assert [(part.framework, part.seeds) for part in parts] == [
        ("pytorch", (2,)),
        ("minifw", (0, 1, 2)),
    ]
    parts.clear()
    compare.main([*SHORT, "--fresh", "--output-dir", str(tmp_path)])
    assert len(parts) == 3


def test_an_interrupt_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        yield next(train(*arguments))
        raise KeyboardInterrupt

    train = resume.train
    monkeypatch.setattr(resume, "train", interrupted)
    arguments = [*SHORT, "--output-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 130
    assert "resumes" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    monkeypatch.undo()
    assert compare.main(arguments) == 0
    assert "Read from the store: 1 of 4 runs" in capsys.readouterr().out


@pytest.fixture
def baseline(tmp_path, capsys):
    """A way to write a comparison.json whose minifw was so many times as fast as it is."""
    folder = tmp_path / "before"
    compare.main([*SHORT, "--output-dir", str(folder)])
    capsys.readouterr()

    def write(times):
        comparison = json.loads((folder / "comparison.json").read_text())
        next(row for row in comparison["speed"] if row["part"] == "epoch")["ratio"] *= times
        next(row for row in comparison["accuracy"] if row["part"] == "test")["minifw_mean"] -= 0.01
        path = tmp_path / "baseline.json"
        path.write_text(json.dumps(comparison))
        return path

    return write


# A thousand times is beyond what any disturbance does to a ratio of interleaved epochs.
@pytest.mark.parametrize(("times", "code"), [(1000, 3), (0.001, 0)])
def test_a_baseline_shows_changes_and_fails_if_it_was_faster(
    tmp_path, capsys, baseline, times, code
):
    arguments = [*SHORT, "--baseline", str(baseline(times)), "--output-dir", str(tmp_path / "now")]
    assert compare.main(arguments) == 0, "nobody asked it to fail"
    printed = capsys.readouterr().out
    assert "+1.00" in printed
    assert "-99." in printed or times < 1
    for allowed in ("10%", "10"):
        assert compare.main([*arguments, "--fail-on-regression", allowed]) == code
        named = "relu-mse" if code else "none"
        assert f"the baseline's: {named}." in capsys.readouterr().out
    changes = json.loads((tmp_path / "now" / "comparison.json").read_text())["changes"]
    assert changes[0]["test_points"] == pytest.approx(1)
    assert changes[0]["speed_change_low"] <= changes[0]["speed_change"]
    assert "change in percentage points" in (tmp_path / "now" / "comparison.md").read_text()


@pytest.fixture
def differ(monkeypatch):
    """A way to have accuracies that are "different"."""

    def statistics(*arguments):
        return accuracy_statistics(*arguments).assign(difference_verdict="different")

    monkeypatch.setattr(compare, "accuracy_statistics", statistics)


def test_accuracies_that_differ_come_before_a_regression(tmp_path, baseline, differ):
    options = ["--baseline", str(baseline(1000)), "--fail-on-regression", "10%"]
    assert compare.main([*SHORT, *options, "--output-dir", str(tmp_path / "now")]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "No such file"),
        (lambda content: "{", "is not a comparison"),
        (lambda content: "[]", "is not a comparison"),
        (lambda content: '{"accuracy": [], "speed": [], "conditions": {}}', "is not a comparison"),
        (lambda content: content.replace('"ratio"', '"quotient"'), "is not a comparison"),
        (lambda content: content.replace('"epochs": 2,', '"epochs": 3,', 1), "epochs 3"),
        (lambda content: content.replace("float32", "float64"), "dtype float64"),
        (lambda content: content.replace("relu-mse", "xavier-tanh"), "none of the recipes"),
    ],
    ids=["missing", "cut", "list", "no table", "columns", "epochs", "dtype", "recipes"],
)
def test_a_bad_baseline_is_refused_before_any_run(
    tmp_path, capsys, monkeypatch, baseline, change, said
):
    path = baseline(1)
    if change:
        path.write_text(change(path.read_text()))
    else:
        path.unlink()
    monkeypatch.setattr(compare, "_run", None)
    with pytest.raises(SystemExit) as stop:
        compare.main([*SHORT, "--baseline", str(path), "--output-dir", str(tmp_path)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert said in message


def test_accuracies_are_those_of_the_restored_weights(monkeypatch):
    recipe = dataclasses.replace(RECIPES["early-stopping"], patience=2)
    monkeypatch.setitem(RECIPES, recipe.name, recipe)
    (run,) = sweep([Task(recipe.name, "minifw", 0)], Settings(), jobs=1)
    row = tables.final_accuracies([run]).loc[0]
    best = run.history["validation_loss"].idxmin()
    assert best == len(run.history) - 3
    assert row["epochs"] == len(run.history)
    assert row["train_accuracy"] == run.history.loc[best, "train_accuracy"]
    assert row["train_accuracy"] != run.history["train_accuracy"].iloc[-1]


def test_curves_are_averaged_over_the_seeds_that_still_run():
    def finished(seed, accuracies):
        columns = {"epoch": range(1, len(accuracies) + 1), "loss": 1.0}
        history = pd.DataFrame(
            {**columns, "train_accuracy": accuracies, "validation_accuracy": accuracies}
        )
        return Finished(Task("early-stopping", "minifw", seed), history, 1.0, 1.0, (), None)

    curves = tables.curves([finished(0, [0.5, 0.7, 0.9]), finished(1, [0.7, 0.8])])
    averages = tables.average_curves(curves)
    assert averages["epoch"].tolist() == [1, 2, 3]
    assert averages["seeds"].tolist() == [2, 2, 1]
    assert averages["validation_accuracy_mean"].tolist() == pytest.approx([0.6, 0.75, 0.9])


def test_two_processes_give_the_table_of_one(tmp_path, capsys):
    accuracies = []
    for jobs in ("1", "2"):
        compare.main([*SHORT, "--jobs", jobs, "--json", "--output-dir", str(tmp_path / jobs)])
        accuracies.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert accuracies[0] == accuracies[1]


def test_one_framework_alone_is_not_compared(tmp_path, capsys):
    code = compare.main([*SHORT, "--frameworks", "minifw", "--output-dir", str(tmp_path)])
    assert code == 0
    assert "nothing is compared" in capsys.readouterr().out
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    assert accuracy["minifw_mean"].notna().all()
    assert accuracy["pytorch_mean"].isna().all()


def test_json_is_all_that_is_printed(tmp_path, capsys):
    code = compare.main([*SHORT, "--json", "--output-dir", str(tmp_path)])
    result = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [row["part"] for row in result["accuracy"]] == ["train", "test"]
    assert {row["part"] for row in result["speed"]} == set(TIMED_PARTS)
    assert result["conditions"]["epochs"] == 2
    assert result["conditions"]["threads"] == 1
    assert result["provenance"]["torch"] == torch.__version__
    assert json.loads((tmp_path / "comparison.json").read_text()) == result


def test_accuracies_that_differ_are_exit_code_1(tmp_path, differ):
    assert compare.main([*SHORT, "--output-dir", str(tmp_path)]) == 1
    own = [*SHORT, "--initialization", "default", "--output-dir", str(tmp_path)]
    assert compare.main(own) == 0, "different starts need not agree"


def test_a_framework_that_trains_otherwise_is_exit_code_1_and_has_no_speed(
    tmp_path, capsys, monkeypatch
):
    recipe = RECIPES["relu-mse"]
    hurt = dataclasses.replace(
        recipe,
        optimizer=lambda optim, parameters: optim.SGD(
            parameters, lr=0.1 if optim is torch.optim else 0.105
        ),
    )
    monkeypatch.setitem(RECIPES, recipe.name, hurt)
    assert compare.main([*SHORT, "--output-dir", str(tmp_path)]) == 1
    assert "diverged at step 1" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "speed.csv")["ratio"].isna().all()


@pytest.mark.parametrize("as_json", [False, True])
def test_list_shows_every_recipe(capsys, as_json):
    assert compare.main(["--list", *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr().out
    for recipe in RECIPES.values():
        assert recipe.name in printed


def test_a_failure_while_writing_leaves_earlier_results_untouched(tmp_path, capsys, monkeypatch):
    arguments = [*SHORT, "--output-dir", str(tmp_path)]
    compare.main(arguments)

    def results():
        # The history is no result: it has the runs that were finished before the failure.
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != FILE}

    earlier = results()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(figures, "draw_regions", fail)
    assert compare.main([*arguments, "--seeds", "1"]) == 4, "the machine failed"
    assert earlier == results()
