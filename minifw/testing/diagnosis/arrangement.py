"""The right numbers in other places, or in another shape."""

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from torch import Tensor

from minifw.testing.diagnosis.evidence import Evidence, attempt, size
from minifw.testing.diagnosis.factors import slice_name

__all__ = ["other_shape", "rearranged"]


def _rearrangements(t: Tensor) -> Iterator[tuple[str, Tensor]]:
    dims = range(t.dim())
    for order in permutations(dims) if t.dim() < 5 else ():
        if order != tuple(dims):
            words = "transposed" if t.dim() == 2 else f"permuted to dimensions {order}"
            yield words, t.permute(order)
    for count in (1, 2):
        for flipped in combinations(dims, count):
            where = " and ".join(map(str, flipped))
            yield f"reversed along dimension {where}", t.flip(flipped)
    for dim in dims:
        for shift in (1, -1):
            yield f"shifted by one along dimension {dim}", t.roll(shift, dim)
            pushed = t.roll(shift, dim).clone()
            pushed.select(dim, 0 if shift == 1 else -1).zero_()
            yield f"shifted by one along dimension {dim}", pushed


def _same_rows(e: Evidence, dim: int) -> bool:
    """Whether the slices are the right ones in another order."""
    actual, expected = (t.movedim(dim, 0).flatten(1) for t in (e.actual, e.expected))
    if min(actual.shape) < 2 or len(actual) > 1024:
        return False
    nearest = torch.cdist(actual, expected).argmin(1)
    if len(set(nearest.tolist())) < len(nearest):
        return False
    return e.fits(expected[nearest].reshape_as(e.expected.movedim(dim, 0)).movedim(0, dim))


def rearranged(e: Evidence) -> str:
    """Transposed, permuted, reversed, shifted, rows or columns or entries in another order."""
    if e.known < 3 or not bool(e.finite.all()):
        return ""
    for words, candidate in _rearrangements(e.expected):
        if e.fits(candidate):
            return f"The {e.noun} looks like PyTorch's {words}."
        if e.fits(-candidate):
            return f"The {e.noun} looks like PyTorch's {words}, with the wrong sign."
    for dim in range(e.expected.dim()) if e.expected.dim() > 1 else ():
        if _same_rows(e, dim):
            name = slice_name(e.expected.dim(), dim)
            return f"The {e.noun} looks like PyTorch's with each {name} in another's place."
    ordered, target = (t.flatten().sort().values for t in (e.actual, e.expected))
    if e.fits(ordered.reshape_as(e.expected), target.reshape_as(e.expected)):
        return f"The {e.noun} has PyTorch's entries, in other places: is a reshape wrong?"
    return ""


def other_shape(noun: str, actual: Tensor, expected: Tensor) -> str:
    """What is said of two tensors of different shape."""
    shapes = f"its shape is {list(actual.shape)}, not {list(expected.shape)}"

    def equal(tensor: Tensor) -> bool:
        if tensor.shape != expected.shape:
            return False
        return size(tensor - expected) <= 1e-5 * size(expected)

    summed = attempt(expected.shape, lambda t: t.sum_to_size(expected.shape), actual)
    if noun == "gradient" and summed is not None and actual.numel() > expected.numel():
        sure = "" if equal(summed) else ", among other mistakes"
        return (
            f"The gradient looks not summed over the dimensions that were broadcast{sure}: "
            f"{shapes}."
        )
    if actual.numel() == expected.numel():
        for words, candidate in _rearrangements(actual):
            if equal(candidate):
                return f"The {noun} looks {words.split()[0]}: {shapes}."
        if equal(actual.reshape(expected.shape)):
            return f"The {noun} has the right entries in another shape: {shapes}."
    if noun == "gradient" and actual.numel() == 1 < expected.numel():
        return f"The gradient looks summed over everything: {shapes}."
    if actual.dim() == expected.dim() + 1 and equal(actual.sum(0)):
        return f"The {noun} looks not summed over the first dimension: {shapes}."
    return ""
