"""Other checkers of backward passes, put before the same subjects as minifw's.

Each takes a comparison and returns what it objects to, "" if to nothing. They are called as their
users call them, on one input. What is no part of autograd's graph, such as an object in NumPy, is
put into it first, which its author would have to do by hand.
"""

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import minifw
from bench.faults import FAULTS
from bench.faults.kill_matrix import rows
from bench.mistakes import MISTAKES
from bench.variants import VARIANTS
from minifw.testing import Status
from minifw.testing.check import first_line
from minifw.testing.comparison import Comparison, Drawn, draw
from minifw.testing.cross_check import bridged
from minifw.testing.example import DTYPES, Example
from minifw.testing.subjects import Subject
from minifw.testing.subjects.modules import Traced
from minifw.testing.verification import verify_comparison
from reference.cases import CASES, of_case

__all__ = ["CHECKERS", "FAULTY", "RIGHT", "SUBJECTS", "WRONG", "put_before"]

FUZZED = 20  # examples of minifw's fuzzer
OURS = "minifw verify"

Checker = Callable[[Comparison], str]


def _function(drawn: Drawn) -> tuple[Callable[..., Any], list[Tensor]]:
    """The subject as a function in autograd's graph, and what it is differentiated by."""
    subject = drawn.subject(torch.float64)
    if not isinstance(subject, Traced):
        return bridged(drawn)
    specs = drawn.comparison.inputs
    inputs = [
        value.clone().requires_grad_(value.is_floating_point() and not spec.constant)
        for value, spec in zip(drawn.inputs_in(torch.float64)[0], specs, strict=True)
    ]
    parameters = list(subject.trained().values())
    return lambda *tensors: subject.call(*tensors[: len(inputs)]), [*inputs, *parameters]


def _tensors(subject: Subject, inputs: Sequence[Any], cotangents: Any) -> Iterator[Tensor | None]:
    """Outputs, and gradients of inputs and parameters."""
    subject.zero_gradients()
    outputs = subject.forward(*inputs)
    grads = subject.backward(*map(cotangents, outputs))
    yield from outputs
    yield from (*grads, *[None] * (len(inputs) - len(grads)))
    yield from subject.gradients().values()


def _ones(output: Tensor) -> Tensor:
    """What .sum() sends."""
    return output.new_ones(()).expand(output.shape)


def _normal(output: Tensor) -> Tensor:
    """What (output * g).sum() sends."""
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)


def _compared(
    comparison: Comparison,
    dtype: str,
    cotangents: Callable[[Tensor], Tensor],
    rtol: float = 1e-5,
    atol: float = 1e-8,
) -> str:
    """Whether outputs and gradients are close to the reference's, as torch.allclose judges."""
    drawn = draw(comparison, Example(dtype=dtype))
    sides = drawn.subject(DTYPES[dtype]), drawn.reference(DTYPES[dtype])
    ours, theirs = (
        list(_tensors(side, drawn.inputs_in(DTYPES[dtype])[0], cotangents)) for side in sides
    )
    for place, (mine, yours) in enumerate(zip(ours, theirs, strict=False)):
        if yours is None:
            continue
        mine = torch.zeros_like(yours) if mine is None else mine
        if not torch.allclose(mine.to(yours).reshape(yours.shape), yours, rtol, atol):
            return f"tensor {place} differs"
    return ""


def _gradcheck(comparison: Comparison, fast: bool) -> str:
    """torch.autograd.gradcheck, and the values compared besides."""
    function, tensors = _function(draw(comparison, Example()))
    torch.autograd.gradcheck(function, tensors, fast_mode=fast)
    return _compared(comparison, "float64", _normal)


def _minifw(comparison: Comparison, **settings: Any) -> str:
    try:
        report = verify_comparison(comparison, max_examples=FUZZED, power=False, **settings)
    except Exception as error:
        return first_line(error)
    return "" if report.status == Status.PASSED else str(report.headline)


def _safely(checker: Checker) -> Checker:
    """An error that the subject raises, or the checker, is an objection."""

    def check(comparison: Comparison) -> str:
        try:
            return checker(comparison)
        except Exception as error:
            return first_line(error)

    return check


_ALL: dict[str, Checker] = {
    OURS: _minifw,
    "gradcheck": functools.partial(_gradcheck, fast=False),
    "gradcheck, fast mode": functools.partial(_gradcheck, fast=True),
    "allclose": lambda c: _compared(c, "float32", _normal),
    "allclose after .sum()": lambda c: _compared(c, "float32", _ones),
    "allclose to 1e-2": lambda c: _compared(c, "float32", _normal, rtol=1e-2, atol=1e-2),
}
CHECKERS = {name: _safely(checker) for name, checker in _ALL.items()}

FAULTY, WRONG, RIGHT = "faults in minifw", "wrong subjects", "right variants"
# Faults in optimizers, schedules and loops have no row in the table of layers and losses.
LAYER_FAULTS = [place for place, fault in enumerate(FAULTS) if fault.where.startswith("nn.")
                and rows(fault.where.removeprefix("nn."))]  # fmt: skip
SUBJECTS = [
    *((FAULTY, place) for place in LAYER_FAULTS),
    *((WRONG, place) for place in range(len(MISTAKES))),
    *((RIGHT, place) for place in range(len(VARIANTS))),
]


def put_before(suite: str, place: int) -> list[dict[str, Any]]:
    """Put one subject before every checker, in a worker process: a row a checker."""
    torch.set_num_threads(1)
    found = []
    for name in CHECKERS:
        start = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):
            subject, objection = _objection(name, suite, place)
        seconds = time.perf_counter() - start
        found.append(
            {
                "suite": suite,
                "subject": subject,
                "checker": name,
                "objects": bool(objection),
                "objection": objection,
                "seconds": seconds,
            }
        )
    return found


def _objection(checker: str, suite: str, place: int) -> tuple[str, str]:
    """The subject's name, and what the checker objects to."""
    if suite != FAULTY:
        subject = (MISTAKES if suite == WRONG else VARIANTS)[place]
        comparison = subject.comparison()
        if checker == OURS:  # under the contract that its author gives
            return subject.name, _minifw(comparison, contract=subject.contract, allow=subject.allow)
        return subject.name, CHECKERS[checker](comparison)
    fault = FAULTS[place]
    nn = fault.framework().nn
    for case in rows(fault.where.removeprefix("nn.")):
        objection = CHECKERS[checker](of_case(case, nn))
        # What it says of the right layer too, it does not say of the fault.
        if objection and not _of_right(checker, case.name):
            return fault.name, objection
    return fault.name, ""


@functools.cache
def _of_right(checker: str, case_name: str) -> str:
    (case,) = (case for case in CASES if case.name == case_name)
    return CHECKERS[checker](of_case(case, minifw.nn))
