"""Optimisers and schedules against torch.optim, step by step."""

from typing import Any

import pytest
import torch
from torch import Generator

from minifw import nn, optim

STEPS = 50

# A row: what makes the optimiser and, or None, its schedule, in either framework's namespace.
RUNS: dict[str, tuple[Any, Any]] = {
    "SGD": (lambda optim, params: optim.SGD(params, lr=0.05), None),
    "SGD default": (lambda optim, params: optim.SGD(params), None),
    "SGD lr=0": (lambda optim, params: optim.SGD(params, lr=0.0), None),
    "SGD, LambdaLR": (
        lambda optim, params: optim.SGD(params, lr=0.05),
        lambda optim, optimizer: optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.9**i),
    ),
    "SGD, LambdaLR from a warm-up": (
        lambda optim, params: optim.SGD(params, lr=0.05),
        lambda optim, optimizer: optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i / 10)),
    ),
    "SGD, milestones": (
        lambda optim, params: optim.SGD(params, lr=0.1),
        lambda optim, optimizer: optim.lr_scheduler.LambdaLR(
            optimizer, lambda i: 0.1 ** ((i >= 20) + (i >= 40))
        ),
    ),
}


def parameters(framework: Any) -> list[Any]:
    generator = Generator().manual_seed(0)
    return [
        framework.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in ((3, 2), (3,), (0, 4))
    ]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_weights_and_rates_equal_torchs_at_every_step(run: Any) -> None:
    make, make_schedule = run
    theirs, ours = parameters(torch.nn), parameters(nn)
    sides = [(torch.optim, theirs), (optim, ours)]
    optimizers = [make(namespace, params) for namespace, params in sides]
    schedules = [
        make_schedule and make_schedule(namespace, optimizer)
        for (namespace, _), optimizer in zip(sides, optimizers, strict=True)
    ]
    generator = Generator().manual_seed(1)
    for step in range(STEPS):
        grads = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in ours]
        # Now and then a parameter has no gradient, and stays as it is.
        grads[step % 3] = None if step % 5 == 0 else grads[step % 3]
        for (_, params), optimizer in zip(sides, optimizers, strict=True):
            optimizer.zero_grad()
            assert all(parameter.grad is None for parameter in params)
            for parameter, grad in zip(params, grads, strict=True):
                parameter.grad = grad
            optimizer.step()
        for index, (there, here) in enumerate(zip(theirs, ours, strict=True)):
            assert torch.equal(there.data, here.data), f"parameter {index} at {step=}"
        for schedule in filter(None, schedules):
            schedule.step()
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        assert rates[0] == rates[1], f"lr at {step=}"


@pytest.mark.parametrize("framework", [nn, torch.nn], ids=["minifw", "torch"])
def test_zero_grad_to_zeros(framework: Any) -> None:
    params = parameters(framework)
    params[0].grad = torch.ones(3, 2, dtype=torch.float64)
    optimizer = (optim if framework is nn else torch.optim).SGD(params, lr=0.1)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(torch.zeros(3, 2, dtype=torch.float64), params[0].grad)
    assert params[1].grad is None


def test_a_step_changes_the_parameter_in_place_and_not_its_gradient() -> None:
    parameter = nn.Parameter(torch.ones(2))
    held, grad = parameter.data, torch.full((2,), 2.0)
    parameter.grad = grad
    optim.SGD([parameter], lr=0.25).step()
    assert held is parameter.data
    assert [0.5, 0.5] == held.tolist()
    assert [2.0, 2.0] == grad.tolist()


def test_optimisers_take_an_iterator_once() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    assert [layer.weight, layer.bias] == optimizer.param_groups[0]["params"]
    assert 0.1 == optimizer.param_groups[0]["lr"]
