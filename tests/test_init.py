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
    ("normal_", {}, True),
    ("normal_", {"mean": -2.5, "std": 0.5}, True),
    ("zeros_", {}, False),
    ("ones_", {}, False),
    ("constant_", {"val": 0.3}, False),
    *(
        (f"xavier_{name}_", options, True)
        for name in ("uniform", "normal")
        for options in ({}, {"gain": 5 / 3})
    ),
    *(
        (f"kaiming_{name}_", options, True)
        for name in ("uniform", "normal")
        for options in (
            {},
            {"nonlinearity": "relu", "mode": "fan_out"},
            {"nonlinearity": "tanh"},
            {"a": 0.2, "mode": "FAN_IN"},
            {"a": 5**0.5},
        )
    ),
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
def test_linear_starts_as_torchs(bias: bool, dtype: torch.dtype | None) -> None:
    # Ways to the same bound round differently for some sizes and not for others.
    for size in (*range(1, 65), 100, 784):
        options = {"bias": bias, "dtype": dtype}
        with torch.random.fork_rng():
            torch.manual_seed(4)
            there = torch.nn.Linear(size, 3, **options)
            torch.manual_seed(4)
            here = nn.Linear(size, 3, **options)
        given = nn.Linear(size, 3, **options, generator=Generator().manual_seed(4))
        for name, tensor in there.state_dict().items():
            assert torch.equal(tensor, here.state_dict()[name]), f"{name}, {size=}"
            assert torch.equal(tensor, given.state_dict()[name]), f"{name}, {size=}"


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    nn.Linear(3, 3, generator=Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "arguments",
    [
        *(["linear"], ["conv2d"], ["sigmoid"], ["tanh"], ["relu"], ["selu"], ["leaky_relu"]),
        *(["leaky_relu", 0.3], ["leaky_relu", 1], ["relu", 0.3]),
    ],
    ids=str,
)
def test_gains(arguments: list[Any]) -> None:
    assert torch.nn.init.calculate_gain(*arguments) == nn.init.calculate_gain(*arguments)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("xavier_normal_", (3,), {}),
        ("kaiming_normal_", (3,), {}),
        ("kaiming_uniform_", (3, 2), {"mode": "fan_mean"}),
        ("kaiming_uniform_", (3, 2), {"nonlinearity": "gelu"}),
        ("kaiming_uniform_", (3, 2), {"a": "steep"}),
        ("kaiming_uniform_", (3, 2), {"a": True}),
    ],
)
def test_errors_are_torchs(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    for init in (torch.nn.init, nn.init):
        with pytest.raises(ValueError):  # noqa: PT011 -- of two frameworks
            getattr(init, name)(torch.ones(shape), **options)


def test_empty_tensors_are_left_with_torchs_warning() -> None:
    for init in (torch.nn.init, nn.init):
        for name in ("kaiming_uniform_", "kaiming_normal_"):
            with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
                getattr(init, name)(torch.ones(0, 3))
