"""The history: what is kept is found again as it was, by its whole key, and is never lost."""

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from bench import compare
from bench.runs import store, sweep
from bench.runs.store import FILE, RunStore, StoreError, StoreFailedError
from bench.runs.sweep import GRID, Finished, Part, Settings, Trained, environment

ROOT = Path(__file__).parents[1]
KILLS = 2  # 20 were tried by hand
SETTINGS = Settings(epochs=3)
HERE = [environment()["processor"]]


def trained(part, accuracy=0.9):
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "seconds": [0.1, 0.2, 0.3], "loss": [1 / 3, float("nan"), 1e-300]}
    )
    random = np.random.default_rng(0)
    runs = [
        Finished(task, history, accuracy, 1 / 3, (1, 3), random.random((2, GRID, GRID)) > 0.5)
        for task in part.tasks()
    ]
    return Trained(part, runs, environment())


STACK = Part("relu-mse", "minifw", (0, 1, 2))


def test_a_run_is_found_as_it_was(tmp_path):
    part = trained(STACK)
    with RunStore(tmp_path / FILE) as history:
        history.add(part, SETTINGS)
    with RunStore(tmp_path / FILE) as history:
        found = history.find([STACK, Part("relu-mse", "minifw", (0,))], SETTINGS, HERE)
        runs = list(history.read(found, SETTINGS))
    assert list(found) == [STACK], "a run of a stack is none of a lone one"
    for here, there in zip(runs, part.runs, strict=True):
        assert (here.task, here.region_epochs) == (there.task, there.region_epochs)
        assert here.test_accuracy == there.test_accuracy
        pd.testing.assert_frame_equal(here.history, there.history, check_exact=True)
        assert here.regions.dtype == bool
        assert (here.regions == there.regions).all()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"initialization": "default"},
        {"dtype": "float64"},
        {"device": "cuda"},
        {"threads": 2},
    ],
    ids=str,
)
def test_a_run_with_other_settings_is_not_taken(tmp_path, change):
    with RunStore(tmp_path / FILE) as history:
        history.add(trained(STACK), SETTINGS)
        assert not history.find([STACK], replace(SETTINGS, **change), HERE)
        assert history.find([STACK], SETTINGS, HERE)


@pytest.mark.parametrize("name", ["torch", "numpy", "sources"])
def test_a_run_of_other_versions_is_not_taken(tmp_path, monkeypatch, name):
    with RunStore(tmp_path / FILE) as history:
        history.add(trained(STACK), SETTINGS)
        assert history.find([STACK], SETTINGS, HERE)
        changed = environment() | {name: "another"}
        monkeypatch.setattr(store, "environment", lambda: changed)
        assert not history.find([STACK], SETTINGS, HERE)


def test_a_run_of_another_machine_is_taken_only_where_it_is_asked_for(tmp_path):
    part = trained(STACK)
    other = replace(part, environment=part.environment | {"processor": "another"})
    with RunStore(tmp_path / FILE) as history:
        history.add(other, SETTINGS)
        assert not history.find([STACK], SETTINGS, HERE)
        assert history.find([STACK], SETTINGS, [*HERE, "another"])


def test_the_sources_of_a_run_are_told_from_changed_ones(tmp_path, monkeypatch):
    names = (
        "minifw/nn/linear.py",
        "reference/recipes.py",
        "bench/runs/sweep.py",
        "bench/figures.py",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(sweep, "ROOT", tmp_path)

    def digest():
        return environment.__wrapped__()["sources"]

    before = digest()
    for name in names:
        (tmp_path / name).write_text("2")
        assert (digest() == before) == (name == "bench/figures.py")
        (tmp_path / name).write_text("1")
        assert digest() == before


def test_a_stack_is_taken_whole_or_not_at_all(tmp_path):
    with RunStore(tmp_path / FILE) as history:
        history.add(trained(STACK), SETTINGS)
        with sqlite3.connect(tmp_path / FILE) as connection:
            connection.execute("DELETE FROM runs WHERE seed = 1")
        connection.close()
        assert not history.find([STACK], SETTINGS, HERE)


def test_runs_of_another_stack_are_runs_of_their_own(tmp_path):
    pair = Part("relu-mse", "minifw", (0, 1))
    with RunStore(tmp_path / FILE) as history:
        history.add(trained(STACK, 0.8), SETTINGS)
        history.add(trained(pair, 0.9), SETTINGS)
        for part, accuracies in {STACK: [0.8] * 3, pair: [0.9] * 2}.items():
            found = history.find([part], SETTINGS, HERE)
            runs = history.read(found, SETTINGS)
            assert [run.train_accuracy for run in runs] == accuracies


def test_a_part_that_is_not_kept_whole_is_not_kept(tmp_path, monkeypatch):
    part = trained(STACK)
    broken = [*part.runs[:2], replace(part.runs[2], train_accuracy=None)]
    with RunStore(tmp_path / FILE) as history:
        with pytest.raises(StoreFailedError, match="NOT NULL"):
            history.add(replace(part, runs=broken), SETTINGS)
        assert history.table("runs").empty


def test_a_run_done_anew_takes_the_place_of_the_earlier(tmp_path):
    with RunStore(tmp_path / FILE) as history:
        for accuracy in (0.8, 0.9):
            history.add(trained(STACK, accuracy), SETTINGS)
        assert history.table("runs")["train_accuracy"].tolist() == [0.9] * 3


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE holidays (day TEXT)")
    connection.close()


def older(path):
    RunStore(path).__exit__()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE runs DROP COLUMN region_epochs")
    connection.close()


def damaged(path):
    with RunStore(path) as history:
        history.add(trained(STACK), SETTINGS)
    content = bytearray(path.read_bytes())
    content[5000:9000] = bytes(4000)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(foreign, "'holidays'"), (older, "'runs'")],
    ids=["foreign", "older"],
)
def test_a_file_that_cannot_be_used_is_refused_and_never_lost(
    tmp_path, capsys, make, reason, monkeypatch
):
    monkeypatch.setattr(compare, "resume", None)  # a run would fail
    path = tmp_path / FILE
    make(path)
    before = path.read_bytes()
    with pytest.raises(SystemExit) as stop:
        compare.main(["--output-dir", str(tmp_path)])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(message.splitlines()) == 1
    assert "--fresh" in message
    assert re.search(reason, message)
    assert path.read_bytes() == before

    with RunStore(path, "rename") as history:
        assert history.table("runs").empty
        assert history.put_aside.read_bytes() == before


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_text("a note, " * 1000), damaged],
    ids=["no database", "damaged"],
)
def test_a_damaged_file_is_put_aside_by_a_sweep_and_refused_by_a_reader(tmp_path, make):
    path = tmp_path / FILE
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreFailedError, match="--fresh renames it"):
        RunStore(path)
    assert path.read_bytes() == before
    with RunStore(path, "rename damaged") as history:
        assert history.table("runs").empty
        assert history.put_aside.read_bytes() == before


def test_no_row_of_a_file_with_a_flipped_bit_is_believed(tmp_path):
    """After each of 200 flips, what is read at all is as it was written."""
    path, parts = tmp_path / FILE, [STACK, Part("relu-mse", "pytorch", (0,))]
    with RunStore(path) as history:
        for part in parts:
            history.add(trained(part), SETTINGS)
        listed = history.table("runs").to_dict("records")
    written = {run.task: run for part in parts for run in trained(part).runs}
    whole, generator, refused = path.read_bytes(), random.Random(0), 0
    for flip in range(200):
        content = bytearray(whole)
        content[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        try:
            with RunStore(path) as history:
                assert all(row in listed for row in history.table("runs").to_dict("records")), flip
                for run in history.read(history.find(parts, SETTINGS, HERE), SETTINGS):
                    expected = written[run.task]
                    assert run.train_accuracy == expected.train_accuracy, flip
                    assert run.test_accuracy == expected.test_accuracy, flip
                    assert run.history.equals(expected.history), flip
                    assert (run.regions == expected.regions).all(), flip
                refused += bool(history.damaged)
        except (StoreError, StoreFailedError):
            refused += 1
    assert refused > 50, "the others hit unused space or an index"


def test_a_damaged_row_is_said_and_its_run_made_again(tmp_path, capsys):
    sweep = ["--recipes", "relu-mse", "--seeds", "2", "--epochs", "2", "--rounds", "1"]
    options = [*sweep, "--jobs", "1", "--output-dir", str(tmp_path)]
    assert compare.main(options) == 0
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute(
            "UPDATE runs SET test_accuracy = 7.5 WHERE framework = 'pytorch' AND seed = 1"
        )
    capsys.readouterr()
    assert compare.main(options) == 0
    printed = capsys.readouterr()
    assert "1 damaged rows of the store are not believed" in printed.err
    assert "Read from the store: 3 of 4 runs" in printed.out
    with RunStore(tmp_path / FILE) as history:
        assert history.table("runs")["test_accuracy"].max() <= 1


def test_the_name_of_the_folder_may_hold_any_character(tmp_path):
    folder = tmp_path / "a?mode=ro&b=c#d%20é"
    folder.mkdir()
    with RunStore(folder / FILE) as history:
        history.add(trained(STACK), SETTINGS)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_usable_file_is_not_put_aside(tmp_path):
    for _ in range(2):
        with RunStore(tmp_path / FILE, "rename") as history:
            assert history.put_aside is None
            history.add(trained(STACK), SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_timings_are_added_with_their_conditions(tmp_path):
    timings = pd.DataFrame(
        {"recipe": "relu-mse", "part": "epoch", "round": [0, 0], "side": ["minifw", "pytorch"]}
    ).assign(seconds=[0.001, 0.002])
    with RunStore(tmp_path / FILE) as history:
        for _ in range(2):
            history.add_timings(timings, SETTINGS)
        kept = history.table("timings")
    assert kept["seconds"].tolist() == [0.001, 0.002] * 2
    assert set(kept["dtype"]) == {"float32"}
    assert set(kept["sources"]) == {environment()["sources"]}


# Killed.

SWEEP = (
    *("--recipes", "relu-mse", "dropout-bce", "softmax-custom", "early-stopping"),
    *("--seeds", "4", "--epochs", "40", "--rounds", "2"),
)


def kept(folder):
    """All rows of the history, as whatever is killed leaves it to the next reader."""
    if not (folder / FILE).exists():
        return set()
    connection = sqlite3.connect(folder / FILE)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'runs'")
        return set(connection.execute("SELECT * FROM runs")) if tables.fetchall() else set()
    finally:
        connection.close()


def kill_in_the_middle(folder, delay):
    """Start the sweep; ``delay`` seconds after it has kept a part, kill it with its workers."""
    process = subprocess.Popen(
        [sys.executable, "bench/compare.py", *SWEEP, "--jobs", "2", "--output-dir", folder],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        before = kept(folder)
        while process.poll() is None and len(kept(folder)) == len(before):
            time.sleep(0.01)
        time.sleep(delay)
        seen = kept(folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return seen


def accuracies(folder):
    return pd.read_csv(folder / "accuracy.csv")


@pytest.mark.slow
def test_a_killed_sweep_keeps_what_it_has_done_and_ends_with_the_same_table(tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert compare.main([*SWEEP, "--jobs", "1", "--output-dir", str(whole)]) in (0, 1)
    moments = random.Random()
    for _ in range(KILLS):
        seen = kill_in_the_middle(folder, moments.uniform(0, 0.5))
        rows = kept(folder)
        assert seen <= rows, "what was kept is there after the kill"
        for stack in {(row[0], row[3]) for row in rows if row[1] == "minifw"}:
            assert sum((row[0], row[3]) == stack for row in rows) == 4, "whole stacks"
    assert rows
    assert not list(folder.glob("*.csv")), "all were killed before the end"

    capsys.readouterr()
    assert compare.main([*SWEEP, "--jobs", "1", "--output-dir", str(folder)]) in (0, 1)
    assert f"Read from the store: {len(rows)} of 32 runs" in capsys.readouterr().out
    assert rows < kept(folder)
    pd.testing.assert_frame_equal(accuracies(folder), accuracies(whole), check_exact=True)
    for name in ("learning_curves.csv", "decision_regions.npz"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_two_processes_may_make_the_tables_of_a_new_file_at_once(tmp_path, monkeypatch):
    class SeesNothing:
        """What the slower of them saw: the tables were not there yet."""

        def get_table_names(self):
            return []

    with RunStore(tmp_path / FILE):
        monkeypatch.setattr(store, "inspect", lambda connection: SeesNothing())
        monkeypatch.setattr(SQLiteDialect, "has_table", lambda *_, **__: False)
        with RunStore(tmp_path / FILE) as slower:
            assert slower.put_aside is None
