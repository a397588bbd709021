"""Every row of reference/cases.py through the equivalence engine, and the table itself."""

import pytest
import torch

from bench.faults.kill_matrix import rows as representative_rows
from minifw import nn
from minifw.testing.case import Case
from minifw.testing.catalog import catalog
from minifw.testing.check import check
from minifw.testing.comparison import draw
from minifw.testing.example import Example
from minifw.testing.passes import Pass
from minifw.testing.verdict import failures
from minifw.testing.verification import CHECK_NAMES, verify_comparison
from reference.cases import CASES, of_case

FUZZED = 3  # examples a row

MODULES = sorted({case.module for case in CASES})
FIRST = {next(case.name for case in CASES if case.module == module) for module in MODULES}
# Those on which faults are tried: each option, rank and mode of a module once.
REPRESENTATIVE = {case.name for module in MODULES for case in representative_rows(module)}
# One check of each kind, for the rows that differ from a representative one in numbers alone.
QUICK = {
    *("values-float64", "values-float32", "values-float16", "transposed", "empty-batch"),
    *("one-sample", "nan", "ties", "frozen", "two-forwards", "other-mode", "fuzzing"),
    "cross-check",
}


def left_to_the_benchmark(case: Case) -> list[str]:
    """The checks of a row that bench/verify.py makes, as all others, and the tests do not."""
    if case.name in FIRST:
        return []
    if case.name in REPRESENTATIVE:
        return ["sizes"]
    return [name for name in CHECK_NAMES if name not in QUICK]


def cases(chosen: list[Case] | tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


@cases(CASES)
def test_a_row_equals_pytorch_by_every_check_and_by_four_estimates(case: Case) -> None:
    skip = left_to_the_benchmark(case)
    report = verify_comparison(of_case(case), skip=skip, max_examples=FUZZED, seed=1, power=False)
    assert report.status == "PASSED", report
    tensors = {verdict.tensor for verdict in report.verdicts if verdict.check == "values-float64"}
    assert "output" in tensors
    estimates = {testimony.tensor: testimony for testimony in report.testimonies}
    assert estimates.keys() == {tensor for tensor in tensors if tensor.endswith(".grad")}
    for estimate in estimates.values():
        assert 4 == len([value for value in estimate.values if value is not None]), estimate


@cases([case for case in CASES if case.training is None])
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
