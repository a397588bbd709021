"""Initialisers, bit for bit with torch.nn.init under the same generator."""

from typing import Any

import pytest
import torch
from torch import Generator

from minifw import nn

# A row: name, arguments after the tensor, whether it draws.
INITIALISERS: list[tuple[str, dict[str, Any], bool]] = [
    ("uniform_", {}, True),
    ("uniform_", {"a": -2.5, "b": 0.5}, True),
    ("zeros_", {}, False),
    ("xavier_uniform_", {}, True),
    ("xavier_uniform_", {"gain": 5 / 3}, True),
]
SHAPES = [(25, 2), (1, 25), (4, 4), (6, 3, 5), (2, 3, 4, 5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options", "draws"), INITIALISERS)
def test_bit_for_bit(
    name: str, options: dict[str, Any], draws: bool, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    def seeded() -> dict[str, Any]:
        return options | ({"generator": Generator().manual_seed(3)} if draws else {})

    there = getattr(torch.nn.init, name)(torch.full(shape, torch.nan, dtype=dtype), **seeded())
    tensor = torch.full(shape, torch.nan, dtype=dtype)
    assert tensor is getattr(nn.init, name)(tensor, **seeded())
    assert torch.equal(there, tensor)
    parameter = nn.Parameter(torch.full(shape, torch.nan, dtype=dtype))
    assert parameter is getattr(nn.init, name)(parameter, **seeded())
    assert torch.equal(there, parameter.data)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fans(shape: tuple[int, ...]) -> None:
    tensor = torch.empty(shape)
    expected = torch.nn.init._calculate_fan_in_and_fan_out(tensor)
    assert expected == nn.init.calculate_fan_in_and_fan_out(tensor)
    assert expected == nn.init.calculate_fan_in_and_fan_out(nn.Parameter(tensor))


@pytest.mark.parametrize("dtype", [None, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(2, 25), (25, 1), (1, 1)])
def test_linear_starts_as_torchs(
    sizes: tuple[int, int], bias: bool, dtype: torch.dtype | None
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        there = torch.nn.Linear(*sizes, bias=bias, dtype=dtype)
        torch.manual_seed(4)
        here = nn.Linear(*sizes, bias=bias, dtype=dtype)
    given = nn.Linear(*sizes, bias=bias, dtype=dtype, generator=Generator().manual_seed(4))
    for name, tensor in there.state_dict().items():
        assert torch.equal(tensor, here.state_dict()[name]), name
        assert torch.equal(tensor, given.state_dict()[name]), name


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    nn.Linear(3, 3, generator=Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())
