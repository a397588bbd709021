"""The disk, and batches."""

import math

import pytest
import torch
from torch import Generator

from minifw.data import DISK_RADIUS, batches, disk


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
    centre = (points - 0.5).norm(dim=1) < 0.1
    assert {float(labels[1])} == set(drawn[centre].flatten().tolist())


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


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(10, 5, [5, 5]), (10, 4, [4, 4, 2]), (3, 100, [3]), (1, 1, [1]), (3, 1, [1, 1, 1])],
)
def test_each_sample_comes_once_beside_its_target(
    n: int, batch_size: int, sizes: list[int]
) -> None:
    inputs = torch.arange(n * 2.0).view(n, 2)
    targets = inputs.sum(1, keepdim=True)
    drawn = list(batches((inputs, targets), batch_size, seeded(5)))
    assert sizes == [len(input) for input, _ in drawn]
    assert all(torch.equal(input.sum(1, keepdim=True), target) for input, target in drawn)
    seen = torch.cat([input for input, _ in drawn])
    assert inputs[:, 0].tolist() == sorted(seen[:, 0].tolist())


def test_batches_are_shuffled_anew_and_reproducible() -> None:
    data = torch.arange(30.0), torch.arange(30.0)

    def orders(seed: int) -> list[list[float]]:
        generator = seeded(seed)
        return [torch.cat([x for x, _ in batches(data, 7, generator)]).tolist() for _ in range(2)]

    first, second = orders(6)
    assert data[0].tolist() != first
    assert first != second
    assert [first, second] == orders(6)
    assert [first, second] != orders(7)


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    list(batches(disk(10, generator=seeded(8)), 3, seeded(9)))
    assert torch.equal(before, torch.get_rng_state())
