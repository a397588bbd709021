"""The history's command line: what it lists, what it exports, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from bench import compare, history
from bench.runs.store import FILE, RunStore

SHORT = ["--recipes", "relu-mse", "--seeds", "2", "--epochs", "2", "--rounds", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for changes in ([], ["--dtype", "float64", "--frameworks", "minifw"]):
        assert compare.main([*SHORT, *changes, "--output-dir", str(folder)]) == 0
    return folder


def test_lists_a_row_for_runs_that_differ_in_the_seed_alone(folder, capsys):
    assert history.main(["--output-dir", str(folder)]) == 0
    shown = capsys.readouterr().out
    for name in ("relu-mse", "float64", "dtype"):
        assert name in shown
    assert "initialization" not in shown, "the same in all rows"
    assert history.main(["--output-dir", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    listed = {(row["framework"], row["dtype"]): row["runs"] for row in rows}
    assert listed == {
        ("minifw", "float32"): 2,
        ("pytorch", "float32"): 2,
        ("minifw", "float64"): 2,
    }


@pytest.mark.parametrize(
    ("table", "rows"), [("runs", 6), ("curves", 12), ("timings", 40)], ids=lambda value: value
)
@pytest.mark.parametrize("ending", ["csv", "json"])
def test_exports_every_number_to_the_last_digit(folder, tmp_path, capsys, table, rows, ending):
    file = tmp_path / "new" / f"export.{ending}"
    arguments = ["--output-dir", str(folder), "--table", table, "--export", str(file)]
    assert history.main(arguments) == 0
    assert f"{rows} rows" in capsys.readouterr().out
    with RunStore(folder / FILE) as kept:
        expected = kept.table(table)
    if ending == "csv":
        read = pd.read_csv(file, dtype={"stack": str})
        expected = expected.replace("", np.nan)  # the commit, where there is no git
    else:
        read = pd.DataFrame(json.loads(file.read_text()))
    assert len(read) == rows
    pd.testing.assert_frame_equal(read, expected, check_exact=True, check_dtype=False)


def test_an_empty_history_is_listed_and_exported(tmp_path, capsys):
    with RunStore(tmp_path / FILE):
        pass
    assert history.main(["--output-dir", str(tmp_path)]) == 0
    for table in history.TABLES:
        file = tmp_path / f"{table}.csv"
        options = ["--table", table, "--export", str(file)]
        assert history.main(["--output-dir", str(tmp_path), *options]) == 0
        assert file.read_text().startswith("recipe,")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--export runs.txt", "'runs.txt'"),
        ("--table weights", "timings"),
        ("--output-dir none", "none/history.sqlite"),
        ("--speed high", "--speed"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(folder, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        history.main(["--output-dir", str(folder), *arguments.split()])
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out, len(printed.err.splitlines())) == (2, "", 1)
    assert said in printed.err


def test_a_damaged_history_is_one_line_and_stays_as_it_is(tmp_path, capsys):
    (tmp_path / FILE).write_text("a note, " * 1000)
    assert history.main(["--output-dir", str(tmp_path)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / FILE).read_text() == "a note, " * 1000
