"""Checks of optimizers against torch.optim: every row of OPTIMIZERS."""

import copy
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

from bench.equivalence.unit import Unit, call, compare, holds
from minifw.testing.verdict import Status, Verdict
from reference.frameworks import PYTORCH
from reference.optim_cases import OPTIMIZERS

__all__ = ["STEPS", "UNITS", "make", "parameters", "run_steps"]

STEPS = 60


def parameters(framework: Any, dtype: torch.dtype = torch.float64) -> list[Any]:
    """The same four parameters in each framework; the last of them never has a gradient."""
    generator = Generator().manual_seed(0)
    shapes = [(5, 4), (5,), (), (2, 3)]
    return [
        framework.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
        for shape in shapes
    ]


def run_steps(optimizer: Any, params: list[Any], steps: range) -> Tensor:
    """Make steps with gradients that depend on the weights; return all weights, a row a step."""
    seen = []
    for step in steps:
        optimizer.zero_grad()
        for index, parameter in enumerate(params[:3]):
            # The second has no gradient in some steps.
            if index != 1 or (step > 2 and step % 5):
                data = parameter.data
                parameter.grad = torch.cos(3 * data + step) * (index + 1) + 0.1 * data
        optimizer.step()
        seen.append(torch.cat([parameter.data.flatten() for parameter in params]).clone())
    return torch.stack(seen)


def make(framework: Any, name: str, params: Any, options: dict[str, Any]) -> Any:
    """The optimizer of that name."""
    return getattr(framework.optim, name)(params, **options)


def _run(framework: Any, name: str, options: dict[str, Any], dtype: torch.dtype) -> Tensor:
    params = parameters(framework, dtype)
    return run_steps(make(framework, name, params, options), params, range(STEPS))


def _steps(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """Weights equal PyTorch's bit for bit, in both dtypes."""
    for dtype in (torch.float64, torch.float32):
        expected = _run(PYTORCH, name, options, dtype)
        if torch.equal(expected[0], expected[-1]):
            yield Verdict("weights", Status.MISTRUSTED, "no step has changed anything")
        yield compare("weights", _run(framework, name, options, dtype), expected)


def _second_run(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """A second run is not influenced by the first."""
    first, second = (_run(framework, name, options, torch.float64) for _ in range(2))
    yield compare("weights", second, first)


def _groups(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """Groups have their own settings, may be added later and be changed."""
    runs, settings = [], []
    for side in (PYTORCH, framework):
        params = parameters(side)
        groups = [{"params": params[:1], "lr": 0.2}, {"params": iter(params[1:2])}]
        optimizer = make(side, name, groups, {"weight_decay": 0.1, **options, "lr": 0.01})
        before = run_steps(optimizer, params, range(5))
        optimizer.add_param_group({"params": params[2], "weight_decay": 0.5})
        optimizer.param_groups[1]["lr"] = 0.05
        runs.append(torch.cat([before, run_steps(optimizer, params, range(5, STEPS))]))
        settings.append([[g["lr"], g["weight_decay"]] for g in optimizer.param_groups])
    yield compare("weights", runs[1], runs[0])
    yield compare("settings", settings[1], settings[0])


def _state_dict(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """A state_dict resumes in the other framework, and in the same."""
    # Two torch optimizers may share the tensors of a state_dict, so each gets a copy.
    for saved, loaded in ((PYTORCH, framework), (framework, PYTORCH), (framework, framework)):
        params = parameters(saved)
        optimizer = make(saved, name, params, options)
        run_steps(optimizer, params, range(7))
        state_dict = copy.deepcopy(optimizer.state_dict())
        there = parameters(loaded)
        for parameter, source in zip(there, params, strict=True):
            parameter.data.copy_(source.data)
        # Made with other settings, which the state_dict must replace.
        successor = make(loaded, name, there, {"lr": 0.7})
        successor.load_state_dict(state_dict)
        expected = run_steps(optimizer, params, range(7, STEPS))
        yield compare("weights", run_steps(successor, there, range(7, STEPS)), expected)


def _gradients(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """A step does not change gradients; zero_grad removes them."""
    params = parameters(framework)
    grads = [torch.ones_like(parameter.data) for parameter in params[:3]]
    for parameter, grad in zip(params, grads, strict=False):
        parameter.grad = grad
    optimizer = make(framework, name, params, options)
    optimizer.step()
    optimizer.step()
    for parameter, grad in zip(params, grads, strict=False):
        yield compare("gradients", grad, torch.ones_like(grad))
        yield holds("gradients", parameter.grad is grad, "a step has replaced a gradient")
    optimizer.zero_grad(set_to_none=False)
    yield compare("zeroed gradients", params[0].grad, torch.zeros_like(grads[0]))
    yield holds("zeroed gradients", params[3].grad is None, "a gradient where there was none")
    optimizer.zero_grad()
    left = any(parameter.grad is not None for parameter in params)
    yield holds("zeroed gradients", not left, "zero_grad leaves a gradient")


def _frozen(framework: ModuleType, name: str, options: dict[str, Any]) -> Iterator[Verdict]:
    """A frozen parameter does not change; the others do."""
    # torch would change it by momentum and weight decay, because its gradient is not None.
    params = parameters(framework)
    optimizer = make(framework, name, params, options)
    run_steps(optimizer, params, range(3))
    params[0].requires_grad_(False)
    frozen, trained = params[0].data.clone(), params[2].data.clone()
    optimizer.step()
    yield compare("frozen weights", params[0].data, frozen)
    moved = not torch.equal(params[2].data, trained)
    yield holds("weights", moved, "the others are frozen too")


_CHECKS = {
    "60 steps": _steps,
    "second run": _second_run,
    "parameter groups": _groups,
    "state_dict": _state_dict,
    "gradients left alone": _gradients,
    "frozen parameters": _frozen,
}

UNITS = tuple(
    Unit(
        call(name, options),
        (f"optim.{name}",),
        {
            check: functools.partial(function, name=name, options=options)
            for check, function in _CHECKS.items()
        },
    )
    for name, options in OPTIMIZERS
)
