"""What all command lines have in common: wrong usage, output folders, interrupts."""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from bench import compare, initialization, peers, profile_step, report, scaling, tune
from bench.cli.command_line import consoles, show

SCRIPTS = [
    path
    for path in sorted((Path(__file__).parents[1] / "bench").glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
]


@dataclass(frozen=True)
class CommandLine:
    """A command line.

    Attributes:
        module: that has its ``main``.
        short: arguments of a short run.
        work: name in the module of what does the work.
        wrong: by wrong arguments, what the message has to name.
    """

    module: ModuleType
    short: str
    work: str
    wrong: dict[str, str]


COMMAND_LINES = (
    CommandLine(
        compare,
        "--recipes relu-mse --seeds 1 --epochs 1 --rounds 1 --jobs 1",
        "_run",
        {
            "--recipes relu": "relu-mse",
            "--frameworks jax": "minifw",
            "--seeds 0": "at least 1, got '0'",
            "--seeds many": "at least 1, got 'many'",
            "--epochs -1": "at least 1, got '-1'",
            "--jobs 0": "at least 1",
            "--threads 0": "at least 1",
            "--threads 999999": "--threads",
            "--jobs 100000": "--jobs",
            "--device abacus": "abacus",
            "--dtype int8": "float64",
            "--initialization zeros": "default",
            "--baseline none.json": "none.json",
            "--baseline none.json --frameworks minifw": "--frameworks",
            "--fail-on-regression 10%": "--baseline",
            "--fail-on-regression much": "10%, got 'much'",
            "--fail-on-regression -1": "10%, got '-1'",
            "--fail-on-regression 100%": "below 100",
            "--speed high": "--speed",
        },
    ),
    CommandLine(
        tune,
        "early-stopping --folds 2 --epochs 1 --jobs 1",
        "_runs",
        {
            "": "early-stopping",
            "relu-mse": "early-stopping",
            "early-stopping --folds 1": "at least 2, got '1'",
            "early-stopping --folds 1001 --jobs 1": "1000 training points",
            "early-stopping --seed -1": "at least 0, got '-1'",
            "early-stopping --epochs some": "at least 1, got 'some'",
            "early-stopping --jobs 0": "at least 1",
            "early-stopping --framework jax": "minifw",
            "early-stopping --speed high": "--speed",
        },
    ),
    CommandLine(
        initialization,
        "--seeds 1 --epochs 1 --jobs 1",
        "_runs",
        {
            "--seeds 0": "at least 1, got '0'",
            "--epochs some": "at least 1, got 'some'",
            "--jobs 0": "at least 1",
            "--speed high": "--speed",
        },
    ),
    CommandLine(
        peers,
        "--parts network --rounds 1",
        "_run",
        {
            "--parts speed": "network",
            "--peers tensorflow": "tinygrad",
            "--stacks 0": "at least 1, got '0'",
            "--rounds many": "at least 1, got 'many'",
            "--processes 0": "at least 1",
            "--threads 0": "at least 1",
            "--threads 1000": "--threads",
            "--fail-below 0": "above 0, got '0'",
            "--fail-below nan": "above 0, got 'nan'",
            "--fail-above-import soon": "above 0, got 'soon'",
            "--speed high": "--speed",
        },
    ),
    CommandLine(
        profile_step,
        "",
        "in_fresh_process",
        {
            "relu": "relu-mse",
            "--rounds 0": "at least 1, got '0'",
            "--speed": "--speed",
        },
    ),
    CommandLine(
        scaling,
        "--axes width --rounds 1 --max-step 1",
        "_run",
        {
            "--axes height": "width",
            "--rounds many": "at least 1, got 'many'",
            "--threads 0": "at least 1",
            "--threads 1000": "--threads",
            "--max-step 0": "at least 1, got '0'",
            "--max-memory all": "at least 1, got 'all'",
            "--speed": "--speed",
        },
    ),
    CommandLine(
        report,
        "",
        "write_report",
        {
            "": "nothing to report",
            "--speed high": "--speed",
        },
    ),
)
each = pytest.mark.parametrize(
    "command_line", COMMAND_LINES, ids=lambda line: line.module.__name__.partition(".")[2]
)


@pytest.mark.parametrize(
    ("command_line", "arguments"),
    [(line, arguments) for line in COMMAND_LINES for arguments in line.wrong],
    ids=lambda value: value if isinstance(value, str) else value.module.__name__,
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, capsys, command_line, arguments):
    with pytest.raises(SystemExit) as stop:
        command_line.module.main([*shlex.split(arguments), "--output-dir", str(tmp_path)])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert command_line.wrong[arguments] in printed.err
    assert list(tmp_path.iterdir()) == []


@each
def test_an_output_folder_that_cannot_be_written_is_refused_before_any_run(
    tmp_path, capsys, monkeypatch, command_line
):
    monkeypatch.setattr(command_line.module, command_line.work, None)  # a run would fail
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "results"
    with pytest.raises(SystemExit) as stop:
        command_line.module.main([*shlex.split(command_line.short), "--output-dir", str(folder)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert "cannot write to the output folder" in message
    assert "--output-dir" in message


@each
def test_an_interrupt_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch, command_line):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.module, command_line.work, interrupt)
    arguments = [*shlex.split(command_line.short), "--output-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        command_line.module.main(arguments)
    assert stop.value.code == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_has_help_with_examples_and_exit_codes(tmp_path, script):
    command = [sys.executable, str(script), "--help"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "examples:" in printed.stdout
    assert "exit codes:" in printed.stdout
    assert printed.stderr == ""


@pytest.mark.parametrize(("first", "lines"), [("aab", 1), ("abc", 0), ("aba", 0), ("aaa", 0)])
def test_tables_have_lines_between_groups_alone(first, lines, capsys):
    console, _ = consoles()
    show(console, pd.DataFrame({"group": list(first), "value": "[5 %]"}), "a text [in brackets]")
    printed = capsys.readouterr().out
    assert printed.count("├") == lines
    assert printed.count("[5 %]") == len(first)
    assert "a text [in brackets]" in printed
