"""Nothing that a subject does decides its verdict."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from minifw.testing import Report, UsageError, verify
from minifw.testing.case import Input
from minifw.testing.comparison import Comparison
from minifw.testing.isolation import LostProcess, Runner, SubjectError
from minifw.testing.remote import Elsewhere, isolated
from minifw.testing.verification import lost_report, verify_comparison

MISBEHAVING = Path(__file__).parent / "misbehaving_subjects.py"
# By subject, what the report has to say; all have a wrong backward pass.
MISBEHAVIOR = {
    "Wrong": ("FAILED", "off by"),
    "Exits": ("ERROR", "SystemExit: 0"),
    "ExitsAtOnce": ("ERROR", "ended with exit code 0; it printed: farewell"),
    "Crashes": ("ERROR", "killed by SIGSEGV"),
    "CrashesWhenMade": ("ERROR", "killed by SIGSEGV"),
    "Hangs": ("ERROR", "no answer within 4 s"),
    "Allocates": ("ERROR", "memory"),
    "Interrupts": ("ERROR", "KeyboardInterrupt"),
    "PrintsAVerdict": ("FAILED", "off by"),
    "WritesToEveryFile": ("ERROR", "no answer"),
    "ClosesEveryFile": ("ERROR", "it closed its channel"),
    "KillsItsParent": ("ERROR", "LostProcess"),
    "PatchesTorch": ("FAILED", ""),
    "PatchesTheJudge": ("FAILED", "off by"),
    "SaysThatItDoesNotApply": ("ERROR", "no need to look"),
    "DeletesFiles": ("FAILED", "off by"),
    "Forks": ("FAILED", "off by"),
    "RaisesSomethingOdd": ("ERROR", "Odd"),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner(timeout=4, memory=1) as runner:
        yield runner


def report_on(name: str, runner: Runner) -> Report:
    comparison = Comparison(
        name, Elsewhere(f"{MISBEHAVING}:{name}"), torch.nn.Tanh, (Input((2, 3)),)
    )
    try:
        comparison = isolated(comparison, runner)
    except SubjectError as error:
        return lost_report(comparison, error)
    return verify_comparison(comparison, contract="formula", dtypes=["float64"], max_examples=0)


@pytest.mark.parametrize("name", MISBEHAVIOR)
def test_a_wrong_subject_that_misbehaves_does_not_pass(
    name: str, runner: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    status, reason = MISBEHAVIOR[name]
    report = report_on(name, runner)
    assert report.status == status, report
    assert reason in str(report)
    assert capfd.readouterr().out == ""


def test_a_right_subject_that_prints_passes(runner: Runner) -> None:
    report = report_on("Right", runner)
    assert report.status == "PASSED", report


def test_what_a_crash_leaves_is_verified_in_a_new_process(runner: Runner) -> None:
    report = report_on("CrashesOnEmpty", runner)
    broken = {clause.name: clause.reason for clause in report.clauses if clause.state == "broken"}
    assert "ended with exit code 3" in broken.pop("empty")
    states = {clause.name: clause.state for clause in report.clauses}
    assert states["derivative"] == states["layouts"] == "kept"
    assert report.status == "PASSED"  # an empty batch does not decide in the contract "formula"


def test_files_of_the_user_are_out_of_reach(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.txt").touch()
    monkeypatch.chdir(tmp_path)
    with Runner(timeout=10) as there:
        report_on("DeletesFiles", there)
    assert (tmp_path / "thesis.txt").exists()


def test_strides_and_shared_memory_cross_the_border(runner: Runner) -> None:
    inputs = torch.randn(3, 4).t(), torch.ones(1).expand(5), torch.arange(6.0)[2:]
    facts = call(runner, _strides_of, inputs)
    assert facts == {"strides": [[1, 4], [0], [1]], "offsets": [0, 0, 2]}
    storage = torch.zeros(4)
    assert call(runner, _share, storage[:2], storage[2:]) == {"share": True}


def call(runner: Runner, function: object, *arguments: object) -> dict[str, object]:
    with Runner(timeout=10) as there:
        return there.call(function, *arguments)[1]


def _strides_of(tensors: tuple[torch.Tensor, ...]) -> tuple[dict[str, torch.Tensor], object]:
    strides = [list(tensor.stride()) for tensor in tensors]
    return {}, {"strides": strides, "offsets": [t.storage_offset() for t in tensors]}


def _share(one: torch.Tensor, other: torch.Tensor) -> tuple[dict[str, torch.Tensor], object]:
    pointers = {tensor.untyped_storage().data_ptr() for tensor in (one, other)}
    return {}, {"share": len(pointers) == 1}


TENSORS = {
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(torch.nan, dtype=torch.float64),
    "half": torch.randn(2, 3).bfloat16(),
    "flags": torch.tensor([True, False]),
    "turned": torch.randn(2, 3).t(),
}


def _tensors() -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    return TENSORS, {}


def test_tensors_come_back_bit_for_bit() -> None:
    from minifw.testing.isolation import _decode, _encode

    back, facts = _decode(_encode(TENSORS, {"n": 1}))
    assert facts == {"n": 1}
    for name, tensor in TENSORS.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name].nan_to_num(), tensor.nan_to_num())


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", bytes(8), bytes(100), b"\xff" * 8, (2).to_bytes(8, "big") + b"{}"]
    + [
        (len(head)).to_bytes(8, "big") + head
        for head in (
            b'{"tensors": [["a", "float32", [2]]], "facts": {}}',
            b'{"tensors": [["a", "save", [0]]], "facts": {}}',
            b'{"tensors": [["a", "float32", [-1]]], "facts": {}}',
            b'{"tensors": [], "facts": []}',
        )
    ],
)
def test_a_forged_answer_is_none(answer: bytes) -> None:
    from minifw.testing.isolation import _decode

    with pytest.raises(Exception):  # noqa: B017, PT011 -- any is an answer that is none
        _decode(answer)


def test_what_is_raised_there_names_its_type(runner: Runner) -> None:
    with Runner(timeout=10) as there, pytest.raises(SubjectError) as raised:
        there.call(int, "x")
    assert raised.value.kind == "ValueError"
    assert not isinstance(raised.value, LostProcess)


def test_verify_isolates_on_request() -> None:
    settings: dict[str, Any] = {
        "max_examples": 0,
        "dtypes": ["float64"],
        "isolate": True,
        "timeout": 10,
    }
    report = verify(f"{MISBEHAVING}:ExitsAtOnce", torch.nn.Tanh, ["2,3"], **settings)
    assert report.status == "ERROR"
    assert "misbehaving_subjects" not in sys.modules
    report = verify(torch.nn.Tanh, torch.nn.Tanh, ["2,3"], **settings)
    assert report.status == "PASSED"
    with pytest.raises(UsageError, match=re.escape("give it as 'FILE:NAME'")):
        verify(lambda: torch.nn.Tanh(), torch.nn.Tanh, ["2,3"], **settings)
    with pytest.raises(UsageError, match=re.escape("cannot import 'nowhere.py'")):
        verify("nowhere.py:Layer", torch.nn.Tanh, ["2,3"], **settings)
