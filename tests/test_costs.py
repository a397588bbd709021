"""What a subject costs: sizes, trials, the verdict on what was timed, and the command line."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from minifw.testing import TimingPlan, UsageError, verify
from minifw.testing.case import Input
from minifw.testing.command_line import main
from minifw.testing.comparison import Comparison, draw
from minifw.testing.example import Example
from minifw.testing.timing import trial
from minifw.testing.timing.measure import time_comparison
from minifw.testing.timing.memory import peak_memory
from minifw.testing.timing.trial import CudaClock, memory_of, run_trial

LINEAR = Comparison("Linear", nn.Linear, nn.Linear, (Input((4, 3)),), (3, 5))
QUICK = TimingPlan(rounds=2)
COSTS = "bench/examples/costs.py"


class Ticking:
    """A clock that goes on by one second a look."""

    def __init__(self) -> None:
        self.mark = itertools.count().__next__
        self.settled = 0

    def settle(self) -> None:
        self.settled += 1

    def seconds(self, first: int, last: int) -> float:
        return float(last - first)


def test_sizes_are_the_given_ones_and_those_asked_for():
    sizes = TimingPlan(inputs=["64,1024"], sweep="batch=1,16").sizes(LINEAR)
    assert list(sizes) == ["4,3", "64,1024", "batch 1", "batch 16"]
    assert LINEAR.resized(sizes["64,1024"]).arguments == (1024, 5)
    assert LINEAR.resized(sizes["batch 16"]).inputs[0].shape == (16, 3)
    [_, by_size] = TimingPlan(sweep="3=7").sizes(LINEAR).values()
    assert LINEAR.resized(by_size).inputs[0].shape == (4, 7)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (TimingPlan(sweep="batch=0"), "expected a sweep such as 'batch=1,16,256', got 'batch=0'"),
        (TimingPlan(sweep="samples=3"), "expected a sweep"),
        (TimingPlan(inputs=["4"]), "as many dimensions"),
        (TimingPlan(inputs=["4,3", "4,3"]), "for each of the shapes"),
        (TimingPlan(inputs=["0,3,x"]), "got '0,3,x'"),
    ],
)
def test_sizes_that_cannot_be_timed_are_refused_before_anything_runs(plan, message):
    with pytest.raises(UsageError, match=message):
        verify(nn.Linear, nn.Linear, ["4,3"], (3, 5), time=plan)


def test_equal_sizes_that_would_become_others_are_refused():
    square = replace(LINEAR, inputs=(Input((3, 3)),))
    with pytest.raises(UsageError, match="give inputs of sizes that differ"):
        TimingPlan(inputs=["64,1024"]).sizes(square)


def test_a_trial_times_the_parts_of_a_step_and_hands_over_what_the_last_one_made():
    drawn, clock = draw(LINEAR, Example(dtype="float32", seed=3)), Ticking()
    measured = run_trial(drawn.subject(torch.float32), drawn, drawn, clock)
    assert measured.seconds == {"forward": 1, "backward": 1, "both": 2}
    assert set(measured.named) == {"output", "input.0.grad", "weight.grad", "bias.grad"}
    assert clock.settled == trial.WARM_UP + 2, "one step fills the time, one is verified"
    # Gradients of one step, not of all of them.
    again = run_trial(drawn.subject(torch.float32), drawn, drawn, Ticking())
    assert torch.equal(measured.named["weight.grad"], again.named["weight.grad"])


class Lazy(nn.Module):
    """Right for the first calls, and then what it gave before: as fast as can be."""

    kept: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = input.detach().clone()
        return input * 2 + (self.kept - input).detach()


class Double(nn.Module):
    """Twice the input, with the value of Lazy at its first call."""

    def forward(self, input: Tensor) -> Tensor:
        return input * 2


def test_what_was_timed_is_judged_too():
    lazy = Comparison("Lazy", Lazy, Double, (Input((4, 3)),))
    timing = time_comparison(lazy, QUICK)
    assert [verdict.tensor for verdict in timing.wrong] == ["output"]
    assert "output" in timing.conditions
    right = time_comparison(replace(lazy, subject=Double), QUICK)
    assert not right.wrong
    assert "verified on the tensors that were timed" in right.conditions


def test_only_what_has_passed_is_timed():
    report = verify(nn.Tanh, nn.Sigmoid, ["4,3"], max_examples=0, time=QUICK)
    assert report.status == "FAILED"
    assert report.timing is None


@pytest.mark.parametrize(
    ("subject", "reference", "inputs", "options"),
    [
        ("bench/examples/numpy_layer.py:Dense", nn.Linear, ["4,5"],
         {"arguments": (3,), "reference_arguments": (5, 3)}),
        ("bench/examples/loss_object.py:MSE", nn.MSELoss, ["4,3", "4,3"], {}),
        ("bench/examples/minifw_layer.py:Tanhshrink", nn.Tanhshrink, ["4,3"], {}),
        ("bench/examples/function_pair.py:affine", nn.Linear, ["4,5"],
         {"reference_arguments": (5, 3)}),
        (f"{COSTS}:cross_entropy", nn.CrossEntropyLoss, ["4,10", "4:long:10"], {}),
    ],
)  # fmt: skip
def test_every_kind_of_subject_can_be_timed(subject, reference, inputs, options):
    report = verify(subject, reference, inputs, **options, skip=["layouts", "sizes", "life"],
                    max_examples=0, time=QUICK)  # fmt: skip
    assert report.status == "PASSED", report
    assert report.timing is not None
    assert set(report.timing.table["part"]) == {"forward", "backward", "both"}
    assert (report.timing.table["subject"] > 0).all()


def test_peaks_are_those_of_each_part_and_count_what_was_kept():
    kept = []
    forward, backward = peak_memory(
        lambda: kept.append(torch.zeros(1000)), lambda: torch.ones(3000).sum()
    )
    assert 4000 <= forward < 5000
    assert 16000 <= backward < 17000


def test_the_memory_of_a_step_is_what_it_allocates():
    drawn = draw(Comparison("T", nn.Tanh, nn.Tanh, (Input((1000,)),)), Example(dtype="float32"))
    sizes = memory_of(drawn.subject(torch.float32), drawn)
    assert sizes["forward"] == 4000
    assert sizes["both"] == sizes["backward"] == 8000


class Event:
    """In place of CUDA's."""

    log: tuple[str, ...] = ()

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.log += ("record",)

    def synchronize(self) -> None:
        Event.log += ("wait",)

    def elapsed_time(self, other: "Event") -> float:
        assert Event.log[-1] == "wait", "an event that has not ended has no time"
        return 2.0  # milliseconds


def test_on_cuda_events_are_read_after_they_ended_and_the_cache_is_cold(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    empty = torch.empty
    written: list[Tensor] = []

    def on_cpu(size: int, device: str, **options: Any) -> Tensor:
        assert device == "cuda"
        written.append(empty(min(size, 16), **options))
        written[-1].fill_(1)
        return written[-1]

    monkeypatch.setattr(torch, "empty", on_cpu)
    clock = CudaClock()
    monkeypatch.setattr(torch, "empty", empty)
    drawn = draw(LINEAR, Example(dtype="float32"))
    measured = run_trial(drawn.subject(torch.float32), drawn, drawn, clock)
    assert measured.seconds == {"forward": 0.002, "backward": 0.002, "both": 0.002}
    assert not written[0].any()


def test_command_line(tmp_path, capsys):
    line = ["verify", f"{COSTS}:SmallSwish", "torch.nn.SiLU", "--input", "4,3", "--quick"]
    slow = main([*line, "--time", "--sweep", "batch=1,2", "--fail-below", "1e9", "--json",
                 "--output-dir", str(tmp_path)])  # fmt: skip
    out, err = capsys.readouterr()
    assert slow == 3, "slower than allowed"
    assert "slower than 1e+09: 4,3: 0." in err
    assert {row["size"] for row in json.loads(out)["timing"]} == {"4,3", "batch 1", "batch 2"}
    assert len(pd.read_csv(tmp_path / "timing.csv")) == 9
    assert (tmp_path / "timing.png").stat().st_size > 1000


@pytest.mark.parametrize("given", [["--sweep", "batch=1"], ["--fail-below", "1"]])
def test_what_is_said_of_a_timing_that_is_not_asked_for_is_refused(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify", f"{COSTS}:SmallSwish", "torch.nn.SiLU", "--input", "4,3", *given])
    assert ended.value.code == 2
    assert f"{given[0]} says what to time: give --time too" in capsys.readouterr().err


def test_an_optimizer_is_not_timed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify", "a.py:A", "torch.optim.SGD", "--time"])
    assert ended.value.code == 2
    assert "not for optimizers" in capsys.readouterr().err
