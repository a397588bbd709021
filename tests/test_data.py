"""The disk, batches and folds, and encodings."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator

from minifw.data import DISK_RADIUS, ball_radius, batches, disk, k_fold, normalize, one_hot


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def test_the_disk_has_half_of_the_unit_square() -> None:
    assert math.isclose(0.5, math.pi * DISK_RADIUS**2)
    points, labels = disk(20_000, generator=seeded(0))
    assert ((20_000, 2), (20_000, 1)) == (points.shape, labels.shape)
    assert (torch.float32, torch.float32) == (points.dtype, labels.dtype)
    assert 0 <= points.min() < 0.001
    assert 0.999 < points.max() < 1
    # Four standard deviations of a share of 20,000.
    assert abs(labels.mean().item() - 0.5) < 4 * 0.5 / math.sqrt(20_000)
    inside = (points.double() - 0.5).norm(dim=1) < DISK_RADIUS
    assert (inside == (labels[:, 0] == 1)).double().mean() > 0.9999  # but for rounding at the rim


@pytest.mark.parametrize(("labels", "values"), [((-1.0, 1.0), {-1.0, 1.0}), ((1, 0), {0.0, 1.0})])
def test_labels(labels: tuple[float, float], values: set[float]) -> None:
    points, drawn = disk(100, labels, seeded(1))
    assert values == set(drawn.flatten().tolist())
    center = (points - 0.5).norm(dim=1) < 0.1
    assert {float(labels[1])} == set(drawn[center].flatten().tolist())


def test_a_seed_gives_the_same_disk() -> None:
    same = zip(disk(50, generator=seeded(2)), disk(50, generator=seeded(2)), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(disk(50, generator=seeded(2))[0], disk(50, generator=seeded(3))[0])
    assert [(0, 2), (0, 1)] == [tuple(tensor.shape) for tensor in disk(0)]


def test_the_disk_follows_the_default_dtype() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        points, labels = disk(5, generator=seeded(4))
    finally:
        torch.set_default_dtype(before)
    assert (torch.float64, torch.float64) == (points.dtype, labels.dtype)


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    list(batches(disk(10, generator=seeded(8)), 3, seeded(9)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("dimensions", "volume"), [(1, 2.0), (2, math.pi), (3, 4 / 3 * math.pi)])
def test_a_ball_that_fits_has_half_of_the_volume(dimensions: int, volume: float) -> None:
    radius = ball_radius(dimensions)
    assert 0.5 == pytest.approx(volume * radius**dimensions, rel=1e-12)
    assert radius <= 0.5


@pytest.mark.parametrize(
    ("classes", "num_classes"),
    [([0, 1, 2], 2), ([-1, 0], -1), ([-1, 0], 3), ([0.0, 1.0], 2), ([], -1), ([True], 2)],
)
def test_one_hot_refuses_what_torch_refuses(classes: list[Any], num_classes: int) -> None:
    tensor = torch.tensor(classes, dtype=None if classes else torch.int64)
    for function in (torch.nn.functional.one_hot, one_hot):
        with pytest.raises(RuntimeError):
            function(tensor, num_classes)


PAIR = torch.zeros(4, 2), torch.zeros(4, 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: disk(-1), "at least 0, got -1"),
        (lambda: disk(1, dimensions=0), "at least 1, got 0"),
        (lambda: disk(1, "class"), "'classes', got 'class'"),
        (lambda: disk(1, (0.0, 1.0, 2.0)), "two labels"),
        (lambda: list(k_fold(PAIR, 1)), "from 2 to the number of samples, 4, got 1"),
        (lambda: list(k_fold(PAIR, 5)), "from 2 to the number of samples, 4, got 5"),
        (lambda: list(k_fold((PAIR[0], PAIR[1][:3]), 2)), r"as inputs \(4\), got 3"),
        (lambda: normalize(torch.zeros(0, 2)), "at least one training sample"),
        (lambda: normalize(*PAIR), r"shape \[2\], as the training part, got \[1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(function: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function()
