"""What fails for want of a disk, a reader or a worker: exit code 4 and one line."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import compare, history
from bench.cli.files import write_files
from minifw.testing import command_line

ROOT = Path(__file__).parents[1]
SHORT = ("--recipes", "relu-mse", "--seeds", "1", "--epochs", "1", "--rounds", "1", "--jobs", "1")
COMMANDS = {
    "compare": ["bench/compare.py", "--list"],
    "verify": ["bench/verify.py", "--list"],
    "minifw": ["-m", "minifw", "verify", "--list"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("output", ["closed pipe", "closed", "full disk"])
def test_an_output_that_cannot_be_written_is_one_line_and_exit_code_4(command, output):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe, Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            stdout={"closed pipe": pipe, "full disk": full}.get(output),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=(lambda: os.close(1)) if output == "closed" else None,
        )
    assert ended.returncode == 4, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "MemoryError"),
        (ValueError("a mistake"), "Traceback"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_does_not_exit_as_a_difference_does(error, said, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(compare, "_run", fail)
    assert compare.main([*SHORT, "--output-dir", str(tmp_path)]) == 4
    printed = capsys.readouterr().err
    assert said in printed
    assert "failed: " in printed.splitlines()[-1]
    assert (len(printed.splitlines()) == 1) == (said != "Traceback")


def test_a_full_disk_in_the_middle_of_a_sweep_is_one_line(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ended = subprocess.run(
        [sys.executable, "bench/compare.py", *SHORT, "--output-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert ended.returncode == 4, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


def children(pid):
    return psutil.Process(pid).children(recursive=True)


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "bench/compare.py", *arguments, "--jobs", "2", "--output-dir", folder],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def with_workers(process):
    """Wait until the command has workers, and return all its children."""
    while process.poll() is None:
        found = children(process.pid)
        if len(found := [c for c in found if "popen_loky" in " ".join(c.cmdline())]) >= 2:
            return found
        time.sleep(0.05)
    raise AssertionError("no workers")


LONG = ("--recipes", "relu-mse", "--seeds", "50", "--rounds", "1")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.0, 4.0], ids=["starting", "training"])
def test_workers_end_when_the_command_is_killed(sent, after, tmp_path):
    with start(tmp_path, *LONG) as process:
        found = with_workers(process)
        time.sleep(after)
        found = {*found, *children(process.pid)}
        process.send_signal(sent)
    _, alive = psutil.wait_procs(found, timeout=5)
    for child in alive:
        child.kill()
    assert alive == []


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_exit_code_4(tmp_path):
    with start(tmp_path, *LONG) as process:
        found = with_workers(process)
        time.sleep(4)
        found[0].kill()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 4, printed
    assert len(printed.splitlines()) == 1, printed


def test_a_folder_that_a_killed_command_left_is_removed_by_the_next(tmp_path):
    left = tmp_path / ".partial-x"
    left.mkdir()
    (left / "table.csv").touch()

    def write(path):  # while one writes, another must not remove its folder
        write_files(tmp_path, {"inner": "text"})
        path.touch()

    write_files(tmp_path, {"outer": write})
    assert {"inner", "outer"} == {path.name for path in tmp_path.iterdir()}


def test_all_commands_document_the_code():
    assert "4  the machine failed" in command_line.EXAMPLES
    assert "4  the machine failed" in history.EPILOG
