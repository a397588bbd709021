"""The peer table: every peer trains as PyTorch does, and no time is shown of one that does not."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench import peers
from bench.timing import peers as peer_timing
from bench.timing.interleave import in_fresh_process
from bench.timing.peers import REPEAT, TOLERANCE, Setting, import_seconds, measure, peer_memory
from reference.jobs import Job, disk_job, stacked_disk_job, wide_job
from reference.peers import PEERS, Array, Peer, Trainer
from reference.stacked_peers import STACKED_PEERS

ROOT = Path(__file__).parents[1]
FILES = {"peers.csv", "peers_claims.csv", "peers.md", "peers.svg"}
SHORT = ["--processes", "1", "--rounds", "2"]
NETWORK = [*SHORT, "--parts", "network", "--peers", "minifw", "numpy"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Measure where the test can change what is measured."""
    monkeypatch.setattr(peers, "in_fresh_process", lambda threads, function, *rest: function(*rest))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def assert_trains_as_pytorch(peer: Peer, baseline: Peer, job: Job) -> None:
    if peer.missing():
        pytest.skip(f"needs {' and '.join(peer.missing())}")
    result, expected = (peer_timing.train(each.start(job)) for each in (peer, baseline))
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)
    # A peer that does nothing must not pass.
    untrained = np.concatenate([weight.numpy().ravel() for weight in job.weights])
    assert np.abs(expected[-len(untrained) :] - untrained).max() > 1000 * TOLERANCE


@pytest.mark.parametrize("name", PEERS)
def test_trains_as_pytorch_does(name, monkeypatch):
    # Compiling to machine code takes half a minute; what is compiled is the same.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_trains_as_pytorch(PEERS[name], PEERS["pytorch"], disk_job(0))


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", STACKED_PEERS)
def test_a_stack_trains_as_pytorch_does_one_after_the_other(name, members):
    peer, baseline = STACKED_PEERS[name], STACKED_PEERS["pytorch"]
    assert_trains_as_pytorch(peer, baseline, stacked_disk_job(members))


def test_the_members_of_a_stack_differ_and_are_those_that_it_was_made_of():
    members = stacked_disk_job(2).members()
    for seed, member in enumerate(members):
        for ours, theirs in zip(member.weights, disk_job(seed).weights, strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(member.inputs, disk_job(seed).inputs)
        assert torch.equal(member.targets, disk_job(seed).targets)
    assert not torch.equal(members[0].inputs, members[1].inputs)
    assert not torch.equal(members[0].weights[0], members[1].weights[0])


def _fail(job: Job) -> None:
    raise RuntimeError("no such\ndevice")


def _with_last_weight(change: Callable[[Array], Array], job: Job) -> Trainer:
    trainer = PEERS["numpy"].start(job)
    return trainer._replace(
        weights=lambda: [*trainer.weights()[:-1], change(trainer.weights()[-1])]
    )


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (_fail, "RuntimeError: no such device"),
        (partial(_with_last_weight, lambda bias: bias + 1e-5), "differ from PyTorch's by 1.0e-05"),
        (partial(_with_last_weight, lambda bias: bias * np.nan), "differ from PyTorch's by nan"),
        (partial(_with_last_weight, lambda bias: bias[:0]), "ValueError"),
    ],
    ids=["fails", "wrong", "nan", "missing"],
)
def test_a_wrong_peer_has_no_time(in_this_process, monkeypatch, tmp_path, capsys, start, reason):
    monkeypatch.setitem(PEERS, "jax", Peer("wrong", start))
    arguments = [*NETWORK, "jax", "--output-dir", str(tmp_path), "--json"]
    assert peers.main(arguments) == 1
    printed = json.loads(capsys.readouterr().out)
    assert not printed["verified"]
    assert [row["peer"] for row in printed["table"]] == ["minifw", "numpy", "pytorch", REPEAT]
    (note,) = (note for note in printed["notes"] if note.startswith("Wrong: jax"))
    assert reason in note


def test_a_peer_that_is_not_installed_is_skipped(in_this_process, monkeypatch, tmp_path, capsys):
    absent = Peer("absent", _fail, ("no_such_module", "json"), ("no-such-program",))
    assert absent.missing() == ["no_such_module", "no-such-program"]
    monkeypatch.setitem(PEERS, "jax", absent)
    assert peers.main([*NETWORK, "jax", "--output-dir", str(tmp_path)]) == 0
    assert (
        "Skipped: jax, which needs no_such_module and no-such-program." in capsys.readouterr().out
    )


def test_prints_every_table_and_writes_every_file(in_this_process, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(peers, "WIDTH", 8)
    # They need a process of their own, and have their tests.
    monkeypatch.setattr(peers, "peer_memory", lambda setting, name: len(name) * 2**20)
    monkeypatch.setattr(peers, "import_seconds", lambda: 0.03)
    folder = tmp_path / "new"
    arguments = ["--peers", "minifw", "numpy", "--stacks", "2", "1", "--threads", "1"]
    assert peers.main([*SHORT, *arguments, "--output-dir", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "quiet when not on a terminal"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "peers.svg").read_text().startswith("<svg")
    table = pd.read_csv(folder / "peers.csv")
    of_stack = [name for name in ("minifw", "numpy") if name in STACKED_PEERS]
    assert list(zip(table["setting"], table["members"], table["peer"], strict=True)) == [
        (setting, members, peer)
        for setting, members, own in (
            ("network", 1, ["minifw", "numpy"]),
            ("stack", 2, of_stack),
            ("stack", 1, of_stack),
            ("wide", 1, ["minifw"]),
        )
        for peer in (*own, "pytorch", REPEAT)
    ]
    assert (table[["us", "us_q1", "speed", "speed_low", "cores"]] > 0).all(axis=None)
    assert (table["us_q1"] <= table["us"]).all()
    assert (table["us"] <= table["us_q3"]).all()
    assert (table["speed_low"] <= table["speed"]).all()
    assert (table["speed"] <= table["speed_high"]).all()
    text = (folder / "peers.md").read_text(encoding="utf-8")
    for shown in (
        "network: speed-up over pytorch",
        "noise floor",
        "2-25-25-25-1",
        "width 8",
        "wide: peak memory of minifw / pytorch",
        "on minifw: 6.0 MiB",
        "import: milliseconds of minifw",
        "processes 1, rounds 2",
    ):
        assert shown in printed.out
        assert shown in text


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (["--fail-below", "1e-9"], 0),
        (["--fail-below", "1e9"], 3),
        (["--fail-below-stack", "1e-9"], 3),
        (["--fail-above-import", "1e9"], 3),
    ],
    ids=["met", "not met", "not measured", "neither measured"],
)
def test_a_threshold_that_is_not_met_is_exit_code_3(in_this_process, tmp_path, capsys, limit, code):
    assert peers.main([*NETWORK, *limit, "--output-dir", str(tmp_path)]) == code
    assert ("Not allowed" in capsys.readouterr().out) == (code == 3)


def test_only_the_import_can_be_measured(tmp_path, capsys, monkeypatch):
    milliseconds = iter([30, 31, 32, 33, 34])
    monkeypatch.setattr(peers, "import_seconds", lambda: next(milliseconds) / 1000)
    arguments = ["--parts", "import", "--processes", "1", "--json", "--output-dir", str(tmp_path)]
    assert peers.main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["table"] == []
    (row,) = printed["claims"]
    assert 30 <= row["value_low"] <= row["value"] == 32 <= row["value_high"] <= 34
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"peers.svg"}


def test_the_import_is_timed():
    assert import_seconds() > 0


def test_peak_memory_counts_weights_gradients_and_what_a_step_keeps():
    # Too large for minifw to keep a plan, with all tensors of a step.
    setting = Setting("wide", 1, (), partial(wide_job, 512, 2048, 3), threads=1, epochs=1)
    weights, outputs = 3 * (512 * 512 + 512) * 4, 3 * 2048 * 512 * 4
    for name in ("minifw", "pytorch"):
        peak = in_fresh_process(1, peer_memory, setting, name)
        assert 2 * weights + outputs < peak < 2 * (2 * weights + 2 * outputs)


def test_a_failing_process_says_why():
    with pytest.raises(RuntimeError, match="no such"):
        in_fresh_process(1, _fail, disk_job(0))


def test_a_setting_is_timed_once_a_round(in_this_process):
    setting = Setting("network", 1, ("numpy",), partial(disk_job, 0), threads=1, epochs=1)
    measured = measure(setting, rounds=3)
    assert measured.failures == {}
    assert measured.trials.groupby("peer")["round"].apply(list).to_dict() == {
        name: [0, 1, 2] for name in ("numpy", "pytorch", REPEAT)
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_list_shows_every_peer(capsys, as_json):
    assert peers.main(["--list", *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr().out
    for name in {**PEERS, **STACKED_PEERS}:
        assert name in printed


def test_runs_as_a_script(tmp_path):
    printed = subprocess.run(
        [sys.executable, "bench/peers.py", *NETWORK, "--json", "--output-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed)["verified"]
