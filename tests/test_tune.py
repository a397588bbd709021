"""Cross-validation's command line: what it prints, what it writes, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench import tune
from reference.recipes import RECIPES, SEARCHES

ROOT = Path(__file__).parents[1]
FILES = {"tuning-early-stopping.csv", "tuning-early-stopping.md"}
SETTINGS = 18
SHORT = ["early-stopping", "--folds", "2", "--epochs", "1", "--jobs", "1"]


def test_prints_a_table_and_writes_it(tmp_path, capsys):
    assert tune.main([*SHORT, "--output-dir", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES
    table = pd.read_csv(tmp_path / "new" / "tuning-early-stopping.csv")
    assert len(table) == SETTINGS
    assert not table.duplicated(["lr", "momentum", "decay"]).any()
    assert table["accuracy_mean"].is_monotonic_decreasing
    assert (table["accuracy_min"] <= table["accuracy_mean"]).all()
    assert set(table["folds"]) == {2}
    text = (tmp_path / "new" / "tuning-early-stopping.md").read_text()
    for shown in ("momentum", "validation %", "Best: lr", "seed 0, folds 2, epochs 1"):
        assert shown in printed.out
        assert shown in text


def test_json_is_all_that_is_printed_and_a_seed_gives_it_again(tmp_path, capsys):
    results = []
    for seed, framework in (("0", "minifw"), ("0", "pytorch"), ("1", "minifw")):
        options = ["--seed", seed, "--framework", framework, "--json", "--output-dir"]
        tune.main([*SHORT, *options, str(tmp_path)])
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["chosen"] == SEARCHES["early-stopping"].chosen
    assert results[0]["best"] == {name: results[0]["table"][0][name] for name in results[0]["best"]}
    # One epoch: nothing but rounding lies between the frameworks.
    assert results[0]["table"] == results[1]["table"]
    assert results[0]["table"] != results[2]["table"]


def test_no_fold_is_trained_on_and_no_test_point_is_looked_at(monkeypatch):
    seen = []

    def spy(*arguments, data, **options):
        seen.append(data)
        return prepare(*arguments, data=data, **options)

    prepare: Any = tune.prepare
    monkeypatch.setattr(tune, "prepare", spy)
    for fold in range(5):
        tune._do(tune.FoldTask("early-stopping", (0.1, 0.0, 0.0), fold), 5, 0, 1, "minifw")
    train, test, validation = RECIPES["early-stopping"].data(tune.data_generator(0))

    def rows(points):
        return {tuple(point) for point in points.tolist()}

    for rest, held_out, stop_by in seen:
        assert rows(rest[0]) | rows(held_out[0]) == rows(train[0])
        assert not rows(rest[0]) & rows(held_out[0])
        assert torch.equal(stop_by[0], validation[0])
        assert not (rows(rest[0]) | rows(held_out[0]) | rows(stop_by[0])) & rows(test[0])
    assert set.union(*(rows(held_out[0]) for _, held_out, _ in seen)) == rows(train[0])


def test_the_recipe_has_what_cross_validation_chose():
    search = SEARCHES["early-stopping"]
    table = pd.read_csv(ROOT / "results" / "tuning-early-stopping.csv")
    if set(table["folds"]) != {5}:
        pytest.skip("the table was made anew, with other folds")
    assert table.loc[0, list(search.grid)].to_dict() == search.chosen
    assert set(zip(*(table[name] for name in search.grid), strict=True)) == {
        (lr, momentum, decay)
        for lr in search.grid["lr"]
        for momentum in search.grid["momentum"]
        for decay in search.grid["decay"]
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_list_shows_every_grid(capsys, as_json):
    assert tune.main(["--list", *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr().out
    for recipe, search in SEARCHES.items():
        for shown in (recipe, *search.grid):
            assert shown in printed
