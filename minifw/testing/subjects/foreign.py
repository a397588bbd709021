"""Objects, losses and function pairs of frameworks of one's own, called as was found out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minifw.testing.subjects.arrays import as_tensor, flat, is_array, to_kind
from minifw.testing.subjects.environment import called_in
from minifw.testing.subjects.fit import Fit
from minifw.testing.subjects.places import Slot, read, write
from minifw.testing.subjects.subject import Subject

__all__ = ["LAYOUTS", "Foreign", "Pair", "Protocol"]

# Given where backward asks for a learning rate: not 1, so that a rate left in a gradient shows.
RATE = 0.5

# How a subject's arrays are laid out: as in torch, with samples in columns, or with channels last;
# what an array goes in through, and what it comes out through.
LAYOUTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "rows": (lambda t: t, lambda t: t),
    "columns": (
        lambda t: t.t().contiguous() if t.dim() == 2 else t,
        lambda t: t.t() if t.dim() == 2 else t,
    ),
    "channels last": (
        lambda t: t.movedim(1, -1).contiguous() if t.dim() > 2 else t,
        lambda t: t.movedim(-1, 1) if t.dim() > 2 else t,
    ),
}
HOLDERS = ("output", "out", "outputs", "loss", "value", "result", "y", "a")


class Pair(NamedTuple):
    """Two functions that make one subject; ``backward`` is None if the first returns gradients."""

    forward: Callable[..., Any]
    backward: Callable[..., Any] | None


@dataclass
class Protocol:
    """How a foreign subject is called, as was found by trying.

    Attributes:
        kind: see :class:`Subject`.
        arrays: "torch", "numpy", "list" or "float", the last for functions of one number.
        layout: a key of :data:`LAYOUTS`.
        setter: name of the method that the last input is given to before the call; "" for none.
        forward, backward: names of the methods; "" for a backward pass that there is not.
        order: the places of the inputs in the call of forward.
        result: what forward returns: "outputs"; "cache", outputs and a cache; "gradient", the
            output and gradients; or the name of the attribute that the output is left in.
        scalar: whether the output is one number, however it is wrapped.
        roles: what backward is given; see :func:`~minifw.testing.subjects.roles.backward_roles`.
        derivative: whether backward returns the derivative, to be multiplied by the cotangent.
        returned: for each gradient that backward returns, the input or parameter it belongs to:
            "input.0", a slot's name, or "" for neither.
        left_in: the attribute that the gradient is left in where backward returns none, or where
            there is no backward pass and forward leaves it.
        slots: the object's parameters; of a function pair, the shapes of its arguments, by name.
        shapes: likewise for function pairs.
        fits: see :class:`Subject`.
        updates: whether backward changes the parameters, by the gradient times the rate.
        one_call, overwrites, dtypes, notes: see :class:`Subject`.
    """

    kind: str = "object"
    arrays: str = "torch"
    layout: str = "rows"
    setter: str = ""
    forward: str = "forward"
    backward: str = "backward"
    order: tuple[int, ...] = (0,)
    result: str = "outputs"
    scalar: bool = False
    roles: tuple[str, ...] = ("cotangent.0",)
    derivative: bool = False
    returned: tuple[str, ...] = ("input.0",)
    left_in: str = ""
    slots: list[Slot] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    updates: bool = False
    one_call: bool = False
    overwrites: bool = False
    dtypes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


class Call(NamedTuple):
    """One forward pass: what its backward pass may be given."""

    arguments: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[Tensor, ...]
    result: Any
    cache: Any


class Foreign(Subject):
    """An object, a loss or a function pair.

    Args:
        made: the object, or a :class:`Pair`.
        protocol: how to call it.
        dtype: of the calls.
        arguments, options: of forward, after the inputs.
        like: the reference's parameters, from which those of a function pair are made.
    """

    def __init__(
        self,
        made: Any,
        protocol: Protocol,
        dtype: torch.dtype,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        like: dict[str, Tensor],
    ) -> None:
        super().__init__(made)
        self.protocol, self.dtype = protocol, dtype
        self.arguments, self.options = arguments, options
        self.kind, self.notes, self.fits = protocol.kind, list(protocol.notes), protocol.fits
        self.one_call, self.overwrites = protocol.one_call, protocol.overwrites
        self.dtypes = protocol.dtypes
        self.takes_cotangents = protocol.derivative or any(
            role.startswith("cotangent") for role in protocol.roles
        )
        self._calls: list[Call] = []
        self._returned: dict[str, Tensor] = {}
        self._values: dict[str, Any] = {}
        for name, fit in protocol.fits.items():
            if fit.slot in protocol.shapes:
                value = fit.inverse(like[name].to(dtype), len(protocol.shapes[fit.slot]))
                self._values[fit.slot] = to_kind(value.clone().contiguous(), protocol.arrays)

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        call = self.run(inputs)
        self._calls.append(call)
        return call.outputs

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        return self.run(inputs).outputs

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if not self._calls:
            raise RuntimeError("backward without a forward")
        call, protocol = self._calls.pop(), self.protocol
        if not protocol.backward:
            grads = list(flat(call.cache))
        else:
            before = {s: t.clone() for s, t in self.slots().items()} if protocol.updates else {}
            result = self.back(call, grad_outputs)
            if result is None and protocol.left_in:
                result = self._left()
            grads = _listed(result)
            if before:
                after = self.slots()
                rate = RATE if "rate" in protocol.roles else 1.0
                kept = {slot.name for slot in protocol.slots if slot.gradients}
                for slot, value in before.items():
                    if slot not in kept:
                        self._returned[slot] = (value - after[slot]) / rate
                    after[slot].copy_(value)
        return self._sort(grads, call, grad_outputs)

    def slots(self) -> dict[str, Tensor]:
        if self._values:
            return {name: as_tensor(value) for name, value in self._values.items()}
        return {slot.name: as_tensor(read(self.made, slot.value)) for slot in self.protocol.slots}

    def slot_gradients(self) -> dict[str, Tensor | None]:
        grads: dict[str, Tensor | None] = dict.fromkeys(self.slots())
        grads.update(self._returned)
        for slot in self.protocol.slots:
            if slot.gradients and slot.name not in self._returned:
                value = read(self.made, slot.gradients[0])
                grads[slot.name] = self._cast(as_tensor(value)) if is_array(value) else None
        return grads

    def zero_gradients(self) -> None:
        self._returned.clear()
        names = ("zero_grad", "zero_grads", "zero_gradients", "zero_gradient", "flush_gradients")
        for name in names:
            if callable(getattr(self.made, name, None)):
                with called_in(self.dtype):
                    getattr(self.made, name)()
                return
        for slot in self.protocol.slots:
            if slot.gradients and is_array(value := read(self.made, slot.gradients[0])):
                write(self.made, slot.gradients[0], torch.zeros_like(as_tensor(value)))

    def _method(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.made, name)
        return method

    def raw(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """The inputs as they are given to forward, and what it returns."""
        protocol = self.protocol
        lay = LAYOUTS[protocol.layout][0]
        given = tuple(
            to_kind(lay(value), protocol.arrays) if isinstance(value, Tensor) else value
            for value in inputs
        )
        ordered = [given[place] for place in protocol.order]
        with called_in(self.dtype):
            method = self._method(protocol.forward)
            if protocol.setter:
                self._method(protocol.setter)(ordered.pop())
            if protocol.arrays == "float":
                return given, _entrywise(method, *ordered)
            return given, method(*ordered, *self._values.values(), *self.arguments, **self.options)

    def run(self, inputs: tuple[Any, ...]) -> Call:
        """Call forward."""
        protocol = self.protocol
        given, result = self.raw(inputs)
        cache = None
        if protocol.result == "gradient":
            result, cache = result[0], result[1:]
        elif protocol.result == "cache":
            result, cache = result[0] if len(result) == 2 else result[:-1], result[-1]
        elif protocol.result != "outputs":
            result = getattr(self.made, protocol.result)
        if not protocol.backward and protocol.left_in:
            cache = tuple(tensor.clone() for tensor in flat(self._left()))
        outputs = tuple(self._lift(output) for output in flat(result))
        if protocol.scalar and len(outputs) == 1 and outputs[0].numel() == 1:
            outputs = (outputs[0].reshape(()),)
        shapes = tuple(tuple(getattr(value, "shape", ())) for value in inputs)
        return Call(given, shapes, outputs, result, cache)

    def _cast(self, tensor: Tensor) -> Tensor:
        """In the dtype of the calls if the subject computes in a wider one, as NumPy does."""
        wider = tensor.dtype == torch.float64 and self.dtype != torch.float64
        return tensor.to(self.dtype) if wider else tensor

    def _lift(self, tensor: Tensor) -> Tensor:
        return LAYOUTS[self.protocol.layout][1](self._cast(tensor))

    def back(self, call: Call, grad_outputs: tuple[Tensor, ...]) -> Any:
        """What backward returns for a call."""
        protocol = self.protocol
        lay = LAYOUTS[protocol.layout][0]
        cotangents = [to_kind(lay(grad), protocol.arrays) for grad in grad_outputs]
        results = call.result if isinstance(call.result, (tuple, list)) else (call.result,)
        values = list(self._values.values())

        def given(role: str) -> Any:
            kind, _, place = role.partition(".")
            if kind == "cotangent":
                return cotangents[int(place)]
            if kind == "input":
                return call.arguments[int(place)]
            if kind == "output":
                return results[int(place)]
            if kind == "parameter":
                return values[int(place)]
            return call.cache if kind == "cache" else RATE

        with called_in(self.dtype):
            method = self._method(protocol.backward)
            if protocol.arrays == "float":
                return _entrywise(method, *map(given, protocol.roles))
            return method(*map(given, protocol.roles))

    def _left(self) -> Any:
        return read(self.made, tuple((".", name) for name in self.protocol.left_in.split(".")))

    def _sort(
        self, grads: list[Any], call: Call, grad_outputs: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        result: list[Tensor | None] = [None] * len(call.arguments)
        for grad, owner in zip(grads, self.protocol.returned, strict=False):
            if grad is None or not owner:
                continue
            tensor = self._lift(as_tensor(grad))
            if owner.startswith("input."):
                tensor = _shaped(tensor, call.shapes[int(owner[6:])])
            if not self.takes_cotangents or self.protocol.derivative:
                tensor = _times(tensor, grad_outputs[0])
            if owner.startswith("input."):
                result[int(owner[6:])] = tensor
            else:
                tensor = self._cast(as_tensor(grad))
                if not self.takes_cotangents:
                    tensor = _times(tensor, grad_outputs[0])
                seen = self._returned.get(owner)
                self._returned[owner] = tensor.clone() if seen is None else seen + tensor
        return tuple(result)


def _times(grad: Tensor, cotangent: Tensor) -> Tensor:
    """``grad`` for another gradient of the output than 1."""
    if cotangent.shape not in (grad.shape, ()):
        raise ValueError(
            f"its backward takes no gradient of the output, which has the shape "
            f"{list(cotangent.shape)} and more than one entry, and returns {list(grad.shape)}"
        )
    if not grad.is_floating_point():  # a derivative of 0 and 1
        grad = grad.to(cotangent.dtype)
    return grad if (cotangent == 1).all() else grad * cotangent.to(grad.dtype)


def _shaped(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``grad`` in the shape of its input, from which it may differ in dimensions of size 1."""
    plain = [size for size in grad.shape if size != 1]
    return grad.reshape(shape) if plain == [size for size in shape if size != 1] else grad


def _listed(result: Any) -> list[Any]:
    """Gradients that may be given together: ``dx, [dw, db]``."""
    if isinstance(result, dict):
        return [grad for part in result.values() for grad in _listed(part)]
    if isinstance(result, (list, tuple)) and not all(
        isinstance(part, (int, float)) and not is_array(part) for part in result
    ):
        if any(isinstance(part, list) and part and isinstance(part[0], float) for part in result):
            return [result]
        return [grad for part in result for grad in _listed(part)]
    if isinstance(result, (list, tuple)):
        return [result] if result else []
    return [result]


def _entrywise(function: Callable[..., Any], *values: Any) -> Any:
    """A function of one number, for each entry of nested lists."""
    if isinstance(values[0], list):
        return [_entrywise(function, *parts) for parts in zip(*values, strict=True)]
    return function(*values)
