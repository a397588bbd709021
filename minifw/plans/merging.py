"""Merging: calls alike, of layers alike, made as one on their tensors laid side by side.

A rule sees its own layer alone. Over all layers, the masks of ReLUs and the gradients of biases are
the same call again and again, on tensors so small that it is the calls which take the time.
"""

import operator
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from minifw.plans.recording import Call, place

__all__ = ["merge"]

# These work entry by entry. Sums over the dimension before the last do as well with one more in
# front. Either way the results are the same to the last bit.
_BY_ENTRY = {"addcmul", "mul", "ne", "sub"}

LARGEST = 2**17  # bytes side by side; with more, they have left the cache when they are needed
MOST = 16  # calls made as one; with more there is little left to gain, but much to look through


def merge(calls: list[Call], given: set[int], others: Iterable[Tensor]) -> list[Call]:
    """Return fewer calls that do the same.

    Args:
        calls: in their order. What they write may move in memory.
        given: places that stay where they are.
        others: further tensors that move with those of the calls.
    """
    layout = _Layout(calls, given, others)
    alike: dict[Any, list[int]] = {}
    for number, call in enumerate(calls):
        if call.function.__name__ in _BY_ENTRY or _sums_rows(call):
            alike.setdefault(_kind(call), []).append(number)
    order: list[list[Call]] = [[call] for call in calls]  # what is made in place of each
    for numbers in chain.from_iterable(_portions(calls, all_) for all_ in alike.values()):
        when = _when(order, numbers)
        one = None if when is None else layout.merge([calls[number] for number in numbers])
        if one is not None:
            for number in numbers:
                order[number] = [one] if number == when else []
    return [*chain.from_iterable(order)]


def _portions(calls: list[Call], numbers: list[int]) -> Iterator[list[int]]:
    """Those that lie near each other, as many at a time as make one call."""
    size = max(tensor.nbytes for tensor in calls[numbers[0]].tensors())
    most = min(MOST, LARGEST // max(size, 1)) or 1
    return (numbers[start : start + most] for start in range(0, len(numbers), most))


def _sums_rows(call: Call) -> bool:
    return call.function.__name__ == "sum" and call.args[1:] == (-2,)


def _kind(call: Call) -> tuple[object, ...]:
    """What calls have in common that differ in their tensors alone."""
    values = [
        (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else value
        for value in (call.result, *call.args)
    ]
    return call.function.__name__, *values, *call.keywords.items()


def _when(order: list[list[Call]], numbers: list[int]) -> int | None:
    """Which of them all can be made together with: the first, or the last, if either."""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return None
    passed = {
        first: [order[first:number] for number in numbers],
        last: [order[number + 1 : last + 1] for number in numbers],
    }
    for when, passed_by_each in passed.items():
        each = zip(numbers, map(chain.from_iterable, passed_by_each), strict=True)
        if all(order[number][0].may_pass(others) for number, others in each):
            return when
    return None


class _Layout:
    """Where in memory the tensors of calls lie.

    Args:
        calls, given, others: as of :func:`merge`.
    """

    def __init__(self, calls: list[Call], given: set[int], others: Iterable[Tensor]) -> None:
        self._places: dict[int, int] = {}  # in the beginning, by id of a tensor
        self._parts: dict[int, dict[int, Tensor]] = {}  # by place, and by id
        for tensor in (*(tensor for call in calls for tensor in call.tensors()), *others):
            self._places[id(tensor)] = place(tensor)
            self._parts.setdefault(place(tensor), {})[id(tensor)] = tensor
        self._movable = set().union(*(call.writes for call in calls)) - given
        self._side_by_side: dict[tuple[int, ...], Tensor] = {}  # by the places of the parts

    def merge(self, calls: list[Call]) -> Call | None:
        """One call for all of one kind, if their tensors can be brought side by side."""
        first, operands, shape = calls[0], [], calls[0].result.shape  # type: ignore[union-attr]
        for values in zip(*((call.result, *call.args) for call in calls), strict=True):
            operand: Any = values[0]
            if isinstance(operand, Tensor) and any(value is not operand for value in values):
                is_broadcast = operand.shape != shape and not _sums_rows(first)
                operand = None if is_broadcast else self._bring_together(values)
                if operand is None:
                    return None
            operands.append(operand)
        result, *args = operands
        if all(map(operator.is_, args, first.args)):
            return None
        function = vars(torch)[first.function.__name__]
        again = partial(function, *args, **first.keywords, out=result)
        touches = frozenset().union(*(call.touches for call in calls))
        writes = frozenset().union(*(call.writes for call in calls))
        return Call(function, (*args,), first.keywords, result, again, touches, writes)

    def _bring_together(self, tensors: tuple[Tensor, ...]) -> Tensor | None:
        """One tensor, whose parts along its first dimension they are; None if they cannot be."""
        like, places = tensors[0], tuple(self._places[id(tensor)] for tensor in tensors)
        whole = self._side_by_side.get(places)
        if whole is None:
            if len({*places} & self._movable) < len(places) or any(
                tensor.nbytes < tensor.untyped_storage().nbytes() for tensor in tensors
            ):
                return None
            whole = self._side_by_side[places] = torch.stack(tensors)
            for index, own in enumerate(places):
                for part in self._parts[own].values():
                    offset = index * like.nbytes // part.itemsize + part.storage_offset()
                    part.set_(whole.untyped_storage(), offset, part.shape, part.stride())
        if whole[0].nbytes != like.nbytes or not all(tensor.is_contiguous() for tensor in tensors):
            return None
        return whole.view(-1).view(like.dtype).view(len(tensors), *like.shape)
