"""Initializers against torch.nn.init, bit for bit under the same generator."""

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Generator

from bench.equivalence.unit import Unit, call, compare, holds
from minifw.testing.case import seeded
from minifw.testing.verdict import Verdict
from reference.init_cases import INITIALIZERS, SHAPES

__all__ = ["UNITS"]


def _draws(
    framework: ModuleType, name: str, options: dict[str, Any], draws: bool
) -> Iterator[Verdict]:
    """A tensor and a parameter are filled in place and returned; only the generator is used."""

    def given() -> dict[str, Any]:
        return options | ({"generator": Generator().manual_seed(3)} if draws else {})

    ours = getattr(framework.nn.init, name)
    before = torch.get_rng_state()
    for dtype in (torch.float32, torch.float64):
        for shape in SHAPES:
            there = torch.full(shape, torch.nan, dtype=dtype)
            getattr(torch.nn.init, name)(there, **given())
            tensor = torch.full(shape, torch.nan, dtype=dtype)
            same = ours(tensor, **given()) is tensor
            yield compare("values", tensor, there)
            parameter = framework.nn.Parameter(torch.full(shape, torch.nan, dtype=dtype))
            same &= ours(parameter, **given()) is parameter
            yield compare("values", parameter.data, there)
            yield holds("values", same, "what is returned is not what was given")
    untouched = torch.equal(before, torch.get_rng_state())
    yield holds("global generator", untouched, "it was drawn from, although another was given")


def _fans(framework: ModuleType) -> Iterator[Verdict]:
    for shape in SHAPES:
        tensor = torch.empty(shape)
        expected = torch.nn.init._calculate_fan_in_and_fan_out(tensor)
        for given in (tensor, framework.nn.Parameter(tensor)):
            yield compare("fans", framework.nn.init.calculate_fan_in_and_fan_out(given), expected)


_GAINS: tuple[tuple[Any, ...], ...] = (
    *(("linear",), ("conv2d",), ("sigmoid",), ("tanh",), ("relu",), ("selu",), ("leaky_relu",)),
    *(("leaky_relu", 0.3), ("leaky_relu", 1), ("relu", 0.3)),
)


def _gains(framework: ModuleType) -> Iterator[Verdict]:
    actual = [framework.nn.init.calculate_gain(*arguments) for arguments in _GAINS]
    yield compare("gains", actual, [torch.nn.init.calculate_gain(*given) for given in _GAINS])


def _linear(framework: ModuleType) -> Iterator[Verdict]:
    """Linear draws torch's initial weights, from the global generator or a given one."""
    # Equivalent formulas of the bound round differently for some sizes.
    for size in (*range(1, 65), 100, 784):
        for options in ({}, {"bias": False}, {"dtype": torch.float64}):
            with seeded(4):
                there = torch.nn.Linear(size, 3, **options)
            with seeded(4):
                here = framework.nn.Linear(size, 3, **options)
            given = framework.nn.Linear(size, 3, **options, generator=Generator().manual_seed(4))
            for name, tensor in there.state_dict().items():
                yield compare(name, here.state_dict()[name], tensor)
                yield compare(name, given.state_dict()[name], tensor)


UNITS = (
    *(
        Unit(
            call(name, options),
            (f"nn.init.{name}",),
            {"draws": functools.partial(_draws, name=name, options=options, draws=draws)},
        )
        for name, options, draws in INITIALIZERS
    ),
    Unit(
        "calculate_fan_in_and_fan_out", ("nn.init.calculate_fan_in_and_fan_out",), {"fans": _fans}
    ),
    Unit("calculate_gain", ("nn.init.calculate_gain",), {"gains": _gains}),
    Unit("first weights of Linear", ("nn.Linear",), {"first weights": _linear}),
)
