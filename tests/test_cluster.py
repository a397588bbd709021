"""The sweep on a Dask cluster: the table of one process, whatever becomes of the workers."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from bench import compare
from bench.runs import cluster
from bench.runs.store import FILE, RunStore

ROOT = Path(__file__).parents[1]
SHORT = [
    *("--recipes", "relu-mse", "softmax-custom", "--seeds", "6", "--epochs", "40"),
    *("--rounds", "2", "--jobs", "1"),
]


@contextmanager
def dask(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, arguments), "--no-dashboard"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler(folder):
    """A scheduler on loopback; gives its address."""
    file = folder / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file):
        while not file.exists() or not file.read_text():
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"]


def worker(address, folder):
    return dask("worker", address, "--nthreads", 1, "--no-nanny", "--local-directory", folder)


def main(*arguments):
    """The command line in a process of its own: a client of dask leaves threads behind."""
    return subprocess.Popen(
        [sys.executable, "bench/compare.py", *SHORT, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.cluster
def test_a_cluster_that_loses_a_worker_gives_the_table_of_one_process(tmp_path, capsys):
    alone, folder = tmp_path / "alone", tmp_path / "cluster"
    with ExitStack() as running:
        address = running.enter_context(scheduler(tmp_path))
        workers = [running.enter_context(worker(address, tmp_path)) for _ in range(2)]
        run = running.enter_context(main("--scheduler", address, "--output-dir", folder))
        kept = 0
        while run.poll() is None and not kept:
            time.sleep(0.05)
            if (folder / FILE).exists():
                with RunStore(folder / FILE) as history:
                    kept = len(history.table("runs"))
        workers[0].kill()
        assert workers[0].wait() != 0
        out, err = run.communicate()
    assert run.returncode == 0, err
    assert 0 < kept < 24, "it was killed in the middle"
    assert "seeds" in out

    compare.main([*SHORT, "--output-dir", str(alone)])
    here, there = (pd.read_csv(path / "accuracy.csv") for path in (folder, alone))
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    curves = "learning_curves.csv"
    assert (folder / curves).read_bytes() == (alone / curves).read_bytes()


@pytest.mark.cluster
def test_a_cluster_without_workers_is_one_line(tmp_path):
    with (
        scheduler(tmp_path) as address,
        main("--scheduler", address, "--output-dir", tmp_path) as run,
    ):
        out, err = run.communicate()
    assert (run.returncode, out, len(err.splitlines())) == (2, "", 1)
    assert f"dask worker {address}" in err


@pytest.mark.cluster
def test_an_address_where_nobody_answers_is_one_line(tmp_path):
    with main("--scheduler", "tcp://127.0.0.1:1", "--output-dir", tmp_path) as run:
        out, err = run.communicate()
    assert (run.returncode, out, len(err.splitlines())) == (2, "", 1)
    assert "'tcp://127.0.0.1:1'" in err


def test_without_dask_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SystemExit) as stop:
        compare.main([*SHORT, "--scheduler", "127.0.0.1:1", "--output-dir", str(tmp_path)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert ".[dask]" in message


@pytest.mark.parametrize("name", ["torch", "numpy", "sources"])
def test_a_worker_of_other_sources_or_versions_is_refused(name):
    part = cluster.Part("relu-mse", "pytorch", (0,))
    cluster._check(cluster.Trained(part, [], cluster.environment() | {"processor": "another"}))
    other = cluster.environment() | {name: "another"}
    with pytest.raises(cluster.ClusterError, match=f"{name} another"):
        cluster._check(cluster.Trained(part, [], other))
