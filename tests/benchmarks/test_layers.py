"""How long each layer and loss takes, forward and back, minifw beside PyTorch.

The first row of each class in the table of cases, on a batch of 100 in float32, so that a new class
needs no further code. Each is verified before it is timed.
"""

from functools import cache
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from minifw.testing.case import Case, seeded
from minifw.testing.check import check
from minifw.testing.comparison import draw
from minifw.testing.example import Example
from minifw.testing.verdict import Status, failures, overall
from reference.cases import CASES, of_case
from reference.frameworks import FRAMEWORKS, MINIFW, Framework

EXAMPLE = Example(dtype="float32", batch=100)
FIRST = {case.module: case for case in reversed(CASES)}

pytestmark = [
    pytest.mark.benchmark(max_time=0.1),
    pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS),
    pytest.mark.parametrize("case", FIRST.values(), ids=FIRST),
]


@cache
def verified(module: str) -> bool:
    """Whether both frameworks compute the same; asked of each class once."""
    verdicts = check(of_case(FIRST[module]), EXAMPLE)
    assert not failures(verdicts), verdicts
    return overall(verdict.status for verdict in verdicts) == Status.PASSED


def made(case: Case, framework: Framework) -> tuple[Any, list[torch.Tensor]]:
    """The module, and inputs of it."""
    drawn = draw(of_case(case), EXAMPLE)
    subject = drawn.subject if framework is MINIFW else drawn.reference
    return subject(torch.float32).made, list(drawn.inputs[0])


def test_forward(benchmark: BenchmarkFixture, case: Case, framework: Framework) -> None:
    assert verified(case.module)
    benchmark.group = f"{case.module}: forward"
    module, inputs = made(case, framework)
    with framework.no_grad(), seeded(0):
        benchmark(module, *inputs)


def test_backward(benchmark: BenchmarkFixture, case: Case, framework: Framework) -> None:
    assert verified(case.module)
    benchmark.group = f"{case.module}: backward"
    module, inputs = made(case, framework)
    with framework.no_grad(), seeded(0):
        grad_output = torch.ones_like(module(*inputs))

    def before() -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call to go back through, with the gradient of all that minifw gives one of."""
        module.zero_grad()
        if framework is MINIFW:
            module(*inputs)
            return (module,), {}
        leaves = [
            value if spec.constant or not value.is_floating_point() else value.requires_grad_()
            for value, spec in zip((i.detach() for i in inputs), case.inputs, strict=True)
        ]
        return (module(*leaves),), {}

    with seeded(0):
        benchmark.pedantic(lambda side: side.backward(grad_output), setup=before, rounds=200)
