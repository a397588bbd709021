"""The disk, batches and folds, and encodings."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator

from minifw.data import DISK_RADIUS, ball_radius, batches, disk, k_fold, normalise, one_hot


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


def test_the_disk_is_drawn_as_it_always_was() -> None:
    points, labels = disk(1000, generator=seeded(10))
    expected = torch.rand(1000, 2, generator=seeded(10))
    inside = (expected - 0.5).square().sum(1, keepdim=True) < 1 / (2 * math.pi)
    assert torch.equal(expected, points)
    assert torch.equal(inside.float(), labels)
    assert 1 / math.sqrt(2 * math.pi) == DISK_RADIUS


@pytest.mark.parametrize(("dimensions", "volume"), [(1, 2.0), (2, math.pi), (3, 4 / 3 * math.pi)])
def test_a_ball_that_fits_has_half_of_the_volume(dimensions: int, volume: float) -> None:
    radius = ball_radius(dimensions)
    assert 0.5 == pytest.approx(volume * radius**dimensions, rel=1e-12)
    assert radius <= 0.5


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 8, 30, 200])
def test_half_of_the_points_are_inside_in_any_number_of_dimensions(dimensions: int) -> None:
    n = 2**22 // dimensions
    points, labels = disk(n, generator=seeded(11), dimensions=dimensions)
    assert ((n, dimensions), (n, 1)) == (points.shape, labels.shape)
    # Four standard deviations, and what the docstring says of four and five dimensions.
    documented = {4: 0.0025, 5: 0.001}.get(dimensions, 0.0006 if dimensions > 5 else 0.0)
    assert abs(labels.mean().item() - 0.5) < documented + 4 * 0.5 / math.sqrt(n)


def test_labels_are_of_the_default_dtype_or_classes() -> None:
    points, labels = disk(100, (-1, 1), seeded(12))
    assert (torch.float32, {-1.0, 1.0}) == (labels.dtype, set(labels.flatten().tolist()))
    same, classes = disk(100, "classes", seeded(12))
    assert torch.equal(points, same)
    assert (torch.int64, (100,)) == (classes.dtype, classes.shape)
    assert torch.equal(labels[:, 0] > 0, classes == 1)


@pytest.mark.parametrize("num_classes", [-1, 3, 7])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (), (1, 1, 4)])
def test_one_hot_is_torchs_as_a_float(shape: tuple[int, ...], num_classes: int) -> None:
    classes = torch.randint(0, 3, shape, generator=seeded(13))
    expected = torch.nn.functional.one_hot(classes, num_classes).float()
    assert torch.equal(expected, one_hot(classes, num_classes))
    assert torch.float32 == one_hot(classes, num_classes).dtype


@pytest.mark.parametrize(
    ("classes", "num_classes"),
    [([0, 1, 2], 2), ([-1, 0], -1), ([-1, 0], 3), ([0.0, 1.0], 2), ([], -1), ([True], 2)],
)
def test_one_hot_refuses_what_torch_refuses(classes: list[Any], num_classes: int) -> None:
    tensor = torch.tensor(classes, dtype=None if classes else torch.int64)
    for function in (torch.nn.functional.one_hot, one_hot):
        with pytest.raises(RuntimeError):
            function(tensor, num_classes)


def test_normalising_uses_the_statistics_of_the_training_part_alone() -> None:
    scale, shift = torch.tensor([1.0, 100.0, 1e-3]), torch.tensor([0.0, -5.0, 7.0])
    train, *parts = (
        torch.randn(n, 3, generator=seeded(n)).double() * scale + shift for n in (200, 30, 1)
    )
    train_out, *parts_out = normalise(train, *parts)
    zeros, ones = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(train_out.mean(0), zeros, rtol=0, atol=1e-9)
    torch.testing.assert_close(train_out.std(0, correction=0), ones, rtol=1e-9, atol=0)
    for part, out in zip(parts, parts_out, strict=True):
        expected = (part - train.mean(0)) / train.std(0, correction=0)
        torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
        assert torch.equal(normalise(train, part * 2)[0], train_out)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-30])
def test_a_constant_feature_is_moved_and_not_scaled(value: float) -> None:
    # 1,000 times 0.1 has a mean that is not 0.1, and so a small deviation.
    train = torch.stack([torch.full((1000,), value), torch.arange(1000.0)], 1)
    train_out, test_out = normalise(train, torch.tensor([[value + 3, 0.0]]))
    assert train_out[:, 0].abs().max() <= 1e-6 * abs(value)
    assert test_out[0, 0].item() == pytest.approx(3, abs=1e-6 * abs(value) + 1e-6)
    assert [0.0] == normalise(torch.tensor([[7.0]]))[0].flatten().tolist()


@pytest.mark.parametrize(("n", "k"), [(10, 2), (10, 3), (10, 10), (7, 5), (2, 2)])
def test_each_sample_is_in_one_validation_fold(n: int, k: int) -> None:
    inputs = torch.arange(n * 2.0).view(n, 2)
    data = inputs, inputs.sum(1, keepdim=True)
    folds = list(k_fold(data, k, seeded(14)))
    assert k == len(folds)
    for train, validation in folds:
        for part_inputs, part_targets in (train, validation):
            assert torch.equal(part_inputs.sum(1, keepdim=True), part_targets)
        both = torch.cat([train[0], validation[0]])
        assert inputs[:, 0].tolist() == sorted(both[:, 0].tolist())
        assert len(validation[0]) in (n // k, -(-n // k))
    seen = torch.cat([validation[0] for _, validation in folds])
    assert inputs[:, 0].tolist() == sorted(seen[:, 0].tolist())


def test_folds_follow_their_generator() -> None:
    data = torch.arange(20.0), torch.arange(20.0)

    def orders(seed: int) -> list[list[float]]:
        return [validation[0].tolist() for _, validation in k_fold(data, 4, seeded(seed))]

    assert orders(1) == orders(1) != orders(2)
    assert orders(1)[0] != [0.0, 1.0, 2.0, 3.0, 4.0]


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
        (lambda: normalise(torch.zeros(0, 2)), "at least one training sample"),
        (lambda: normalise(*PAIR), r"shape \[2\], as the training part, got \[1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(function: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function()
