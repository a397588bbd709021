"""The main job's command line: what it prints, what it writes, and what it refuses."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench import compare, figures, tables
from bench.sweep import Finished, Settings, Task, sweep
from reference.recipes import RECIPES

ROOT = Path(__file__).parents[1]
FILES = {
    "comparison.csv",
    "comparison.md",
    "data.svg",
    "decision_regions.npz",
    "decision_regions.svg",
    "learning_curves.csv",
    "learning_curves.svg",
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
    table = pd.read_csv(tmp_path / "new" / "comparison.csv")
    assert list(zip(table["recipe"], table["framework"], strict=True)) == [
        (recipe, framework)
        for recipe in ("xavier-tanh", "relu-mse")
        for framework in ("minifw", "pytorch")
    ]
    assert set(table["seeds"]) == {2}
    assert set(table["epochs"]) == {2}
    # Two epochs from one start: nothing but rounding can lie between the two.
    for _, pair in table.groupby("recipe"):
        assert pair["test_accuracy_mean"].nunique() == 1
    assert table["test_accuracy_report"].tolist()[:3] == [0.969, 0.978, 0.958]
    assert (table["epoch_seconds_median"] > 0).all()
    assert table.loc[table["framework"] == "pytorch", "speedup"].tolist() == [1, 1]
    for shown in ("xavier-tanh", "96.9", "97.8", "differ by at most 0.00 points", "float32"):
        assert shown in printed.out
        assert shown in (tmp_path / "new" / "comparison.md").read_text()
    curves = pd.read_csv(tmp_path / "new" / "learning_curves.csv")
    assert len(curves) == 2 * 2 * 2
    for name in FILES:
        if name.endswith(".svg"):
            assert (tmp_path / "new" / name).read_text().startswith("<svg")


def test_classes_and_normalised_inputs_are_drawn_in_the_unit_square(tmp_path, capsys):
    recipes = ["--recipes", "softmax-custom", "softmax-residual", "--epochs", "20", "--seeds", "1"]
    arguments = [*SHORT, *recipes, "--output-dir", str(tmp_path)]
    assert compare.main(arguments) == 0
    (run,) = sweep([Task("softmax-custom", "minifw", 0)], Settings(epochs=20), jobs=1)
    assert run.inside[50, 50], "the centre of the disk"
    assert not run.inside[[0, 0, -1, -1], [0, -1, 0, -1]].any(), "the corners"
    assert run.inside.mean() == pytest.approx(0.5, abs=0.05)


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
        return Finished(Task("early-stopping", "minifw", seed), history, 1.0, 1.0, None)

    curves = tables.curves([finished(0, [0.5, 0.7, 0.9]), finished(1, [0.7, 0.8])])
    averages = tables.average_curves(curves)
    assert averages["epoch"].tolist() == [1, 2, 3]
    assert averages["seeds"].tolist() == [2, 2, 1]
    assert averages["validation_accuracy_mean"].tolist() == pytest.approx([0.6, 0.75, 0.9])


def test_two_processes_give_the_table_of_one(tmp_path, capsys):
    accuracies = []
    for jobs in ("1", "2"):
        compare.main([*SHORT, "--jobs", jobs, "--json", "--output-dir", str(tmp_path)])
        rows = json.loads(capsys.readouterr().out)["table"]
        accuracies.append([(row["train_accuracy_mean"], row["test_accuracy_std"]) for row in rows])
    assert accuracies[0] == accuracies[1]


def test_json_is_all_that_is_printed(tmp_path, capsys):
    code = compare.main([*SHORT, "--frameworks", "minifw", "--json", "--output-dir", str(tmp_path)])
    result = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [row["framework"] for row in result["table"]] == ["minifw"]
    assert result["conditions"]["epochs"] == 2
    assert result["conditions"]["threads"] == 1


def test_differing_accuracies_are_exit_code_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "LARGEST_DIFFERENCE", 0.0)
    assert compare.main([*SHORT, "--output-dir", str(tmp_path)]) == 1
    own = [*SHORT, "--initialisation", "default", "--output-dir", str(tmp_path)]
    assert compare.main(own) == 0, "different starts need not agree"


@pytest.mark.parametrize("as_json", [False, True])
def test_list_shows_every_recipe(capsys, as_json):
    assert compare.main(["--list", *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr().out
    for recipe in RECIPES.values():
        assert recipe.name in printed


def test_a_failure_while_writing_leaves_earlier_results_untouched(tmp_path, capsys, monkeypatch):
    arguments = [*SHORT, "--output-dir", str(tmp_path)]
    compare.main(arguments)
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(figures, "draw_regions", fail)
    with pytest.raises(MemoryError):
        compare.main([*arguments, "--seeds", "1"])
    assert earlier == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_runs_as_a_script():
    help_text = subprocess.run(
        [sys.executable, "bench/compare.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "examples:" in help_text
    assert "exit codes:" in help_text
