"""Every row of reference/cases.py through the equivalence engine, and the table itself."""

import pytest
import torch

from minifw import nn
from minifw.testing.case import Case
from minifw.testing.catalog import catalog
from minifw.testing.check import check
from minifw.testing.comparison import draw
from minifw.testing.example import Example
from minifw.testing.passes import Pass
from minifw.testing.verdict import failures
from minifw.testing.verify import verify_comparison
from reference.cases import CASES, of_case

FUZZED = 3  # examples a row; bench/verify.py tries more


def rows(cases: list[Case] | tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@rows(CASES)
def test_equals_pytorch(case: Case) -> None:
    report = verify_comparison(of_case(case), max_examples=FUZZED, seed=1, power=False)
    assert report.status == "PASSED", report
    assert {"output"} <= {verdict.tensor for verdict in report.verdicts}


@rows(CASES)
def test_four_witnesses_are_heard_for_every_gradient(case: Case) -> None:
    comparison = of_case(case)
    report = verify_comparison(comparison, dtypes=["float32"], max_examples=0, power=False)
    heard = {testimony.tensor: testimony for testimony in report.testimonies}
    gradients = {
        verdict.tensor
        for verdict in check(comparison, Example(dtype="float32"))
        if verdict.tensor.endswith(".grad")
    }
    assert gradients == heard.keys()
    for testimony in heard.values():
        assert 4 == len([value for value in testimony.values if value is not None]), testimony


@rows([case for case in CASES if case.training is None])
def test_the_mode_makes_no_difference_where_the_row_says_so(case: Case) -> None:
    passes = []
    for other_mode in (False, True):
        example = Example(other_mode=other_mode)
        drawn = draw(of_case(case), example)
        subject = drawn.subject(torch.float64)
        passes.append(Pass(subject, case.inputs, example).run(drawn.inputs_in(torch.float64)))
    trained, evaluated = passes
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)


def test_every_public_module_has_a_row() -> None:
    public = {
        name
        for name in nn.__all__
        if isinstance(vars(nn)[name], type)
        and issubclass(vars(nn)[name], nn.Module)
        and vars(nn)[name] not in (nn.Module, nn.ModuleList)  # which are never called
    }
    assert public == {case.module for case in CASES}


def test_every_row_has_a_name_of_its_own() -> None:
    assert len(CASES) == len({case.name for case in CASES})


EXCEPTIONS = {(case.module, name) for case in CASES for name in case.exceptions}


@pytest.mark.parametrize(("module", "name"), sorted(EXCEPTIONS))
def test_an_exception_has_a_reason_and_is_still_needed(module: str, name: str) -> None:
    excepted = [case for case in CASES if case.module == module and name in case.exceptions]
    assert all(case.exceptions[name] for case in excepted)
    verdicts = [
        verdict
        for case in excepted
        for example in catalog(comparison=of_case(case))[name].examples
        for verdict in check(of_case(case), example)
    ]
    assert failures(verdicts), f"every {module} passes {name!r} now: take the exception out"


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_dropout_masks_are_the_same_in_every_dtype(p: float) -> None:
    # Otherwise PyTorch's float32 error, which the bound is made of, would be a mask's.
    masks = []
    for dtype in (torch.float32, torch.float64):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            masks.append(torch.nn.Dropout(p)(torch.ones(50, dtype=dtype)) == 0)
    assert torch.equal(*masks)
