"""Faults in data: batches, folds and encodings."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from bench.faults.fault import fault
from minifw import data

Data = tuple[Tensor, Tensor]


def _shuffled(pair: Data, generator: Generator | None) -> Data:
    order = torch.randperm(len(pair[0]), generator=generator)
    return pair[0][order], pair[1][order]


@fault("data.batches")
def overlapping(pair: Data, batch_size: int, generator: Generator | None = None) -> Iterator[Data]:
    """batches takes inputs[i:i + N] with i counting batches"""
    inputs, targets = _shuffled(pair, generator)
    for i in range(math.ceil(len(inputs) / batch_size)):
        yield inputs[i : i + batch_size], targets[i : i + batch_size]


@fault("data.batches")
def full_batches(pair: Data, batch_size: int, generator: Generator | None = None) -> Iterator[Data]:
    """batches drops the last, shorter batch"""
    return (
        batch for batch in data.batches(pair, batch_size, generator) if len(batch[0]) == batch_size
    )


@fault("data.batches")
def in_order(pair: Data, batch_size: int, generator: Generator | None = None) -> Iterator[Data]:
    """batches does not shuffle"""
    return zip(*(torch.split(part, batch_size) for part in pair), strict=True)


@fault("data.batches")
def shuffled_apart(
    pair: Data, batch_size: int, generator: Generator | None = None
) -> Iterator[Data]:
    """batches shuffles inputs and targets apart"""
    targets = pair[1][torch.randperm(len(pair[1]))]
    return data.batches((pair[0], targets), batch_size, generator)


@fault("data.batches")
def with_replacement(
    pair: Data, batch_size: int, generator: Generator | None = None
) -> Iterator[Data]:
    """batches draws with replacement"""
    order = torch.randint(len(pair[0]), (len(pair[0]),), generator=generator)
    yield from zip(*(torch.split(part[order], batch_size) for part in pair), strict=True)


@fault("data.batches")
def same_order_always(
    pair: Data, batch_size: int, generator: Generator | None = None
) -> Iterator[Data]:
    """batches are in the same order every epoch"""
    seed = 0 if generator is None else generator.initial_seed()
    return data.batches(pair, batch_size, Generator().manual_seed(seed))


@fault("data.batches")
def from_the_global_generator(
    pair: Data, batch_size: int, generator: Generator | None = None
) -> Iterator[Data]:
    """batches ignores its generator"""
    return data.batches(pair, batch_size)


@fault("data.one_hot")
def one_hot_from_one(classes: Tensor, num_classes: int = -1) -> Tensor:
    """one_hot counts classes from 1"""
    return data.one_hot(classes, num_classes).roll(-1, -1)


@fault("data.normalize")
def normalized_apart(train: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """normalize takes the statistics of the test part for the test part"""
    return tuple(data.normalize(part)[0] for part in (train, *parts))


@fault("data.normalize")
def normalized_together(train: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """normalize takes its statistics from training and test part together"""
    return data.normalize(torch.cat([train, *parts]), train, *parts)[1:]


@fault("data.normalize")
def unbiased(train: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """normalize divides by the unbiased deviation"""
    factor = math.sqrt((len(train) - 1) / len(train))
    return tuple(part * (factor or 1.0) for part in data.normalize(train, *parts))


@fault("data.normalize")
def divided_by_zero(train: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """normalize divides a constant feature by its deviation"""
    deviation, mean = torch.std_mean(train, 0, correction=0)
    return tuple((part - mean) / deviation for part in (train, *parts))


@fault("data.k_fold")
def trained_on_validation(
    pair: Data, k: int, generator: Generator | None = None
) -> Iterator[tuple[Data, Data]]:
    """k_fold leaves the validation samples among the training samples"""
    for train, validation in data.k_fold(pair, k, generator):
        joined: Any = tuple(map(torch.cat, zip(train, validation, strict=True)))
        yield joined, validation


@fault("data.k_fold")
def folds_without_remainder(
    pair: Data, k: int, generator: Generator | None = None
) -> Iterator[tuple[Data, Data]]:
    """k_fold leaves out the samples that do not fill a fold"""
    inputs, targets = _shuffled(pair, generator)
    whole = len(inputs) // k * k
    return data.k_fold((inputs[:whole], targets[:whole]), k, generator)


@fault("data.k_fold")
def folds_drawn_anew(
    pair: Data, k: int, generator: Generator | None = None
) -> Iterator[tuple[Data, Data]]:
    """k_fold shuffles anew for every fold"""
    for fold in range(k):
        yield list(data.k_fold(pair, k, generator))[fold]


@fault("data.k_fold")
def folds_in_order(
    pair: Data, k: int, generator: Generator | None = None
) -> Iterator[tuple[Data, Data]]:
    """k_fold does not shuffle"""
    parts = [part.tensor_split(k) for part in pair]
    for fold in range(k):
        train, validation = (
            tuple(pick(part) for part in parts)
            for pick in (
                lambda part, out=fold: torch.cat(part[:out] + part[out + 1 :]),
                lambda part, only=fold: part[only],
            )
        )
        yield train, validation  # type: ignore[misc]


@fault("data.disk")
def disk_of_the_square(n: int, labels: Any = (0.0, 1.0), *arguments: Any, **options: Any) -> Data:
    """disk takes the square of the radius for the radius"""
    points, _ = data.disk(n, labels, *arguments, **options)
    inside = (points - 0.5).norm(dim=1, keepdim=True) < data.ball_radius(points.shape[1]) ** 2
    if labels == "classes":
        return points, inside.flatten().long()
    return points, torch.where(inside, float(labels[1]), float(labels[0]))


@fault("data.disk")
def disk_inside_out(n: int, labels: Any = (0.0, 1.0), *arguments: Any, **options: Any) -> Data:
    """disk swaps its labels"""
    return data.disk(n, labels if labels == "classes" else labels[::-1], *arguments, **options)
