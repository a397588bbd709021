"""The catalog of wrong subjects: each is wrong, in the clause that it names."""

import io

import pandas as pd
import pytest
import torch
from rich.console import Console

from bench.catalog.verdicts import verify_all
from bench.mistakes import MISTAKES, Mistake
from bench.mistakes.wrong_subjects import describe_subjects, missed, new_misses
from minifw.testing.clause import CLAUSES

# One of each family and clause; `bench/verify.py --faults` tries all.
FIRST = {(row.family, row.clause): row for row in reversed(MISTAKES) if not row.missed}
# Inputs on which those are wrong that the harness misses, as it does not try such inputs.
WRONG_AT = {
    "GeluInFloat32": (torch.linspace(-1, 1, 8, dtype=torch.float64),),
    "RMSNormSquaresInHalf": (torch.full((1, 4), 300.0, dtype=torch.float16),),
    "MeanOverflows": (torch.full((1, 4096), 30.0, dtype=torch.float16),),
    "SoftmaxInHalf": (torch.linspace(-1, 0, 4096, dtype=torch.bfloat16),),
    "BinaryCrossEntropyClamped": (torch.ones(1), torch.zeros(1)),
    "NormOfZeros": (torch.zeros(1, 3),),
}


def broken(row: Mistake) -> list[str]:
    # What is modified or shared is seen in the checks of other clauses.
    clauses = None if row.clause == "side-effects" else [row.clause]
    report = row.verify(clauses=clauses, max_examples=0)
    return [c.name for c in report.clauses if c.decides and c.state == "broken"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", FIRST.values(), ids=lambda row: f"{row.family}: {row.name}")
def test_it_breaks_its_clause(row: Mistake) -> None:
    assert row.clause in broken(row)


@pytest.mark.parametrize("row", [row for row in MISTAKES if row.missed], ids=lambda row: row.name)
def test_what_is_missed_is_wrong(row: Mistake) -> None:
    inputs = WRONG_AT[row.subject.__name__]
    results = []
    reference = row.reference() if row.reference is torch.nn.GELU else row.reference
    for function in (row.subject.apply, reference):
        x = inputs[0].clone().requires_grad_()
        y = function(x, *inputs[1:])
        y.backward(torch.linspace(0, 1, y.numel(), dtype=y.dtype).reshape(y.shape) + 1)
        results.append((y.detach(), x.grad))
    mine, theirs = (torch.cat([tensor.reshape(-1) for tensor in pair]) for pair in results)
    share = 1e-9 if mine.dtype == torch.float64 else 0.1  # which rounding stays well below
    assert not torch.allclose(mine, theirs, rtol=share, atol=share / 1000)


def test_names_are_unique_sentences() -> None:
    names = [row.name for row in MISTAKES]
    assert all(name and "\n" not in name and not name.endswith(".") for name in names)
    assert len({*names}) == len(names)


def test_clauses_are_those_of_the_contract() -> None:
    assert {row.clause for row in MISTAKES} <= {*CLAUSES}


def test_a_row_for_each_says_what_is_broken() -> None:
    rows = [row for row in MISTAKES if row.family == "formulas"][:2]
    table = verify_all(rows, 1, Console(file=io.StringIO()), "mistake")
    assert list(table["mistake"]) == [row.name for row in rows]
    assert list(table["status"]) == ["FAILED", "FAILED"]
    assert list(table["broken"]) == ["derivative", "derivative"]


def test_what_passed_is_named_whether_known_or_not() -> None:
    table = pd.DataFrame(
        {
            "mistake": ["found", "a hole", "a new hole"],
            "status": ["FAILED", "PASSED", "PASSED"],
            "by its clause": ["yes", "no", "no"],
            "known miss": ["", "the reason", ""],
        }
    )
    assert list(missed(table)["mistake"]) == ["a hole", "a new hole"]
    assert new_misses(table) == ["a new hole"]
    assert describe_subjects(table) == (
        "1 of 3 wrong subjects found, 1 of them by the clause that they break; "
        "missed: a hole; a new hole."
    )
