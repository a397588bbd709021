"""The profile of a step: what is recorded is what a step calls, and can be called again."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import torch

from bench import profile_step
from bench.timing.dispatched_calls import record_calls, record_operations

ROOT = Path(__file__).parents[1]
FILES = {"profile.csv", "profile.md"}


def test_calls_from_python_are_recorded_and_can_be_made_again():
    x, weight = torch.rand(5, 3), torch.rand(4, 3)
    out = []

    def function():
        assert x.shape == (5, 3)  # runs no operation
        out.append(torch.relu(torch.mm(x, weight.t())))

    calls = record_calls(function)
    assert [call.name for call in calls] == ["aten::t", "aten::mm", "aten::relu"]
    assert torch.equal(calls[2].repeat(), out[0])
    assert torch.equal(torch.relu(calls[1].repeat()), out[0])


def test_operations_of_a_backward_pass_are_recorded():
    weight = torch.rand(4, 3, requires_grad=True)
    calls = record_operations(
        lambda: torch.nn.functional.linear(torch.rand(5, 3), weight).sum().backward()
    )
    names = Counter(call.name for call in calls)
    assert names["aten::mm"] == 2
    assert names["aten::sum"] == 1
    assert "aten::detach" not in names


def test_a_step_that_is_recorded_is_the_step():
    losses = []
    for record in (lambda step: step(), record_calls):
        step = profile_step._step("relu-mse", "minifw")
        record(step)
        losses.append(torch.as_tensor(step()).item())
    assert losses[0] == losses[1]


def test_prints_a_table_and_writes_it(tmp_path, capsys):
    folder = tmp_path / "new"
    assert profile_step.main(["--rounds", "2", "--output-dir", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in folder.iterdir()} == FILES
    table = pd.read_csv(folder / "profile.csv").set_index(["framework", "part"])
    for framework in ("minifw", "pytorch"):
        calls = table.loc[framework]["calls"]
        assert calls[profile_step.FLOOR] == calls.filter(like="aten::").sum()
        # Of four layers: the output, the gradient of the weight, and of all inputs but the first.
        assert calls["aten::addmm"] + calls["aten::mm"] == 4 + 4 + 3
        assert table.loc[(framework, profile_step.STEP), "share"] == 1
    assert (table["us"].drop(profile_step.REST, level="part") > 0).all()
    for shown in ("aten::addmm", "whole step", "batch 100", "2 rounds"):
        assert shown in printed.out
        assert shown in (folder / "profile.md").read_text(encoding="utf-8")


def test_runs_as_a_script(tmp_path):
    arguments = ["dropout-bce", "--rounds", "1", "--json", "--output-dir", str(tmp_path)]
    printed = subprocess.run(
        [sys.executable, "bench/profile_step.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed)["recipe"] == "dropout-bce"
