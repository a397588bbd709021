"""The command ``minifw``, as somebody who has installed it would use it."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import bench.verify
from minifw.testing.command_line import main

EXAMPLES = Path(__file__).parent.parent / "bench" / "examples"
SWISH = f"{EXAMPLES}/autograd_function.py:Swish torch.nn.SiLU --input 4,3"
WRONG = SWISH.replace("Swish", "WrongSwish")
SHORT = "--dtype float64 --max-examples 0 --no-isolate"

# By arguments of ``minifw verify``, what the one line has to name.
USAGE = {
    "": "expected a subject and a reference",
    "torch.nn.Tanh": "expected a subject and a reference",
    "torch.nn.Tanh torch.nn.Tanh": "expected an --input",
    "nowhere.py:Layer torch.nn.Tanh --input 4": "nowhere.py",
    "torch.nn.Tanh torch.nn.Tahn --input 4": "did you mean",
    "torch.nn.Tanh torch.nn.Tanh --input 4:double": "expected an input such as",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --init 'import os'": "expected arguments such as",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --call 'import os'": "expected arguments such as",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --example {": "expected an example such as",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --dtype flaot64": "did you mean 'float64'",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --skip transpose": "did you mean 'transposed'",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --require layout": "did you mean 'layouts'",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --contract tensor": "contract 'tensor'",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --device meta": "cannot use device 'meta'",
    "torch.nn.Tanh torch.nn.Tanh --input 1000000,1000000": "GiB of memory",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --timeout 0": "above 0",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --output-dir /proc/nothing": "/proc/nothing",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --csv /proc/nothing/a.csv": "--csv",
    "torch.nn.Tanh torch.nn.Tanh --input 4 --faults": "unrecognized arguments: --faults",
}


@pytest.mark.parametrize(("usage", "message"), USAGE.items())
def test_wrong_usage_is_one_line_and_exit_code_2(
    usage: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["verify", *shlex.split(usage), "--no-isolate"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_verdict_comes_first_and_fits_into_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", *shlex.split(f"{WRONG} {SHORT}")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAILED WrongSwish against torch.nn.SiLU: the derivative is wrong")
    # What is to be copied stays in one line.
    assert all(len(line) <= 80 for line in lines[1:] if "minifw verify" not in line)
    assert any(line.split()[:3] == ["input.0.grad", "float64", "FAILED"] for line in lines)
    assert any(line.split()[:3] == ["derivative", "broken", "yes"] for line in lines)
    assert "\x1b" not in "".join(lines)


def test_the_printed_line_reproduces_the_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *shlex.split(f"{WRONG} {SHORT}")]) == 1
    line = next(text for text in capsys.readouterr().out.splitlines() if "--example" in text)
    assert main(shlex.split(line)[1:]) == 1
    assert "FAILED input.0.grad[" in capsys.readouterr().out


def test_json_csv_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"--csv {tmp_path}/rows.csv --output-dir {tmp_path}"
    assert main(["verify", *shlex.split(f"{SWISH} {SHORT} --json {files}")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "PASSED"
    names = {"rows.csv", "verification.csv", "verification.json", "verification.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"output", "input.0.grad"} <= {row["tensor"] for row in rows}
    assert json.loads((tmp_path / "verification.json").read_text()) == report


def test_markdown_and_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *shlex.split(f"{SWISH} {SHORT} --markdown --verbose")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("**PASSED Swish")
    assert "| tensor | dtype | status | error | allowed | relative | ULP |" in out


def test_clauses_and_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"derivative", "layouts"} <= set(listed["clauses"])
    assert listed["checks"]["transposed"] == "layouts"


def test_bench_verify_calls_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(f"{WRONG} {SHORT}")
    assert main(["verify", *arguments]) == 1
    printed = capsys.readouterr().out
    subject, reference, *others = arguments
    assert bench.verify.main(["--subject", subject, "--reference", reference, *others]) == 1
    assert capsys.readouterr().out == printed


def test_help_and_version_need_neither_torch_nor_the_extra() -> None:
    code = (
        "import sys, minifw.testing.command_line as c\n"
        "try: c.main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'rich', 'hypothesis'} & set(sys.modules)"
    )
    for arguments, expected in {
        ("--version",): "torch 2",
        ("--help",): "verify",
        ("verify", "--help"): "exit codes:",
    }.items():
        command = [sys.executable, "-c", code, *arguments]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert expected in printed


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["verify", *shlex.split(SWISH)])
    assert stop.value.code == 2
    assert "pip install 'minifw[testing]'" in capsys.readouterr().err


def test_the_subject_is_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = Path(__file__).parent / "misbehaving_subjects.py"
    command = [sys.executable, "-m", "minifw", "verify", f"{path}:ExitsAtOnce", "torch.nn.Tanh"]
    command += ["--input", "2,3", "--dtype", "float64", "--max-examples", "0", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == ""
    report = json.loads(ended.stdout)
    assert report["status"] == "ERROR"
    assert "ended with exit code 0; it printed: farewell" in report["failures"][0]["reason"]
