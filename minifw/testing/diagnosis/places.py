"""Wrong in some entries alone: which, by value or by index, and what is wrong there."""

import math
from collections.abc import Iterator
from itertools import combinations, pairwise

import torch
from torch import Tensor

from minifw.testing.diagnosis.evidence import Evidence, proportion, size, times
from minifw.testing.diagnosis.factors import slice_name

__all__ = ["few_entries", "not_finite", "wrong_at_indices", "wrong_at_values"]

# Rules by value are read into the entries only if chance would place as many like that more seldom.
UNLIKELY = 1000


def _selects(places: Tensor, wrong: Tensor, right: Tensor) -> bool:
    """Whether ``places`` holds every wrong entry and no right one."""
    return not bool((wrong & ~places).any() or (right & places).any())


def _there(e: Evidence) -> str:
    """What is wrong in the wrong entries: the end of a sentence."""
    part = e.only(e.wrong)
    if size(part.actual) <= e.limit:
        return f", where the {e.noun} is 0 and should not be"
    if size(part.expected) <= e.limit:
        return f", where the {e.noun} should be 0 and is not"
    factor = proportion(part.actual, part.expected)
    if part.known > 2 and part.fits(factor * part.expected):
        multiple = times(factor, "PyTorch's")
        return f", where the {e.noun} is {multiple}"
    if part.known > 2 and size(part.actual - part.actual[0]) <= e.limit:
        return f", where the {e.noun} is always {part.actual[0].item():.4g}"
    return ""


def _beside(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """The tensor's number beside each entry of ``shape``; None if it has none."""
    if tensor.dim() and tensor.shape == shape[: tensor.dim()]:
        return tensor.reshape(*tensor.shape, *[1] * (len(shape) - tensor.dim())).expand(shape)
    if tensor.dim() == len(shape):
        sizes = zip(tensor.shape, shape, strict=True)
        return tensor.expand(shape) if all(n in (1, m) for n, m in sizes) else None
    return None


def _numbers(named: list[tuple[str, Tensor]], shape: torch.Size) -> list[tuple[str, Tensor]]:
    beside = [(name, _beside(t, shape)) for name, t in named]
    return [(name, t.double()) for name, t in beside if t is not None]


def _quantities(e: Evidence) -> Iterator[tuple[str, Tensor]]:
    """The numbers by which an entry may be told from another."""
    shape = e.expected.shape
    inputs = _numbers([(e.input_name(i), x) for i, x in enumerate(e.inputs)], shape)
    yield from inputs
    yield from ((f"the absolute value of {name}", x.abs()) for name, x in inputs)
    yield from (
        (f"{name} minus {other}", x - y) for (name, x), (other, y) in combinations(inputs, 2)
    )
    others = [("the cotangent", g) for g in e.cotangents if g.numel() > 1]
    others += [] if e.output is None else [("the output", e.output)]
    others = _numbers(others, shape)
    others.append((f"PyTorch's {e.noun}", e.expected))
    yield from others
    yield from ((f"the absolute value of {name}", t.abs()) for name, t in others)


def _roundest(low: float, high: float) -> float:
    """The number of fewest digits between two."""
    for digits in range(-12, 13):
        number = math.ceil(low * 10.0**digits) / 10.0**digits
        if low <= number <= high and number - low < high - low:
            return number
    return (low + high) / 2


def _value_rule(name: str, q: Tensor, wrong: Tensor, right: Tensor) -> str:
    """The rule by ``q`` that selects the wrong entries, in words."""
    low, high = float(q[wrong].min()), float(q[wrong].max())
    # A value that several share, or a small multiple of 1/2, was chosen and not drawn.
    chosen = (2 * low).is_integer() or int(wrong.sum()) > 1
    if chosen and low == high and _selects(q == low, wrong, right):
        if " minus " in name and low == 0:
            return " equals ".join(name.split(" minus "))
        return f"{name} is {low:.6g}"
    count = int(wrong.sum())
    if math.comb(min(count + int(right.sum()), 1000), min(count, 1000)) < UNLIKELY:
        return ""
    least, most = float(q[right].min()), float(q[right].max())
    if low > most:
        if most <= 0 <= low:
            return f"{name} is {'positive' if low > 0 else 'zero or positive'}"
        return f"{name} is above about {_roundest(most, low):.6g}"
    if high < least:
        if high <= 0 <= least:
            return f"{name} is {'negative' if high < 0 else 'zero or negative'}"
        return f"{name} is below about {_roundest(high, least):.6g}"
    return ""


def _rule(e: Evidence, wrong: Tensor, right: Tensor) -> str:
    """The rule by the value of something that selects the wrong entries, in words."""
    if not wrong.any() or not right.any():
        return ""
    named = [(e.input_name(i), x) for i, x in enumerate(e.inputs)]
    for name, x in named:
        if not x.is_floating_point() and x.shape == e.expected.shape[:1] and e.expected.dim() == 2:
            target = torch.arange(e.expected.shape[1]) == x[:, None]
            if _selects(target, wrong, right):
                return f"the column is the class that {name} names"
            if _selects(~target, wrong, right):
                return f"the column is not the class that {name} names"
    for name, q in _quantities(e):
        if bool(q.isfinite().all()) and (words := _value_rule(name, q, wrong, right)):
            return words
    for name, x in named:
        if x.is_floating_point() and x.shape == e.expected.shape:
            _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
            if _selects(counts[inverse] > 1, wrong, right):
                return f"two entries of {name} are equal"
    return ""


def not_finite(e: Evidence, actual: Tensor, expected: Tensor) -> str:
    """NaN or infinity in other places than PyTorch's."""
    for name, flags in (
        ("NaN", actual.isnan() & ~expected.isnan()),
        ("infinite", actual.isinf() & expected.isfinite()),
        ("finite", actual.isfinite() & ~expected.isfinite()),
    ):
        if not flags.any():
            continue
        end = " and should not be" if name != "finite" else ", where PyTorch's is not"
        if flags.all():
            return f"The {e.noun} is {name} everywhere{end}."
        rule = _rule(e, flags, ~flags)
        if rule:
            return f"The {e.noun} is {name}{end} wherever {rule}."
        where = _index_rule(flags, ~flags)
        if where:
            return f"The {e.noun} is {name}{end} {where}."
        return f"The {e.noun} is {name}{end} in {int(flags.sum())} of {flags.numel()} entries."
    return ""


def wrong_at_values(e: Evidence) -> str:
    """Wrong only where a number is negative, zero, beyond a value, a class."""
    rule = _rule(e, e.wrong, e.right)
    return f"Wrong only where {rule}{_there(e)}." if rule else ""


def wrong_at_indices(e: Evidence) -> str:
    """Wrong only in the first or last rows or columns, every other entry, the diagonal."""
    rule = _index_rule(e.wrong, e.right) if e.wrong.any() and e.right.any() else ""
    return f"Wrong only {rule}{_there(e)}." if rule else ""


def _index_rule(wrong: Tensor, right: Tensor) -> str:
    """The rule by the index that selects the wrong entries, in words."""
    shape = wrong.shape
    places = wrong.nonzero()
    if len(places) == 1 and wrong.numel() > 1:
        where = ", ".join(map(str, places[0].tolist()))
        return f"in entry ({where}) of shape {list(shape)}"
    if len(shape) > 1 and shape[-1] == shape[-2]:
        diagonal = torch.eye(shape[-1], dtype=torch.bool).expand(shape)
        above = torch.ones(shape[-2:], dtype=torch.bool).triu(1).expand(shape)
        for name, flags in (
            ("on the diagonal", diagonal),
            ("off the diagonal", ~diagonal),
            ("above the diagonal", above),
            ("below the diagonal", above.mT),
            ("on or above the diagonal", ~above.mT),
            ("on or below the diagonal", ~above),
        ):
            if _selects(flags, wrong, right):
                return name
    for dim, length in enumerate(shape):
        view = [length if d == dim else 1 for d in range(len(shape))]
        indices = torch.arange(length).reshape(view).expand(shape)
        hit = torch.unique(indices[wrong])
        if len(hit) < length and _selects(torch.isin(indices, hit), wrong, right):
            return _slices(hit.tolist(), length, slice_name(len(shape), dim), right, indices)
    # A kernel that forgets the end forgets it of the entries in memory, not of a dimension.
    flat = torch.arange(wrong.numel()).reshape(shape)
    if int(flat[wrong].min()) > int(flat[right].max()) and len(shape) > 1:
        return f"from entry {int(flat[wrong].min())} of {wrong.numel()} on, counted row by row"
    return ""


def _slices(hit: list[int], length: int, name: str, right: Tensor, indices: Tensor) -> str:
    """Some of the rows, in words."""
    plural = (
        "entries"
        if name == "entry"
        else name.replace("slice", "slices") + "s" * ("slice" not in name)
    )
    if len(hit) == 1 and hit[0] not in (0, length - 1):
        return f"in {name} {hit[0]} of {length}"
    last = int(indices[right].max())
    if hit[0] > last:
        count = length - hit[0]
        which = f"{name}" if count == 1 else f"{count} {plural}"
        return f"in the last {which}, from {name} {hit[0]} of {length} on"
    first = int(indices[right].min())
    if hit[-1] < first:
        which = f"{name}" if hit[-1] == 0 else f"{hit[-1] + 1} {plural}"
        return f"in the first {which} of {length}"
    steps = {b - a for a, b in pairwise(hit)}
    if len(hit) > 2 and len(steps) == 1 and steps != {1}:
        (step,) = steps
        if hit[0] < step and hit[-1] + step >= length:
            nth = {2: "second", 3: "third"}.get(step, f"{step}th")
            return f"in every {nth} {name}, from {name} {hit[0]} on"
    if len(hit) > 1 and steps == {1}:
        return f"in {plural} {hit[0]} to {hit[-1]} of {length}"
    if len(hit) > 4:
        return ""
    return f"in {plural} {', '.join(map(str, hit))} of {length}"


def few_entries(e: Evidence) -> str:
    """Wrong in so few entries that they can be listed."""
    places = e.wrong.nonzero().tolist()
    if not 0 < len(places) <= 3 or len(places) * 4 > e.known:
        return ""
    listed = ", ".join("(" + ", ".join(map(str, place)) + ")" for place in places)
    return f"Wrong only in entries {listed} of shape {list(e.wrong.shape)}."
