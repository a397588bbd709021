"""Which of a subject's parameters is which of the reference's."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from minifw.testing.subjects.fit import Fit, fits
from minifw.testing.subjects.places import ALIASES

__all__ = ["arguments", "assignments", "describe"]

MOST = 64  # assignments that are tried


def _akin(own: str, name: str) -> int:
    """How far two names are apart: 0 for the same, 1 for two words of one thing, 2 otherwise."""
    own, name = own.lower().partition(".")[0], name.lower().rpartition(".")[2]
    if own == name:
        return 0
    return 1 if any(own in words and name in words for words in ALIASES.values()) else 2


def assignments(
    own: Mapping[str, Sequence[int]], reference: Mapping[str, Tensor]
) -> Iterator[dict[str, Fit]]:
    """All ways to see a subject's parameters as the reference's, the plainest first.

    Args:
        own: shapes of the subject's, by name.
        reference: the reference's, by name.
    """
    yield from itertools.islice(_search(own, list(reference.items())), MOST)
    if len(reference) == 2:
        yield from _joined(own, reference)


def _search(
    own: Mapping[str, Sequence[int]], wanted: list[tuple[str, Tensor]]
) -> Iterator[dict[str, Fit]]:
    if not wanted:
        yield {}
        return
    (name, tensor), *rest = wanted
    slots = list(own)
    for slot in sorted(own, key=lambda slot: (_akin(slot, name), slots.index(slot))):
        left = {other: shape for other, shape in own.items() if other != slot}
        for fit in fits(slot, own[slot], tensor.shape):
            for others in _search(left, rest):
                yield {name: fit} | others


def _joined(
    own: Mapping[str, Sequence[int]], reference: Mapping[str, Tensor]
) -> Iterator[dict[str, Fit]]:
    """A matrix and a vector in one tensor: the bias as last or first column or row."""
    (matrix, weight), (vector, bias) = sorted(reference.items(), key=lambda item: -item[1].dim())
    for slot, shape in own.items():
        if len(shape) != 2 or weight.dim() != 2 or bias.dim() != 1:
            continue
        for along in (1, 0):
            rest = list(shape)
            rest[along] -= 1
            for part, other in (("all but last", "last"), ("all but first", "first")):
                for fit in fits(slot, rest, weight.shape, part, along):
                    if shape[1 - along] == len(bias):
                        yield {matrix: fit, vector: Fit(slot, (1 - along,), other, along)}


def arguments(
    names: Sequence[str], reference: Mapping[str, Tensor]
) -> Iterator[tuple[dict[str, tuple[int, ...]], dict[str, Fit]]]:
    """Shapes of a function's arguments that could be the reference's parameters, and how."""
    wanted = list(reference)
    orders = sorted(
        itertools.permutations(wanted),
        key=lambda order: sum(_akin(a, b) for a, b in zip(names, order, strict=False)),
    )
    tried = 0
    for order in orders:
        choices = [list(_shapes(reference[name].shape)) for name in order]
        for choice in itertools.product(*choices):
            if (tried := tried + 1) > MOST:
                return
            yield (
                {own: shape for own, (shape, _) in zip(names, choice, strict=False)},
                {
                    name: Fit(own, dims)
                    for own, name, (_, dims) in zip(names, order, choice, strict=False)
                },
            )


def _shapes(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes in which a function may take a parameter, each with the order of its dimensions."""
    places = tuple(range(len(shape)))
    yield tuple(shape), places
    if len(shape) == 1:
        for dims, place in ((2, 1), (2, 0), (4, 1)):
            yield tuple(shape[0] if i == place else 1 for i in range(dims)), (place,)
    if len(shape) > 1:
        yield tuple(reversed(shape)), tuple(reversed(places))
    if len(shape) == 4:  # height, width, in, out
        yield (shape[2], shape[3], shape[1], shape[0]), (3, 2, 0, 1)


def describe(own: Mapping[str, Sequence[int]], reference: Mapping[str, Tensor],
             found: Mapping[str, Fit]) -> list[str]:  # fmt: skip
    """What was matched with what, in sentences."""
    sentences = []
    for name, fit in found.items():
        shape, wanted = tuple(own[fit.slot]), tuple(reference[name].shape)
        if fit.slot == name and shape == wanted and not str(fit):
            continue
        how = f", {fit}" if str(fit) else ""
        sentences.append(f"parameter {fit.slot} {shape} is the reference's {name} {wanted}{how}")
    return sentences
