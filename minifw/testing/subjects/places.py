"""Where an object keeps its parameters and their gradients.

Frameworks hand parameters out as pairs of value and gradient, as objects with two attributes, in
dicts, or not at all; many make new tensors at each call. So a parameter is known by its place: the
attributes, items and calls that lead to it from the object, followed anew each time.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minifw.testing.subjects.arrays import as_tensor, is_array

__all__ = ["Place", "Slot", "declared", "gradient_places", "kept", "read", "write"]

# What leads from an object to an array: ("." , attribute), ("()", "") for a call without
# arguments, ("[]", place in a list, a dict or what a generator yields).
Place = tuple[tuple[str, Any], ...]

PARAMETERS = (
    "param", "params", "parameters", "get_params", "get_parameters", "trainable_params",
    "trainable_parameters", "weights", "get_weights", "variables", "trainable_variables",
    "parameter", "named_parameters", "params_and_grads",
)  # fmt: skip
GRADIENTS = (
    "grads", "gradients", "grad", "gradient", "get_grads", "get_gradients", "param_grads",
    "parameter_grads", "dparams", "gparams", "grad_params", "params_grad",
)  # fmt: skip
VALUE = ("value", "data", "weight", "w", "val", "tensor", "param", "array")
GRADIENT = ("grad", "gradient", "g", "grads", "weight_grad", "d", "dw", "delta")

ALIASES = {
    "w": ("w", "weight", "weights", "kernel", "kernels", "filters", "gamma", "scale"),
    "b": ("b", "bias", "biases", "beta", "w0", "shift"),
}
DEEP = 4


@dataclass(frozen=True)
class Slot:
    """A parameter of an object.

    Attributes:
        name: the object's name of it, or its number.
        value: its place.
        gradients: places where its gradient may be, the likeliest first.
    """

    name: str
    value: Place
    gradients: tuple[Place, ...] = ()


def read(root: Any, place: Place) -> Any:
    """What is at a place now; None if there is no such place yet."""
    for kind, key in place:
        try:
            if kind == ".":
                root = getattr(root, key)
            elif kind == "()":
                root = root()
            elif isinstance(root, Mapping):
                root = root[key] if isinstance(key, str) else list(root.values())[key]
            else:
                root = list(root)[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return root


def write(root: Any, place: Place, value: Tensor) -> None:
    """Write ``value`` to a place: in place where that is possible, else by binding it anew."""
    there = read(root, place)
    with torch.no_grad():
        if isinstance(there, Tensor):
            there.data.copy_(value)
        elif hasattr(there, "dtype") and there.shape:
            there[...] = value.cpu().numpy()
        else:
            kind, key = place[-1]
            if kind == ".":
                setattr(read(root, place[:-1]), key, type(there)(value.item()))
            else:
                read(root, place[:-1])[key] = type(there)(value.item())


def _walk(value: Any, place: Place, depth: int = 0) -> Iterator[tuple[Place, Any]]:
    """All arrays within a value, and None where an array may come, with their places."""
    if is_array(value) or value is None:
        yield place, value
    elif depth > DEEP:
        return
    elif isinstance(value, Mapping):
        for number, (key, part) in enumerate(value.items()):
            step = ("[]", key if isinstance(key, str) else number)
            yield from _walk(part, (*place, step), depth + 1)
    elif isinstance(value, (list, tuple)) or hasattr(value, "__next__"):
        for number, part in enumerate(value):
            yield from _walk(part, (*place, ("[]", number)), depth + 1)
    elif hasattr(value, "__dict__") and (not place or not isinstance(value, (type, Callable))):  # type: ignore[arg-type]
        for name, part in vars(value).items():
            yield from _walk(part, (*place, (".", name)), depth + 1)


def kept(made: Any) -> list[tuple[Place, Any]]:
    """All arrays that an object keeps, in the order in which it made them."""
    return [
        (place, value)
        for name, part in getattr(made, "__dict__", {}).items()
        for place, value in _walk(part, ((".", name),))
        if value is not None
    ]


def _name(place: Place) -> str:
    words = [str(key) for kind, key in place if kind != "()" and isinstance(key, str)]
    return words[-1] if words else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def is_gradient_of(name: str, value: str = "") -> bool:
    """Whether ``name`` is a name of the gradient of ``value``, or of anything if it is ''."""
    name, value = _plain(name), _plain(value)
    words = {value, *next((words for words in ALIASES.values() if value in words), ())}
    inner = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True) if word)
    inner = inner or r"\w+"
    before = r"(loss|acc|sum|cum|dl|dloss|dj|de|dc)?(gradients?|grads?|gradwrt|delta|nabla|d|g)+"
    if not value:  # any word may begin with a d or a g
        return bool(
            re.fullmatch(rf"\w*(gradients?|grads?)\w*|(dl|dloss|d)(w|b|{_any()})\w*|g[wb]", name)
        )
    return bool(
        re.fullmatch(rf"{before}({inner})(sum|acc)?", name)
        or re.fullmatch(rf"({inner})(gradients?|grads?|g|d|delta)(sum|acc)?", name)
    )


def _any() -> str:
    return "|".join(word for words in ALIASES.values() for word in words)


def _handed_out(made: Any, names: Sequence[str]) -> Iterator[tuple[Place, Any]]:
    """What an object hands out by one of the names, called where it is a method."""
    for name in names:
        try:
            value = getattr(made, name, None)
            place: Place = ((".", name),)
            if is_array(value) or value is None:
                continue
            if callable(value):
                value, place = value(), (*place, ("()", ""))
            if hasattr(value, "__next__"):
                value = list(value)
        except Exception:
            continue
        if value is not None and not isinstance(value, (int, float, str)):
            yield place, value


def declared(made: Any, count: int) -> Iterator[list[Slot]]:
    """The parameters that an object hands out itself, for each way in which it does; last, all
    arrays that it keeps and does not call gradients.

    Args:
        made: the object.
        count: how many there are to be: as many arrays are values alone, twice as many are values
            and gradients.
    """
    for root, value in _handed_out(made, PARAMETERS):
        slots = _slots(value, root, count)
        if slots:
            yield slots
    yield _slots(made, (), count)


def _slots(value: Any, root: Place, count: int) -> list[Slot]:
    groups: dict[Place, list[tuple[Place, Any]]] = {}
    for place, found in _walk(value, root):
        groups.setdefault(place[:-1], []).append((place, found))
    arrays = [item for group in groups.values() for item in group if item[1] is not None]
    slots = []
    values_alone = (
        len(arrays) == count
        and len(groups) == 1
        and not any(is_gradient_of(_name(place)) for place, _ in arrays)
    )
    for places in groups.values():
        slots += (
            [Slot(_name(place) or str(place[-1][1]), place) for place, array in places
             if array is not None]
            if values_alone
            else _group(places)
        )  # fmt: skip
    return [
        slot
        if sum(other.name == slot.name for other in slots) == 1
        else Slot(f"{slot.name}.{number}" if slot.name else str(number), slot.value, slot.gradients)
        for number, slot in enumerate(slots)
    ]


def _group(places: list[tuple[Place, Any]]) -> list[Slot]:
    """The parameters among the arrays of one list, dict or object."""
    kind, key = places[0][0][-1]
    if kind == "." or isinstance(key, str):
        named = {str(place[-1][1]): place for place, _ in places}
        present = {str(place[-1][1]) for place, value in places if value is not None}
        for value in VALUE if len(places) == 2 else ():
            for grad in GRADIENT:
                if value in present and grad in named:
                    return [Slot(_name(named[value][:-1]), named[value], (named[grad],))]
        values = [n for n in named if n in present and not is_gradient_of(n)]
        return [
            Slot(n, named[n], tuple(p for g, p in named.items() if is_gradient_of(g, n)))
            for n in values
        ]
    if all(value is None for _, value in places):
        return []
    size = len(places)
    shapes = [None if value is None else sorted(n for n in as_tensor(value).shape if n != 1)
              for _, value in places]  # fmt: skip

    def same(pairs: list[tuple[int, int]]) -> bool:
        return all(
            shapes[a] is not None and (shapes[b] is None or shapes[a] == shapes[b])
            for a, b in pairs
        )

    half = size // 2
    alternating = [(2 * i, 2 * i + 1) for i in range(half)]
    halves = [(i, half + i) for i in range(half)]
    for pairs in (alternating, halves):
        if size % 2 == 0 and same(pairs):
            return [Slot(_name(places[a][0]), places[a][0], (places[b][0],)) for a, b in pairs]
    return [
        Slot(_name(place) or str(place[-1][1]), place)
        for place, value in places
        if value is not None
    ]


def gradient_places(made: Any, slots: Sequence[Slot]) -> list[Slot]:
    """The slots, with all places where their gradients may be, after a backward pass."""
    apart = list(_handed_out(made, GRADIENTS))
    result = []
    for number, slot in enumerate(slots):
        key = slot.value[-1][1]  # by which they are found in parallel lists and dicts
        places = list(slot.gradients)
        for root, value in apart:
            if is_array(value):
                places += [root] if len(slots) == 1 else []
                continue
            places.append((*root, ("[]", key if isinstance(key, str) else number)))
        parent = read(made, slot.value[:-1])
        for holder, root in ((made, ()), (parent, slot.value[:-1])):
            for name in getattr(holder, "__dict__", {}):
                if any(
                    is_gradient_of(name, own) for own in {slot.name.partition(".")[0], str(key)}
                ):
                    places.append((*root, (".", name)))
        places.append((*slot.value, (".", "grad")))
        result.append(Slot(slot.name, slot.value, tuple(dict.fromkeys(places))))
    return result
