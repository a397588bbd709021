"""How long an update takes, minifw beside PyTorch: every row of the table of optimizers.

The parameters are those of the network of the disk task. Each is verified before it is timed.
"""

from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.equivalence.optimizers import make, parameters, run_steps
from bench.timing.scaling import DISK
from reference.frameworks import FRAMEWORKS, PYTORCH, Framework
from reference.optim_cases import OPTIMIZERS


def name_of(optimizer: str, options: dict[str, Any]) -> str:
    return f"{optimizer}({', '.join(f'{name}={value}' for name, value in options.items())})"


@pytest.mark.benchmark(max_time=0.1)
@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
@pytest.mark.parametrize(
    ("optimizer", "options"), OPTIMIZERS, ids=[name_of(*row) for row in OPTIMIZERS]
)
def test_update(
    benchmark: BenchmarkFixture, optimizer: str, options: dict[str, Any], framework: Framework
) -> None:
    ours, theirs = (
        run_steps(make(side, optimizer, params, options), params, range(5))
        for side in (framework, PYTORCH)
        for params in [parameters(side)]
    )
    assert torch.equal(ours, theirs)

    benchmark.group = f"update: {name_of(optimizer, options)}"
    model = DISK.job().model(framework.nn)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    benchmark(make(framework, optimizer, model.parameters(), options).step)
