"""bench/verify.py and the pytest plugin, as a stranger would use them."""

import json
import shlex
from pathlib import Path

import pytest
import torch

from bench.verify import main

EXAMPLES = Path(__file__).parent.parent / "bench" / "examples"
LINEAR = "--reference torch.nn.Linear --init '5, 3' --input 4,5"
SUBJECTS = {
    "autograd_function.py:Swish": "--reference torch.nn.SiLU --input 4,3",
    "autograd_function.py:Linear": LINEAR,
    "torch_module.py:RMSNorm": "--reference torch.nn.RMSNorm --init '5, eps=1e-3' --input 4,5",
    "minifw_layer.py:Tanhshrink": "--reference torch.nn.Tanhshrink --input 4,3",
    "adapter.py:Linear": LINEAR,
}
# By wrong subject, a tensor that has to be named, and its shape.
WRONG = {
    "autograd_function.py:WrongSwish": ("input.0.grad", (4, 3)),
    "autograd_function.py:WrongLinear": ("weight.grad", (3, 5)),
    "torch_module.py:WrongRMSNorm": ("input.0.grad", (4, 5)),
    "minifw_layer.py:WrongTanhshrink": ("input.0.grad", (4, 3)),
    "adapter.py:WrongLinear": ("bias.grad", (3,)),
}


def arguments(subject: str, *more: str) -> list[str]:
    options = SUBJECTS[subject.replace("Wrong", "")]
    return ["--subject", f"{EXAMPLES}/{subject}", *shlex.split(options), *more]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_right_subject_passes(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(subject, "--max-examples", "20")) == 0
    assert f"PASSED {subject.partition(':')[2]} against" in capsys.readouterr().out


@pytest.mark.parametrize("subject", WRONG)
def test_a_wrong_one_fails_with_tensor_and_entry(
    subject: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(subject, "--max-examples", "5", "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "FAILED"
    tensor, shape = WRONG[subject]
    first = next(failure for failure in report["failures"] if failure["tensor"] == tensor)
    assert torch.empty(shape)[tuple(first["where"])].dim() == 0  # an entry, and no row
    assert first["actual"] != first["expected"]


def test_the_wrong_sign_is_found_by_the_reproducing_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject = "autograd_function.py:WrongSwish"
    assert main(arguments(subject, "--max-examples", "0")) == 1
    printed = capsys.readouterr().out
    line = next(text for text in printed.splitlines() if "--example" in text)
    example = line.partition("--example ")[2].strip("'")
    assert main(arguments(subject, "--example", example)) == 1
    assert "FAILED input.0.grad[" in capsys.readouterr().out


TANH = "--reference torch.nn.Tanh"
USAGE = {
    f"--subject nowhere.py:Layer {TANH} --input 4": "nowhere.py",
    f"--subject torch.nn.Nothing {TANH} --input 4": "torch.nn has no 'Nothing'",
    "--subject torch.nn.Tanh --input 4": "needs a --reference",
    f"{TANH} --input 4": "needs a --reference",
    f"--subject torch.nn.Tanh {TANH} --input 4 --faults": "unrecognized arguments: --faults",
    f"--subject torch.nn.Tanh {TANH}": "expected an --input",
    f"--subject torch.nn.Tanh {TANH} --input 4:double": "expected an input such as",
    f"--subject torch.nn.Tanh {TANH} --input 4 --init 'import os'": "expected arguments such as",
    "--subject torch.nn.Linear --reference torch.nn.Linear --init 5, --input 4,5": (
        "the reference cannot be made"
    ),
    f"--subject {EXAMPLES}/adapter.py:Linear --reference torch.nn.Bilinear --init '5, 3, 2' "
    "--input 4,5 --input 4,3": "the subject cannot be made",
    f"--subject {EXAMPLES}/adapter.py:Linear --reference torch.nn.LayerNorm --init '5, 3' "
    "--input 4,5": "the subject has parameters",
    "--only 'no such case'": "nothing is left",
    "--only Tanh --without luck": "unknown check 'luck'",
    "--only Tanh --example {": "expected an example such as",
    "--dtype float8": "invalid choice",
    "--max-examples -1": "at least 0",
    "--device abacus": "cannot use device",
    "--output-dir /proc/nothing --only Tanh": "/proc/nothing",
}


@pytest.mark.parametrize(("usage", "message"), USAGE.items())
def test_wrong_usage_is_one_line_and_exit_code_2(
    usage: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(usage))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_rows_are_chosen_by_name_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--only", "Tanh()", "--skip", "Sequential", "--max-examples", "2"]
    assert main([*argv, "--output-dir", str(tmp_path), "--markdown"]) == 0
    assert "| Tanh   |" in capsys.readouterr().out
    assert {"verification.csv", "verification.md"} == {path.name for path in tmp_path.iterdir()}
    rows = (tmp_path / "verification.csv").read_text().splitlines()
    assert len(rows) == 3  # a head, and one for each shape


def test_json_is_strict_and_says_what_was_skipped_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["--only", "BatchNorm1d(3)-5x3:real-train", "--max-examples", "0", "--json"]
    assert main(argv) == 0

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    (report,) = printed["reports"]
    skipped = {entry["check"]: entry["reason"] for entry in report["skipped"]}
    assert "overflow" in skipped["largest"]
    assert main(argv[:-1]) == 0
    assert "Not checked of BatchNorm1d: largest; " in capsys.readouterr().out


def test_the_list_names_cases_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "run of relu-mse in float64" in listed["runs"]
    assert len(listed["cases"]) > 200
    assert len(listed["units"]) > 50
    assert {"accumulated", "cross-check", "fuzzing"} <= set(listed["checks"])
