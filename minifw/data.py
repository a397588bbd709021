"""The disk data set, and batches."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

__all__ = ["DISK_RADIUS", "batches", "disk"]

DISK_RADIUS = 1 / math.sqrt(2 * math.pi)  # area 1/2


def disk(
    n: int,
    labels: tuple[float, float] = (0.0, 1.0),
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Points uniform in the unit square, labelled by whether they lie in the disk.

    The disk has centre (0.5, 0.5) and radius 1 / sqrt(2 pi), so that half of the points lie in it.

    Args:
        n: number of points.
        labels: label outside, label inside. Default: (0, 1).
        generator: source of the points. Default: torch's global generator.

    Returns:
        Points of shape (n, 2) and labels of shape (n, 1), in torch's default dtype.

    Raises:
        ValueError: n is negative.

    Source: reports 000 to 004.
    """
    if n < 0:
        raise ValueError(f"expected a number of points of at least 0, got {n}")
    points = torch.rand(n, 2, generator=generator)
    inside = (points - 0.5).square().sum(1, keepdim=True) < DISK_RADIUS**2
    outside_label, inside_label = labels
    return points, torch.where(inside, inside_label, outside_label)


def batches(
    data: tuple[Tensor, Tensor], batch_size: int, generator: Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Split inputs and targets into shuffled batches; every sample comes once.

    Args:
        data: inputs and targets, of the same length.
        batch_size: samples a batch; the last batch may be shorter.
        generator: source of the order. Default: torch's global generator.

    Raises:
        ValueError: the lengths differ, there are no samples, or batch_size is below 1.
    """
    inputs, targets = data
    if len(inputs) != len(targets):
        raise ValueError(f"expected as many targets as inputs ({len(inputs)}), got {len(targets)}")
    if not len(inputs):
        raise ValueError("expected at least one sample, got an empty data set")
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
    order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    yield from zip(
        torch.split(inputs[order], batch_size),
        torch.split(targets[order], batch_size),
        strict=True,
    )
