"""Scaling: what is counted is what is computed, and sizes grow as far as they may."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import scaling
from bench.faults import FAULTS
from bench.timing import scaling as scaling_timing
from bench.timing.interleave import COMPARED
from bench.timing.scaling import DISK, Network, difference, matrix_product_peak, measure
from reference.frameworks import FRAMEWORKS, MINIFW, PYTORCH

FILES = {"scaling.csv", "scaling_overhead.csv", "scaling.md", "scaling.svg"}
SHORT = ["--rounds", "1", "--threads", "1"]
SMALL = Network(width=6, depth=2, batch=5)


@pytest.fixture
def three_sizes(monkeypatch):
    monkeypatch.setattr(scaling, "DOUBLINGS", 2)
    monkeypatch.setattr(scaling_timing, "TRIAL_SECONDS", 1e-9)
    monkeypatch.setattr(scaling, "matrix_product_peak", lambda: 1e11)


@pytest.mark.parametrize("network", [DISK, SMALL, Network(width=4, depth=1, batch=3)], ids=str)
@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_flops_are_those_that_torch_counts(network, framework):
    job = network.job()
    model, criterion = job.model(framework.nn), framework.nn.MSELoss()
    optimizer = framework.optim.SGD(model.parameters(), lr=0.1)
    batch = job.inputs[0], job.targets[0]
    framework.train_step(model, criterion, optimizer, *batch)  # minifw makes its calls twice once
    with FlopCounterMode(display=False) as counter:
        framework.train_step(model, criterion, optimizer, *batch)
    assert counter.get_total_flops() == network.flops
    assert sum(p.data.numel() for p in model.parameters()) == network.parameters


def test_the_smallest_network_is_that_of_the_disk():
    assert [tuple(weight.shape) for weight in DISK.job().weights[::2]] == [
        (25, 2),
        (25, 25),
        (25, 25),
        (1, 25),
    ]
    assert DISK.job().inputs[0].shape == (100, 2)


def test_signals_keep_their_size_at_any_depth():
    job = Network(width=25, depth=96, batch=50).job()
    model, criterion = job.model(PYTORCH.nn), PYTORCH.nn.MSELoss()
    criterion(model(job.inputs[0]), job.targets[0]).backward()
    sizes = [p.grad.abs().max().item() for n, p in model.named_parameters() if "weight" in n]
    assert min(sizes) > 1e-8  # far from what float32 rounds to 0, or takes longer to compute with


def test_frameworks_agree_and_a_fault_is_named():
    assert difference(SMALL) == ""
    (fault,) = (f for f in FAULTS if f.name.startswith("Linear's bias gradient averaged"))
    hurt = replace(MINIFW, nn=fault.framework().nn)
    assert difference(SMALL, (hurt, PYTORCH)).startswith("0.bias.grad is ")


def test_a_measured_network_has_times_memory_and_arithmetic(monkeypatch):
    monkeypatch.setattr(scaling_timing, "TRIAL_SECONDS", 1e-9)
    row = measure(SMALL, rounds=2)
    assert set(row) == set(scaling_timing.MEASURED)
    assert row["rounds"] == 2
    assert row["wrong"] == ""
    for side in FRAMEWORKS:
        assert row[f"{side}_flop_s"] == SMALL.flops / row[side]
        assert row[f"{side}_bytes"] > 2 * 4 * SMALL.parameters


def test_the_peak_is_a_plausible_speed():
    assert 1e8 < matrix_product_peak() < 1e15


@pytest.mark.usefixtures("three_sizes")
def test_prints_tables_and_writes_every_file(tmp_path, capsys):
    folder = tmp_path / "new"
    arguments = ["--max-step", "100000", "--output-dir", str(folder)]
    assert scaling.main([*SHORT, *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in folder.iterdir()} == FILES
    table = pd.read_csv(folder / "scaling.csv")
    assert list(zip(table["axis"], table["size"], strict=True)) == [
        *(("width", size) for size in (25, 50, 100)),
        *(("depth", size) for size in (3, 6, 12)),
        *(("batch", size) for size in (100, 200, 400)),
    ]
    for axis, own in table.groupby("axis"):
        others = {"width": 25, "depth": 3, "batch": 100} | {axis: own["size"]}
        assert (own[list(others)] == pd.DataFrame(others)).all(axis=None)
    np.testing.assert_allclose(table["minifw_peak_share"], table["minifw_flop_s"] / 1e11, rtol=1e-4)
    overhead = pd.read_csv(folder / "scaling_overhead.csv")
    assert len(overhead) == 3 * 2
    picture = (folder / "scaling.svg").read_text(encoding="utf-8")
    assert "<svg" in picture
    text = (folder / "scaling.md").read_text(encoding="utf-8")
    for shown in ("growing", "noise floor", "100 GFLOP/s", "1 thread(s)", torch.__version__):
        assert shown in printed.out
        assert shown in text


@pytest.mark.usefixtures("three_sizes")
@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (["--max-step", "100000"], [25, 50, 100]),
        (["--max-step", "100000", "--max-memory", "1"], [25, 50, 100]),
        (["--max-step", "1"], [25]),
    ],
    ids=["none", "memory", "time"],
)
def test_sizes_grow_as_far_as_they_may(tmp_path, capsys, monkeypatch, limit, sizes):
    slow = {"minifw": 0.002, "pytorch": 0.001, "wrong": ""}
    sizes_of = {25: 1000, 50: 2**18, 100: 2**18 + 1}
    monkeypatch.setattr(
        scaling,
        "measure",
        lambda network, rounds: (
            vars(network)
            | dict.fromkeys(COMPARED, 1.0)
            | slow
            | {f"{side}_{v}": 1.0 for side in FRAMEWORKS for v in ("bytes", "flop_s")}
            | {"pytorch_bytes": sizes_of[network.width]}
        ),
    )
    monkeypatch.setattr(scaling, "DOUBLINGS", 2 if "--max-memory" not in limit else 9)
    arguments = [*SHORT, "--axes", "width", *limit, "--json", "--output-dir", str(tmp_path)]
    assert scaling.main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in printed["table"]] == sizes


@pytest.mark.usefixtures("three_sizes")
def test_a_wrong_framework_has_no_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling_timing, "difference", lambda network: "0.bias.grad is off")
    arguments = [*SHORT, "--axes", "depth", "--output-dir", str(tmp_path)]
    assert scaling.main(arguments) == 1
    assert "not timed: 0.bias.grad is off" in (tmp_path / "scaling.md").read_text()
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert table[["minifw", "pytorch", "ratio", "minifw_peak_share"]].isna().all(axis=None)


def test_overhead_ends_where_the_time_has_doubled():
    sizes = np.array([100.0, 200, 400, 800])
    table = pd.DataFrame(
        {
            "axis": "batch",
            "size": sizes,
            "minifw": 1 + sizes**2 / 200**2,  # 1.25, 2, 5, 17
            "pytorch": 1.0,
            "minifw_peak_share": sizes / 800,
            "pytorch_peak_share": 0.1,
        }
    )
    minifw, pytorch = scaling._overhead(table).itertuples()
    # Between 200 and 400 the time grows as size^log2(2.5).
    assert minifw.twice_the_time == pytest.approx(200 * (2.5 / 2) ** (1 / np.log2(2.5)))
    assert minifw.half_of_the_peak == pytest.approx(400)
    assert minifw.peak_share == 1
    assert np.isnan(pytorch.twice_the_time)
    assert np.isnan(pytorch.half_of_the_peak)
