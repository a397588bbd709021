"""How long a pass takes, minifw beside PyTorch; timed with --benchmark-enable, else run once.

The network of the disk task, 2-25-25-25-1 with ReLU and MSE, on a batch of 100, on one thread (see
tests/conftest.py). It is verified before it is timed.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Generator

from bench.timing.scaling import DISK, difference
from reference.frameworks import FRAMEWORKS, MINIFW, Framework

SIZES = (2, 25, 25, 25, 1)
BATCH = 100

on_both = pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)


@pytest.fixture(autouse=True, scope="module")
def same_on_both() -> None:
    assert difference(DISK) == ""


@pytest.fixture
def generator() -> Generator:
    return Generator().manual_seed(0)


def network(framework: Framework, generator: Generator) -> Any:
    nn, layers = framework.nn, []
    for in_features, out_features in pairwise(SIZES):
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for parameter in model.parameters():
        parameter.data.uniform_(-0.5, 0.5, generator=generator)
    return model


@on_both
@pytest.mark.benchmark(group="forward pass")
def test_forward(benchmark: BenchmarkFixture, framework: Framework, generator: Generator) -> None:
    model, x = network(framework, generator), torch.rand(BATCH, SIZES[0], generator=generator)
    with framework.no_grad():
        output = benchmark(model, x)
    assert output.shape == (BATCH, SIZES[-1])


@on_both
@pytest.mark.benchmark(group="backward pass")
def test_backward(benchmark: BenchmarkFixture, framework: Framework, generator: Generator) -> None:
    model, x = network(framework, generator), torch.rand(BATCH, SIZES[0], generator=generator)
    grad_output = torch.rand(BATCH, SIZES[-1], generator=generator)

    def before() -> tuple[tuple[Any, ...], dict[str, Any]]:
        model.zero_grad()
        output = model(x)
        return (model if framework is MINIFW else output,), {}

    # What both compute: the parameters' gradients, and no input's.
    options = {"needs_input_grad": False} if framework is MINIFW else {}
    benchmark.pedantic(lambda side: side.backward(grad_output, **options), setup=before, rounds=500)
    assert all(parameter.grad is not None for parameter in model.parameters())


@on_both
@pytest.mark.benchmark(group="training step")
def test_step(benchmark: BenchmarkFixture, framework: Framework, generator: Generator) -> None:
    model, x = network(framework, generator), torch.rand(BATCH, SIZES[0], generator=generator)
    target = torch.rand(BATCH, SIZES[-1], generator=generator)
    optimizer = framework.optim.SGD(model.parameters(), lr=1e-3)
    loss = benchmark(framework.train_step, model, framework.nn.MSELoss(), optimizer, x, target)
    assert loss.isfinite()
