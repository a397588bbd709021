"""Merging: fewer calls give the same, whatever the order and the overlap of what they write."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minifw.plans import merging
from minifw.plans.merging import merge
from minifw.plans.recording import Recorder

ROWS, COLUMNS = 4, 3


def run(program, inputs):
    """All tensors that a program makes: 0 and 1 are given, 2 to 5 made of them, then its own."""
    made, sums = [*inputs, *(torch.tanh(one) for one in inputs * 2)], []
    for name, i, j in program:
        here, there = made[i % len(made)], made[j % len(made)]
        if name == "mul":
            made.append(here * there)
        elif name == "sub":
            made.append(here - there)
        elif name == "tanh":
            made.append(torch.tanh(here))
        elif name == "mul_":
            here.mul_(there.clone())
        elif name == "view":
            made.append(here.reshape(-1).view(ROWS, COLUMNS))
        elif name == "turned":
            made.append(here.reshape(COLUMNS, ROWS).t())
        elif name == "halves":
            made += torch.cat([here, there]).split(ROWS)
        elif name == "sum":
            sums.append(here.sum(-2))
        elif name == "sum of part":
            sums.append(here[2:].sum(-2))
        elif name == "broadcast" and sums:
            made.append(here * sums[j % len(sums)])
    return made + sums


def record(program, inputs):
    """The results, their calls, and what these become when they are merged."""
    recorder = Recorder(2**24)
    recorder.give(inputs)
    with recorder:
        results = run(program, inputs)
    calls = recorder.calls
    return results, calls, merge(calls, recorder.given, results)


def draw(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(ROWS, COLUMNS, generator=generator) for _ in range(2)]


OTHERS = ["sub", "tanh", "mul_", "view", "turned", "halves", "sum of part", "broadcast"]
INDICES = st.integers(0, 7)
STEPS = st.tuples(st.sampled_from(["mul"] * 8 + ["sum"] * 4 + OTHERS), INDICES, INDICES)


@given(st.lists(STEPS, min_size=4, max_size=16))
def test_what_any_program_makes_is_the_same(program):
    with torch.inference_mode():
        inputs = draw(0)
        results, calls, merged = record(program, inputs)
        assert len(merged) <= len(calls)
        for seed in (1, 2):
            torch._foreach_copy_(inputs, draw(seed))
            for call in merged:
                call.again()
            assert all(map(torch.equal, results, run(program, draw(seed))))


MADE = ["tanh"] * 4


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ([("mul", 2, 2), ("mul", 3, 3)], ["mul"]),
        ([("mul", 2, 3), ("sub", 2, 3), ("mul", 4, 5)], ["mul", "sub"]),
        ([("mul", 2, 0), ("mul", 3, 0)], ["mul"]),  # what is the same for both stays as it is
        ([("sum", 2, 0), ("sum", 3, 0)], ["sum"]),
        ([("sum", 2, 0), ("sum", 3, 0), ("mul", 2, 2), ("mul", 3, 3)], ["sum", "mul"]),
        ([("sum", 2, 0), ("sum", 3, 0), ("mul", 3, 3), ("mul", 2, 2)], ["sum", "mul", "mul"]),
        ([("mul", 2, 2), ("sum", 6, 0), ("mul", 3, 3), ("sum", 7, 0)], ["mul", "sum"]),
        ([("mul", 0, 0), ("mul", 1, 1)], ["mul", "mul"]),  # what is given stays where it is
        (
            [("mul_", 0, 2), ("mul_", 1, 3), ("mul", 0, 0), ("mul", 1, 1)],
            ["clone", "mul_", "clone", "mul_", "mul", "mul"],
        ),
        (
            [("sum", 2, 0), ("sum", 3, 0), ("broadcast", 2, 0), ("broadcast", 3, 1)],
            ["sum", "mul", "mul"],
        ),
        (
            [("mul", 2, 2), ("mul", 3, 3), ("sum of part", 6, 0), ("sum of part", 7, 0)],
            ["mul", "sum", "sum"],
        ),
        ([("mul", 2, 2), ("mul", 6, 6)], ["mul", "mul"]),  # one needs the other
        ([("mul", 2, 2), ("mul", 2, 2)], ["mul", "mul"]),  # nothing to lay side by side
        ([("mul", 2, 4), ("mul", 4, 2)], ["mul", "mul"]),  # they cannot be in both orders
        ([("turned", 2, 0), ("turned", 3, 0), ("mul", 6, 6), ("mul", 7, 7)], ["mul", "mul"]),
        ([("halves", 2, 3), ("mul", 6, 6), ("mul", 7, 7)], ["cat", "mul", "mul"]),
        # In between changes what the first took, but not what the second takes: with the first.
        ([("mul", 2, 2), ("mul_", 2, 0), ("mul", 3, 3)], ["mul", "clone", "mul_"]),
        # What the second takes is changed before it: with the second.
        ([("mul", 2, 2), ("mul_", 3, 0), ("mul", 3, 3)], ["clone", "mul_", "mul"]),
        # Both: neither.
        (
            [("mul", 2, 2), ("mul_", 2, 0), ("mul_", 3, 0), ("mul", 3, 3)],
            ["mul", "clone", "mul_", "clone", "mul_", "mul"],
        ),
        # What the first makes is needed before the second can be made: neither.
        ([("mul", 2, 2), ("mul_", 3, 6), ("mul", 3, 3)], ["mul", "clone", "mul_", "mul"]),
    ],
)
def test_what_is_merged(program, expected):
    with torch.inference_mode():
        _, _, merged = record(program, draw(0))
    assert [call.function.__name__ for call in merged] == MADE + expected


def test_what_is_large_is_not_laid_side_by_side(monkeypatch):
    size = 2 * ROWS * COLUMNS * 4
    for largest, expected in ((size, 1), (size - 1, 2)):
        monkeypatch.setattr(merging, "LARGEST", largest)
        with torch.inference_mode():
            _, _, merged = record([("mul", 2, 2), ("mul", 3, 3)], draw(0))
        assert len(merged) == len(MADE) + expected


def test_no_more_than_so_many_are_made_as_one(monkeypatch):
    for most, expected in ((4, 1), (3, 2), (2, 2), (1, 4)):
        monkeypatch.setattr(merging, "MOST", most)
        with torch.inference_mode():
            _, _, merged = record([("mul", index, index) for index in range(2, 6)], draw(0))
        assert len(merged) == len(MADE) + expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (100, 25), (129, 70), (1000, 9)])
def test_sums_of_rows_side_by_side_are_those_of_each_bit_for_bit(rows, columns, dtype):
    parts = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    together = parts.sum(-2)
    for part, of_part in zip(parts, together, strict=True):
        assert torch.equal(part.clone().sum(-2), of_part)
