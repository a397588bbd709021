"""The disk data set, batches, folds, and the encoding of inputs and targets."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Generator, Tensor

__all__ = ["DISK_RADIUS", "ball_radius", "batches", "disk", "k_fold", "normalize", "one_hot"]

Data = tuple[Tensor, Tensor]  # inputs and targets


def ball_radius(dimensions: int) -> float:
    """Radius of the ball about the center of the unit cube that holds half of the cube.

    In up to three dimensions the ball has volume 1/2. In four and more, that ball does not fit into
    the cube. The radius is then sqrt(dimensions / 12 - 1 / 126), an approximation of the median
    distance of a point from the center: 50.2 % of the points are inside in four dimensions, 50.1 %
    in five, and closer to 50 % in more.

    Raises:
        ValueError: dimensions is below 1.
    """
    if dimensions < 1:
        raise ValueError(f"expected a number of dimensions of at least 1, got {dimensions}")
    half = dimensions / 2
    if dimensions <= 3:
        return float((math.gamma(half + 1) / (2 * math.pi**half)) ** (1 / dimensions))
    # Mean minus skewness: the squared distance has mean d / 12 and cumulants d / 180, d / 3780.
    return math.sqrt(dimensions / 12 - 1 / 126)


DISK_RADIUS = ball_radius(2)  # 1 / sqrt(2 pi)


def disk(
    n: int,
    labels: tuple[float, float] | Literal["classes"] = (0.0, 1.0),
    generator: Generator | None = None,
    dimensions: int = 2,
) -> tuple[Tensor, Tensor]:
    """Points uniform in the unit cube, labeled by whether they lie in the ball at its center.

    Half of the points lie in the ball. In two dimensions it is the disk with center (0.5, 0.5) and
    radius 1 / sqrt(2 pi); :func:`ball_radius` gives the radius in others.

    Args:
        n: number of points.
        labels: label outside, label inside, such as (0, 1) or (-1, 1); or "classes", for the class
            indices 0 and 1, the targets of a cross-entropy. Default: (0, 1).
        generator: source of the points. Default: torch's global generator.
        dimensions: number of coordinates of a point. Default: 2.

    Returns:
        Points of shape (n, dimensions) and labels of shape (n, 1), in torch's default dtype;
        classes have shape (n) and are int64.

    Raises:
        ValueError: n is negative, dimensions below 1, or labels are neither two nor "classes".

    Source: reports 000 to 004, in two dimensions.
    """
    if n < 0:
        raise ValueError(f"expected a number of points of at least 0, got {n}")
    if labels != "classes" and (isinstance(labels, str) or len(labels) != 2):
        raise ValueError(f"expected two labels, outside and inside, or 'classes', got {labels!r}")
    radius = ball_radius(dimensions)
    points = torch.rand(n, dimensions, generator=generator)
    inside = (points - 0.5).square().sum(1, keepdim=True) < radius**2
    if labels == "classes":
        return points, inside.flatten().long()
    outside_label, inside_label = labels
    return points, torch.where(inside, float(inside_label), float(outside_label))


def one_hot(classes: Tensor, num_classes: int = -1) -> Tensor:
    """A row of zeros for each class index, with a 1 at the index.

    As :func:`torch.nn.functional.one_hot`, but in torch's default dtype, for use as a target.

    Args:
        classes: class indices.
        num_classes: length of a row; -1 for one more than the largest index. Default: -1.

    Shape: classes (\\*); output (\\*, num_classes).

    Raises:
        RuntimeError: classes are not int64, or not all in [0, num_classes).

    Source: report 003; :func:`torch.nn.functional.one_hot`.
    """
    if classes.dtype != torch.int64:
        raise RuntimeError(f"one_hot expects class indices of int64, got {classes.dtype}")
    if not classes.numel() and num_classes <= 0:
        raise RuntimeError("one_hot cannot infer the number of classes of no sample; give it")
    if num_classes == -1:
        num_classes = int(classes.max()) + 1
    if classes.numel() and not 0 <= classes.min() <= classes.max() < num_classes:
        raise RuntimeError(
            f"one_hot expects class indices from 0 to {num_classes - 1}, "
            f"got {classes.min()} to {classes.max()}"
        )
    rows = torch.zeros(*classes.shape, num_classes, device=classes.device)
    return rows.scatter_(-1, classes.unsqueeze(-1), 1.0)


def normalize(train: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """(x - mean) / standard deviation of each feature, both computed from the training part.

    >>> train, test = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]])
    >>> normalize(train, test)
    (tensor([[-1.],
            [ 1.]]), tensor([[0.]]))

    Args:
        train: the part that mean and standard deviation are computed from.
        parts: further parts to normalize, such as validation and test.

    Shape: each part (samples, \\*), with the same features \\*.

    Returns:
        The parts in their order, train first. In train, each feature has mean 0 and standard
        deviation 1 (dividing by the number of samples). A feature that is constant in train is
        only shifted, not scaled, in all parts.

    Raises:
        ValueError: train has no samples, or a part has other features.

    Source: report 003.
    """
    if not len(train):
        raise ValueError("expected at least one training sample to normalize by, got none")
    for part in parts:
        if part.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"expected features of shape {list(train.shape[1:])}, as the training part, "
                f"got {list(part.shape[1:])}"
            )
    deviation, mean = torch.std_mean(train, 0, correction=0)
    # Compare the range: rounding gives a constant a small deviation, and division would magnify it.
    deviation = deviation.masked_fill(train.amin(0) == train.amax(0), 1.0)
    return tuple((part - mean) / deviation for part in (train, *parts))


def _length(data: Data) -> int:
    """Return the number of samples, after checking that there are as many targets as inputs."""
    inputs, targets = data
    if len(inputs) != len(targets):
        raise ValueError(f"expected as many targets as inputs ({len(inputs)}), got {len(targets)}")
    return len(inputs)


def shuffle(data: Data, generator: Generator | None = None) -> Data:
    """Return inputs and targets in a random order.

    Args:
        data: inputs and targets, of the same length.
        generator: source of the order. Default: torch's global generator.

    Raises:
        ValueError: the lengths differ, or there are no samples.
    """
    if not _length(data):
        raise ValueError("expected at least one sample, got an empty data set")
    order = torch.randperm(_length(data), generator=generator).to(data[0].device)
    return data[0][order], data[1][order]


def split(data: Data, batch_size: int, dim: int = 0) -> Iterator[Data]:
    """Split inputs and targets into batches along a dimension.

    Args:
        data: inputs and targets, of the same length.
        batch_size: samples a batch; the last batch may be shorter.
        dim: the dimension of the samples. Default: 0.

    Raises:
        ValueError: batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
    return zip(*(torch.split(part, batch_size, dim) for part in data), strict=True)


def batches(data: Data, batch_size: int, generator: Generator | None = None) -> Iterator[Data]:
    """Split inputs and targets into shuffled batches that hold every sample once.

    Args:
        data: inputs and targets, of the same length.
        batch_size: samples a batch; the last batch may be shorter.
        generator: source of the order. Default: torch's global generator.

    Raises:
        ValueError: the lengths differ, there are no samples, or batch_size is below 1.
    """
    return split(shuffle(data, generator), batch_size)


def k_fold(data: Data, k: int, generator: Generator | None = None) -> Iterator[tuple[Data, Data]]:
    """Split inputs and targets k times into a training part and a validation part.

    >>> [(len(train[0]), len(validation[0])) for train, validation in k_fold(disk(10), 3)]
    [(6, 4), (7, 3), (7, 3)]

    Args:
        data: inputs and targets, of the same length.
        k: number of folds. Their lengths differ by one sample at most.
        generator: source of the folds. Default: torch's global generator.

    Yields:
        Training and validation part, each inputs and targets. Every sample is in the validation
        part once and in the training part k - 1 times.

    Raises:
        ValueError: the lengths differ, or k is not from 2 to the number of samples.

    Source: report 004 (cross-validation).
    """
    if not 2 <= k <= _length(data):
        raise ValueError(f"expected a k from 2 to the number of samples, {len(data[0])}, got {k}")
    inputs, targets = data
    folds = torch.randperm(len(inputs), generator=generator).to(inputs.device).tensor_split(k)
    for index, fold in enumerate(folds):
        rest = torch.cat(folds[:index] + folds[index + 1 :])
        yield (inputs[rest], targets[rest]), (inputs[fold], targets[fold])
