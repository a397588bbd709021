"""Initializers: what the checks of each row, in test_units.py, leave open."""

from typing import Any

import pytest
import torch
from torch import Generator

from minifw import nn


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    nn.Linear(3, 3, generator=Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


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
