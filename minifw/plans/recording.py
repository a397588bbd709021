"""Recording: the calls of torch that a computation makes, so that they can be replayed."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Call", "NotRepeatableError", "OtherwiseError", "Recorder", "place"]

# What looks at shapes alone, what does not depend on values, and what a copy does as well.
_LOOKS = {"__get__", "__len__", "dim", "element_size", "is_floating_point", "numel", "size"}
_FIXED = {"empty_like", "ones_like", "tensor"}
_CASTS = {"bool", "float", "long", "to"}


class OtherwiseError(Exception):
    """The answer to a question is not the one of the computation that was recorded."""


class NotRepeatableError(Exception):
    """The calls of a computation are not all that its results depend on."""


class Call(NamedTuple):
    """One call of torch's, which makes a tensor, changes one, or asks for a value.

    Attributes:
        function, args, keywords: what was called, and with what, but for ``out``.
        result: the tensor that it makes or changes; None if it asks.
        again: makes it again, into the same tensor; if it asks, raises OtherwiseError when the
            answer is another one.
        touches, writes: the places of all its tensors, and of ``result``, when it was recorded.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    result: Tensor | None
    again: Callable[[], object]
    touches: frozenset[int]
    writes: frozenset[int]

    def tensors(self) -> list[Tensor]:
        """All that it takes, and what it makes."""
        return [*_tensors([self.args, *self.keywords.values(), self.result])]

    def may_pass(self, others: Iterable["Call"]) -> bool:
        """Whether neither it nor any of the others writes what the other one touches."""
        return all(
            self.writes.isdisjoint(other.touches) and other.writes.isdisjoint(self.touches)
            for other in others
        )


class Recorder(TorchFunctionMode):
    """Notes calls of torch so that they can be replayed when what was given has other values.

    What returns a view is not replayed, as the tensor that it is of stays.

    Args:
        largest: bytes of the tensors that the calls may make.

    Attributes:
        calls: in their order.
        given: the places of what was given.
        undo: how to read, and to put back, what the calls up to the last question change.
        before: how to put generators back to what they were, and what that is.

    Raises:
        NotRepeatableError: in a call, these calls are not all that the results depend on.
    """

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.given: set[int] = set()
        self.undo: list[Any] = []
        self.before: list[tuple[Callable[[Any], object], Any]] = []
        self._largest = largest
        self._changing: set[int] = set()
        self._changed: dict[int, Any] = {}  # by id of a generator or a tensor that was given
        self._kept: list[Tensor] = []  # so that no two have had one place

    def give(self, tensors: Iterable[Tensor]) -> None:
        """Say which tensors have other values the next time."""
        places = set(map(place, tensors))
        self.given |= places
        self._changing |= places

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords, name = kwargs or {}, function.__name__
        given = list(_tensors([args, *keywords.values()]))
        places = set(map(place, given))
        if "generator" in keywords:
            source = keywords["generator"] or torch.default_generator
            _expect(bool(given) and source.device == given[0].device)
            if id(source) not in self._changed:
                self.before.append((source.set_state, source.get_state()))
            self._changed[id(source)] = (source.get_state, source.set_state)
        if given and name.endswith("_"):  # in place: it is not to be changed if it is not noted
            _expect(not name.endswith("setitem__"))
            _expect(name.endswith("__") or place(given[0]) in self._changing)
        call = partial(function, *args, **keywords)
        result = call()
        made = list(_tensors([result]))
        new = {place(tensor) for tensor in made} - places
        if name in _LOOKS and not made:
            return result
        self._kept += made if new else []

        def note(result: Tensor | None, again: Callable[[], object]) -> None:
            without_out = {key: value for key, value in keywords.items() if key != "out"}
            writes = frozenset(map(place, _tensors([result])))
            self.calls.append(
                Call(function, args, without_out, result, again, writes.union(places), writes)
            )

        if any(result is tensor for tensor in given):  # in place
            _expect(place(result) in self._changing)
            if name not in _CASTS and place(result) in self.given:
                self._changed[id(result)] = result.clone, result.copy_
            note(result, call)
        elif new and result is made[0]:
            _expect(sum(tensor.nbytes for tensor in self._kept) <= self._largest)
            if name == "empty_like":
                self._changing |= new
            elif name not in _FIXED and not (places and places.isdisjoint(self._changing)):
                self._changing |= new
                note(result, _into(result, call))
        elif made:  # views
            _expect(not new)
        else:
            self.undo = [*self._changed.values()]
            _expect(result is not None)
            note(None, partial(_ask, call, result))
        return result


def _expect(repeatable: bool) -> None:
    if not repeatable:
        raise NotRepeatableError


def place(tensor: Tensor) -> int:
    """Where the values of a tensor are; views have one place with what they are views of."""
    return tensor.untyped_storage().data_ptr()


def _ask(call: Callable[[], object], answer: object) -> None:
    if call() != answer:
        raise OtherwiseError


def _into(result: Tensor, call: Any) -> Callable[[], object]:
    """The call, in the form that writes into ``result``."""
    if call.func.__name__ in _CASTS:
        return partial(result.copy_, call.args[0])
    try:
        into = partial(vars(torch)[call.func.__name__], *call.args, **call.keywords, out=result)
        into()
    except (KeyError, TypeError, RuntimeError):  # there is no such form
        return lambda: result.copy_(call())
    return into


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among ``values``, and in the lists and tuples there."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
