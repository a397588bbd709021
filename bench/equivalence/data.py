"""Checks of batches, folds and encodings, against torch.utils.data where it has a twin."""

import math
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from bench.equivalence.unit import Unit, compare, holds
from minifw.testing.verdict import Verdict

__all__ = ["UNITS"]

# Samples, batch size, sizes of the batches.
_BATCHES = ((10, 5, [5, 5]), (10, 4, [4, 4, 2]), (3, 100, [3]), (1, 1, [1]), (3, 1, [1, 1, 1]))
_FOLDS = ((10, 2), (10, 3), (10, 10), (7, 5), (2, 2))


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _samples(n: int) -> tuple[Tensor, Tensor]:
    """Inputs of two numbers, and targets that can be told from them."""
    inputs = torch.arange(n * 2.0).view(n, 2)
    return inputs, inputs.sum(1, keepdim=True)


def _joined(drawn: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([torch.cat(pair, 1) for pair in drawn])


def _each_once(framework: ModuleType) -> Iterator[Verdict]:
    """Each sample occurs once, with its target, in batches of the given size, the last shorter."""
    for n, batch_size, sizes in _BATCHES:
        data = _samples(n)
        drawn = list(framework.data.batches(data, batch_size, _seeded(5)))
        yield compare("sizes", [len(input) for input, _ in drawn], sizes)
        joined = _joined(drawn)
        yield compare("pairs", joined[:, 2:], joined[:, :2].sum(1, keepdim=True))
        yield compare("samples", joined[joined[:, 0].argsort()], torch.cat(data, 1))


def _shuffled(framework: ModuleType) -> Iterator[Verdict]:
    """The order differs between epochs and depends on the generator alone."""
    data, before = _samples(30), torch.get_rng_state()

    def orders(seed: int) -> list[Tensor]:
        generator = _seeded(seed)
        return [_joined(list(framework.data.batches(data, 7, generator))) for _ in range(2)]

    (first, second), repeated, others = orders(6), orders(6), orders(7)
    yield holds("order", not torch.equal(first, torch.cat(data, 1)), "it is not shuffled")
    yield holds("order", not torch.equal(first, second), "both epochs have the same")
    yield holds("order", not torch.equal(first, others[0]), "both seeds have the same")
    yield compare("order of the same seed", torch.cat(repeated), torch.cat([first, second]))
    untouched = torch.equal(before, torch.get_rng_state())
    yield holds("global generator", untouched, "it was drawn from, although another was given")


def _as_a_loader(framework: ModuleType) -> Iterator[Verdict]:
    data = _samples(30)
    dataset = TensorDataset(*data)
    for seed in (6, 7):
        sampler = RandomSampler(dataset, generator=_seeded(seed))
        # A loader always draws a seed for its workers.
        loader = DataLoader(dataset, batch_size=7, sampler=sampler, generator=_seeded(0))
        here, there = list(framework.data.batches(data, 7, _seeded(seed))), list(loader)
        yield compare("sizes", [len(pair[0]) for pair in here], [len(pair[0]) for pair in there])
        yield compare("order", _joined(here), _joined([(pair[0], pair[1]) for pair in there]))


def _folds(framework: ModuleType) -> Iterator[Verdict]:
    """Each sample is in one validation fold, and in the training part of all others."""
    for n, k in _FOLDS:
        data = _samples(n)
        folds = list(framework.data.k_fold(data, k, _seeded(14)))
        yield compare("number of folds", [len(folds)], [k])
        sizes = [len(validation[0]) for _, validation in folds]
        even = all(size in (n // k, -(-n // k)) for size in sizes)
        yield holds("sizes", even, f"{n} samples in folds of {sizes}")
        for parts in folds:
            joined = _joined(list(parts))
            yield compare("pairs", joined[:, 2:], joined[:, :2].sum(1, keepdim=True))
            yield compare("both parts", joined[joined[:, 0].argsort()], torch.cat(data, 1))
        seen = _joined([validation for _, validation in folds])
        yield compare("validation", seen[seen[:, 0].argsort()], torch.cat(data, 1))


def _shuffled_folds(framework: ModuleType) -> Iterator[Verdict]:
    data = _samples(20)

    def order(seed: int) -> Tensor:
        return _joined([part for _, part in framework.data.k_fold(data, 4, _seeded(seed))])

    yield holds("order", not torch.equal(order(1), torch.cat(data, 1)), "it is not shuffled")
    yield holds("order", not torch.equal(order(1), order(2)), "both seeds have the same")
    yield compare("order of the same seed", order(1), order(1))


def _one_hot(framework: ModuleType) -> Iterator[Verdict]:
    for shape in ((5,), (2, 3), (), (1, 1, 4)):
        classes = torch.randint(0, 3, shape, generator=_seeded(13))
        for num_classes in (-1, 3, 7):
            expected = torch.nn.functional.one_hot(classes, num_classes).float()
            yield compare("rows", framework.data.one_hot(classes, num_classes), expected)


def _normalized(framework: ModuleType) -> Iterator[Verdict]:
    """Every part is normalized by the statistics of the first."""
    scale, shift = torch.tensor([1.0, 100.0, 1e-3]), torch.tensor([0.0, -5.0, 7.0])
    parts = [torch.randn(n, 3, generator=_seeded(n)).double() * scale + shift for n in (200, 30, 1)]
    mean, deviation = parts[0].mean(0), parts[0].std(0, correction=0)
    made = framework.data.normalize(*parts)
    for actual, part in zip(made, parts, strict=True):
        yield compare("features", actual, (part - mean) / deviation, 1e-9)


def _constant(framework: ModuleType) -> Iterator[Verdict]:
    """A constant feature is shifted and not scaled."""
    for value in (0.0, 0.1, -1e6, 1e-30):
        # 1,000 times 0.1 has a mean that is not 0.1, and so a small deviation.
        train = torch.stack([torch.full((1000,), value), torch.arange(1000.0)], 1)
        train_out, test_out = framework.data.normalize(train, torch.tensor([[value + 3, 0.0]]))
        reach = 1e-6 * abs(value)
        centered = bool(train_out[:, 0].abs().max() <= reach)
        yield holds("constant feature", centered, f"{value} becomes {train_out[0, 0].item()}")
        moved = abs(test_out[0, 0].item() - 3) <= reach + 1e-6
        yield holds("constant feature", moved, f"3 more becomes {test_out[0, 0].item()}")
    (alone,) = framework.data.normalize(torch.tensor([[7.0]]))
    yield compare("one sample", alone, torch.zeros(1, 1))


def _disk(framework: ModuleType) -> Iterator[Verdict]:
    """Uniform points, drawn from the generator, with the label of the side that they are on."""
    expected = torch.rand(1000, 2, generator=_seeded(10))
    inside = (expected - 0.5).square().sum(1, keepdim=True) < 1 / (2 * math.pi)
    for outside_label, inside_label in ((0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)):
        points, labels = framework.data.disk(1000, (outside_label, inside_label), _seeded(10))
        yield compare("points", points, expected)
        yield compare("labels", labels, torch.where(inside, inside_label, outside_label).float())
    points, classes = framework.data.disk(1000, "classes", _seeded(10))
    yield compare("points", points, expected)
    yield compare("classes", classes, inside.flatten().long())


def _half_inside(framework: ModuleType) -> Iterator[Verdict]:
    """Half of the points, in any number of dimensions."""
    for dimensions in (1, 2, 3, 4, 5, 8, 30, 200):
        n = 2**22 // dimensions
        points, labels = framework.data.disk(n, generator=_seeded(11), dimensions=dimensions)
        yield compare("shapes", [*points.shape, *labels.shape], [n, dimensions, n, 1])
        # Four standard deviations, and what the docstring says of four and more dimensions.
        documented = {4: 0.0025, 5: 0.001}.get(dimensions, 0.0006 if dimensions > 5 else 0.0)
        share = labels.mean().item()
        near = abs(share - 0.5) < documented + 4 * 0.5 / math.sqrt(n)
        yield holds("labels", near, f"a share of {share:.4f} is inside of {dimensions} dimensions")


UNITS = (
    Unit(
        "batches",
        ("data.batches",),
        {
            "each sample once": _each_once,
            "shuffled anew": _shuffled,
            "torch's DataLoader": _as_a_loader,
        },
    ),
    Unit(
        "k_fold",
        ("data.k_fold",),
        {"one validation fold each": _folds, "shuffled folds": _shuffled_folds},
    ),
    Unit("one_hot", ("data.one_hot",), {"one-hot rows": _one_hot}),
    Unit(
        "normalize",
        ("data.normalize",),
        {"training statistics": _normalized, "constant features": _constant},
    ),
    Unit("disk", ("data.disk",), {"points and labels": _disk, "half inside": _half_inside}),
)
