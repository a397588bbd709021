"""How a foreign subject is called, found by trying it on ordinary examples beside the reference.

What is tried are conventions, never numbers: which arguments are given in which order, where the
parameters are, whether samples are rows. The first convention in which the subject agrees with the
reference is taken; if there is none, the plainest one in which it can be called, and the checks
will say what is wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from minifw.testing.case import seeded
from minifw.testing.example import DTYPES, Example, draw_inputs
from minifw.testing.subjects.arrays import agree, flat, is_array, is_list_of_numbers, is_number
from minifw.testing.subjects.construct import Model, called
from minifw.testing.subjects.foreign import HOLDERS, LAYOUTS, Foreign, Pair, Protocol, _listed
from minifw.testing.subjects.match import arguments, assignments, describe
from minifw.testing.subjects.places import (
    Slot,
    declared,
    gradient_places,
    kept,
    read,
    write,
)
from minifw.testing.subjects.roles import (
    BACKWARD,
    FORWARD,
    backward_roles,
    positional,
    required,
    role,
)
from minifw.testing.subjects.subject import CrashError, Subject, UsageError

if TYPE_CHECKING:
    from minifw.testing.comparison import Comparison

__all__ = ["BAD_CALL", "Convention", "Recognizer", "array_kinds", "settle_parameters"]


# Of an error that says that the call was of another form than the function is.
BAD_CALL = re.compile(r"positional argument|required argument|(unexpected|required) keyword")


@dataclass(frozen=True)
class Convention:
    """How a loss differs from the reference: by a factor that depends on the shape alone.

    Attributes:
        constant: a number.
        samples: power of the number of samples.
        entries: power of the number of entries of a sample.
    """

    constant: float = 1.0
    samples: int = 0
    entries: int = 0

    def __call__(self, prediction: Tensor) -> float:
        """The factor for a prediction."""
        samples = prediction.shape[0] if prediction.dim() else 1
        entries = prediction.numel() / samples if samples else 1
        return float(self.constant * samples**self.samples * entries**self.entries)

    def __str__(self) -> str:
        words = {
            (0, 0): "",
            (1, 1): "the number of entries",
            (1, 0): "the number of samples",
            (0, 1): "the number of entries of a sample",
            (0, -1): "one part in the number of entries of a sample",
            (-1, 0): "one part in the number of samples",
            (-1, -1): "one part in the number of entries",
        }[self.samples, self.entries]
        constant = "" if self.constant == 1 else f"{self.constant:g}"
        return " times ".join(part for part in (constant, words) if part)


CONVENTIONS = [
    Convention(constant, samples, entries)
    for constant in (1.0, 0.5, 2.0)
    for samples, entries in ((0, 0), (1, 1), (1, 0), (0, 1), (0, -1), (-1, 0), (-1, -1))
]


@dataclass
class Trial:
    """An ordinary example, and what the reference makes of it.

    Attributes:
        like: the reference.
        inputs: what it is called on.
        outputs, cotangents, grads, parameter_grads: of one forward and backward pass.
        differentiable: places of the inputs that have a gradient.
    """

    comparison: Comparison
    dtype: torch.dtype
    like: Subject
    inputs: tuple[Any, ...]
    outputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor, ...]
    grads: tuple[Tensor | None, ...]
    parameter_grads: dict[str, Tensor | None]

    @property
    def differentiable(self) -> list[int]:
        """Places of the inputs that have a gradient."""
        return [
            place
            for place, (value, spec) in enumerate(
                zip(self.inputs, self.comparison.inputs, strict=False)
            )
            if isinstance(value, Tensor) and value.is_floating_point() and not spec.constant
        ]

    @property
    def loss(self) -> bool:
        """Whether the reference makes one number of several."""
        return (
            len(self.outputs) == 1 and self.outputs[0].dim() == 0 and self.inputs[0].dim() > 0
        )  # fmt: skip


def try_out(
    comparison: Comparison,
    make: Callable[..., Subject],
    dtype: torch.dtype,
    seed: int,
    batch: int | None = None,
) -> Trial:
    """Draw an ordinary example, and take the reference through it."""
    generator = Generator().manual_seed(seed)
    like = make(dtype)
    for parameter in like.parameters().values():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    name = next(name for name in DTYPES if DTYPES[name] == dtype)
    example = Example(dtype=name, batch=batch)
    inputs = draw_inputs(example, comparison.inputs, generator, comparison.device)
    with seeded(seed):
        outputs = like.forward(*inputs)
        ones = len(outputs) == 1 and outputs[0].dim() == 0
        cotangents = tuple(
            torch.ones_like(o) if ones else torch.randn(o.shape, generator=generator).to(o)
            for o in outputs
        )
        grads = like.backward(*cotangents)
    return Trial(
        comparison, dtype, like, inputs, outputs, cotangents, grads, like.gradients()
    )  # fmt: skip


class Recognizer:
    """The search for the protocol of one subject.

    Args:
        comparison: what is compared.
        make_reference: makes the reference for a dtype.
        make: makes the object for a dtype and the reference's parameters.
    """

    def __init__(
        self,
        comparison: Comparison,
        make_reference: Callable[..., Subject],
        make: Callable[[torch.dtype, dict[str, Tensor]], Any],
    ) -> None:
        self.comparison, self.make_reference, self.make = comparison, make_reference, make
        self.reasons: list[str] = []
        self.convention = Convention()
        self.reduction = ""
        self.agrees = False

    def find(self) -> tuple[Protocol, Convention, str]:
        """The protocol, in float64 or else float32; the convention and reduction of a loss.

        Raises:
            UsageError: the subject cannot be called, or its parameters cannot be found.
        """
        errors: list[UsageError] = []
        for dtype in (torch.float64, torch.float32):
            self.reasons = []
            try:
                self.trial = try_out(self.comparison, self.make_reference, dtype, 11)
            except UsageError:
                raise
            except Exception as error:
                errors.append(
                    UsageError(
                        "the reference cannot be called on these inputs: "
                        f"{type(error).__name__}: {error}".splitlines()[0]
                    )
                )
                continue
            self.refused: set[str] = set()
            try:
                protocol = self._both_ways()
            except UsageError as error:
                errors.append(error)
                continue
            narrow = dtype == torch.float64 and self._narrow(protocol)
            if narrow:
                continue
            if dtype == torch.float32:
                protocol.dtypes = ("float32",)
                protocol.notes.append("computes in float32 alone, or rounds to it on the way")
            else:
                protocol.dtypes = ("float64", "float32")
            self._facts(protocol)
            return protocol, self.convention, self.reduction
        raise errors[0]

    def _both_ways(self) -> Protocol:
        """The protocol, with the first kind of arrays that can be called forward and backward."""
        first: UsageError | None = None
        while True:
            try:
                protocol = self._forward()
            except UsageError as error:
                raise first or error from None
            try:
                return self._backward(protocol)
            except UsageError as error:
                first = first or error
                self.refused.add(protocol.arrays)

    def _refusal(self, what: str, place: int, otherwise: str) -> UsageError:
        """The error to raise where no call succeeded, by one of the errors that they raised."""
        if not self.reasons:
            return UsageError(f"{what}: {otherwise}")
        crashes = [reason for reason in self.reasons if not BAD_CALL.search(reason)]
        if crashes:
            return CrashError(f"{what}: {crashes[place]}")
        return UsageError(f"{what}: {self.reasons[place]}")

    def _made(self) -> Any:
        return self.make(self.trial.dtype, self.trial.like.parameters())

    def _subject(self, protocol: Protocol, made: Any = None) -> Foreign:
        made = self._made() if made is None else made
        arguments, options = self.comparison.subject_call
        like = self.trial.like.parameters()
        subject = Foreign(made, protocol, self.trial.dtype, arguments, options, like)
        settle_parameters(subject, like, self.trial.inputs)
        return subject

    # Forward.

    def _forward(self) -> Protocol:
        trial, best = self.trial, None
        for candidate in self._forward_candidates():
            try:
                outcome = self._outcome(candidate)
            except UsageError:
                raise
            except Exception as error:
                self.reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            protocol, agrees = outcome
            if agrees:
                self.agrees = True
                return protocol
            if best is None:
                best = protocol
        if best is None:
            raise self._refusal(
                "the subject cannot be called on these inputs", 0, "it has no method to call"
            )
        if trial.loss:
            self._unreduced(best)
        return best

    def _forward_candidates(self) -> Iterator[Protocol]:
        made = self._made()
        pair = isinstance(made, Pair)
        names = ["forward"] if pair else [n for n in FORWARD if callable(getattr(made, n, None))]
        if not names:
            raise UsageError(
                "the subject must be an object with methods forward and backward, a module, a "
                "torch.autograd.Function, a function of tensors or a pair of functions, got "
                f"{type(made).__name__}"
            )
        kinds = [kind for kind in array_kinds(made) if kind not in self.refused]
        count = len(self.trial.inputs)
        refused: set[tuple[Any, ...]] = set()
        for name in names:
            method = getattr(made, name)
            orders = _orders(method, count, self.trial.loss)
            setter = _setter(made) if self.trial.loss and count == 2 else ""
            for layout, order, kind in itertools.product(LAYOUTS, orders, kinds):
                if kind in ("list", "float") and layout != "rows":
                    continue
                base = Protocol(
                    arrays=kind, layout=layout, setter=setter, forward=name, order=order
                )
                if self.trial.loss:
                    base.kind = "loss"
                elif pair:
                    base.kind = "function pair"
                if not self.trial.like.parameters():
                    yield base
                    continue
                if (name, kind) in refused:
                    continue
                found = False
                for protocol in self._with_parameters(base, made, method, pair):
                    found = True
                    yield protocol
                if not found:
                    refused.add((name, kind))

    def _with_parameters(
        self, base: Protocol, made: Any, method: Any, pair: bool
    ) -> Iterator[Protocol]:
        like = self.trial.like.parameters()
        if pair:
            names = (required(method) or [])[len(self.trial.inputs) :][: len(like)]
            if len(names) < len(like):
                raise UsageError(
                    f"{called(method)} takes {names} after the inputs, and the reference has the "
                    f"parameters { {n: tuple(t.shape) for n, t in like.items()} }"
                )
            for shapes, found in arguments(names, like):
                yield replace(base, shapes=shapes, fits=found)
            return
        slots = self._slots(base, made, like)
        shapes = {slot.name: tuple(read(made, slot.value).shape) for slot in slots}
        yield from (replace(base, slots=slots, fits=found) for found in assignments(shapes, like))

    def _slots(self, base: Protocol, made: Any, like: dict[str, Tensor]) -> list[Slot]:
        """The object's parameters that can be the reference's.

        Raises:
            UsageError: there are none.
        """
        seen: list[list[Slot]] = []
        for attempt in range(2):
            for slots in declared(made, len(like)):
                shapes = {s.name: tuple(read(made, s.value).shape) for s in slots}
                seen.append(slots)
                if next(assignments(shapes, like), None):
                    return [_settled(made, slot) for slot in slots]
            if attempt:
                break
            try:  # many make their parameters when they are first called
                probe = Foreign(made, base, self.trial.dtype, *self.comparison.subject_call, like)
                probe.raw(self.trial.inputs)
            except Exception as error:
                self.reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
        own = {s.name: tuple(read(made, s.value).shape) for s in seen[0]} if seen else {}
        theirs = {name: tuple(tensor.shape) for name, tensor in like.items()}
        raise UsageError(f"the subject has parameters {own}, the reference {theirs}")

    def _outcome(self, protocol: Protocol) -> tuple[Protocol, bool]:
        """The protocol with the result of forward read, and whether it agrees."""
        trial = self.trial
        subject = self._subject(protocol)
        with seeded(11):
            _, raw = subject.raw(trial.inputs)
        expected = len(trial.outputs)
        if isinstance(raw, (tuple, list)) and len(raw) == expected + 1 and not is_array(raw):
            scalar = is_number(raw[0]) and flat(raw[0])[0].numel() == 1
            if trial.loss and scalar and not self._backward_names(subject.made):
                protocol = replace(protocol, result="gradient", backward="")
            elif isinstance(raw, tuple) and not is_list_of_numbers(list(raw)):
                protocol = replace(protocol, result="cache")
        elif raw is None or raw is subject.made:
            left = {
                holder: tuple(flat(value)[0].shape)
                for holder in HOLDERS
                if is_number(value := getattr(subject.made, holder, None))
            }
            wanted = tuple(trial.outputs[0].shape)
            holder = next((h for h, shape in left.items() if shape == wanted), next(iter(left), ""))
            if holder:
                protocol = replace(protocol, result=holder)
        protocol.scalar = trial.loss
        subject = self._subject(protocol)
        with seeded(11):
            outputs = subject.forward(*trial.inputs)
        shapes = [tuple(o.shape) for o in outputs], [tuple(o.shape) for o in trial.outputs]
        if not outputs:
            raise TypeError("forward returned nothing")
        if shapes[0] != shapes[1]:
            return protocol, False
        if all(agree(a, e) for a, e in zip(outputs, trial.outputs, strict=True)):
            return protocol, True
        return protocol, trial.loss and self._other_convention(protocol, outputs[0])

    def _free(self) -> bool:
        """Whether a loss may follow another convention: the reference's is not asked for."""
        comparison, reference = self.comparison, self.comparison.reference
        asked = [comparison.call[1], comparison.reference_options or comparison.options]
        asked.append(getattr(reference, "keywords", {}))
        plain = getattr(reference, "reduction", "mean") == "mean"
        return comparison.conventions and plain and not any("reduction" in o for o in asked)

    def _other_convention(self, protocol: Protocol, output: Tensor) -> bool:
        if not self._free():
            return False
        first = self.trial
        results = [(first.inputs[0], output, first.outputs[0])]
        for batch in (7, 3):
            try:
                self.trial = try_out(
                    self.comparison, self.make_reference, first.dtype, 12 + batch, batch
                )
                other = self._subject(protocol).forward(*self.trial.inputs)[0]
                results.append((self.trial.inputs[0], other, self.trial.outputs[0]))
            except Exception:  # a batch size that it is not made for
                continue
            finally:
                self.trial = first
        for convention in CONVENTIONS:
            if all(agree(o, e * convention(i)) for i, o, e in results):
                self.convention = convention
                protocol.notes.append(f"its loss is the reference's times {convention}")
                return True
        return False

    def _unreduced(self, protocol: Protocol) -> None:
        """A loss that makes a number of every entry is compared with one that does."""
        outputs = self._subject(replace(protocol, scalar=False)).forward(*self.trial.inputs)
        if outputs[0].dim() and outputs[0].numel() > 1 and self._free():
            self.reduction = "none"
            protocol.scalar = False
            protocol.notes.append("its loss is not reduced: compared with reduction='none'")
            self.trial = try_out(
                self.comparison,
                lambda dtype: self.make_reference(dtype, reduction="none"),
                self.trial.dtype,
                11,
            )
            for constant in (0.5, 2.0):
                if agree(outputs[0], self.trial.outputs[0] * constant):
                    self.convention = Convention(constant)
                    protocol.notes.append(f"its loss is {constant:g} times the reference's")

    # Backward.

    def _backward_names(self, made: Any) -> list[str]:
        if isinstance(made, Pair):
            return ["backward"] if made.backward is not None else []
        return [name for name in BACKWARD if callable(getattr(made, name, None))]

    def _backward(self, protocol: Protocol) -> Protocol:
        made = self._made()
        if protocol.result == "gradient":
            protocol.roles = ()
            return self._assigned(protocol)
        names = self._backward_names(made)
        left = "gradient" if hasattr(made, "gradient") else ""
        if not names and not left:
            raise UsageError(
                f"{called(made) if not isinstance(made, Pair) else called(made.forward)} has no "
                f"backward pass: looked for {', '.join(BACKWARD[:8])}"
            )
        if not names:
            return self._assigned(replace(protocol, backward="", left_in=left, roles=()))
        best, most = None, -1
        for name in names:
            for candidate in self._backward_candidates(protocol, made, name):
                try:
                    found = self._assigned(candidate)
                    score = self._score(found)
                except UsageError:
                    raise
                except Exception as error:
                    self.reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
                    continue
                if score > most:
                    best, most = found, score
                if score == 3:
                    break
            if most >= 2:
                break
        if best is None:
            raise self._refusal(
                "the subject's backward pass cannot be called", -1, "no way to call it was found"
            )
        return best

    def _backward_candidates(self, protocol: Protocol, made: Any, name: str) -> Iterator[Protocol]:
        trial = self.trial
        method = getattr(made, name)
        loss = protocol.kind == "loss" and protocol.scalar
        all_roles = list(
            backward_roles(
                method, len(trial.inputs), len(trial.outputs),
                protocol.kind == "loss", len(protocol.shapes),
            )
        )  # fmt: skip
        names = required(method)
        plain = names is not None and all(role(n) for n in names) and name == "backward"
        for number, roles in enumerate(all_roles):
            derivative = (
                len(roles) == 1 and roles[0] in ("input.0", "output.0") and not loss
                and protocol.kind != "loss"
            )  # fmt: skip
            if number and derivative and plain and not isinstance(made, Pair):
                continue
            if number and plain and len(roles) == len(names or ()) > 1:
                continue  # its names say what they are
            order = protocol.order
            if protocol.kind == "loss" and set(roles) <= {f"input.{i}" for i in range(9)}:
                known = [role(n) for n in names or ()]
                if "target" not in known and order == tuple(sorted(order)):
                    roles = tuple(sorted(roles))
                elif order != tuple(sorted(order)) and len(roles) == len(order) and number == 0:
                    roles = tuple(f"input.{i}" for i in order)
            kind = protocol.kind
            if derivative and not protocol.slots:
                kind = "elementwise pair"
            yield replace(
                protocol, backward=name, roles=roles, derivative=derivative, kind=kind,
                notes=list(protocol.notes), slots=list(protocol.slots),
            )  # fmt: skip

    def _assigned(self, protocol: Protocol) -> Protocol:
        """The protocol with the owners of what backward returns, and the gradients' places."""
        trial = self.trial
        subject = self._subject(protocol)
        before = {
            place: None if not is_array(value) else _copy(value)
            for place, value in kept(subject.made)
        }
        with seeded(11):
            call = subject.run(trial.inputs)
            values = {name: tensor.clone() for name, tensor in subject.slots().items()}
            if not protocol.backward:
                result: Any = call.cache
            else:
                result = subject.back(call, trial.cotangents)
        if result is None and protocol.backward:
            for holder, left in _left_in(subject.made):
                if is_array(left):
                    protocol.left_in, result = holder, left
                    break
        grads = _listed(result) if protocol.backward else list(flat(result))
        trained = {fit.slot for fit in protocol.fits.values()}  # and not running statistics
        updates = any(
            _changed(values[name], tensor)
            for name, tensor in subject.slots().items()
            if name in trained
        )
        slots = []
        if protocol.slots:
            for slot in gradient_places(subject.made, protocol.slots):
                live = [
                    place
                    for place in slot.gradients
                    if is_array(read(subject.made, place))
                    and place != slot.value
                    and _fits(read(subject.made, place), values[slot.name])
                ]
                changed = [
                    place
                    for place in live
                    if place not in before
                    or before[place] is None
                    or _changed(before[place], read(subject.made, place))
                ]
                if changed:  # of two that are the same, not the one that may be a copy
                    first = read(subject.made, changed[0])
                    changed = [
                        place for place in changed if not _changed(first, read(subject.made, place))
                    ]
                    changed.sort(key=lambda place: ("()", "") in place)
                returned = len(grads) >= len(trial.inputs) + len(protocol.slots)
                found = changed or ([] if returned or updates else live)
                slots.append(replace(slot, gradients=tuple(found[:1])))
        protocol = replace(protocol, slots=slots, updates=updates)
        without = [slot.name for slot in slots if not slot.gradients]
        protocol.returned = self._owners(protocol, grads, without)
        if protocol.updates and any(name not in protocol.returned for name in without):
            protocol.notes.append(
                "backward updates the parameters: their gradients are their changes, by the rate"
            )
        elif protocol.updates:
            protocol.notes.append("backward updates the parameters; that is undone here")
        return protocol

    def _owners(self, protocol: Protocol, grads: list[Any], without: list[str]) -> tuple[str, ...]:
        """For each gradient that backward returned, what it is the gradient of."""
        trial = self.trial
        inputs = [f"input.{place}" for place in protocol.order]
        real = [f"input.{place}" for place in protocol.order if place in trial.differentiable]
        own = [*protocol.shapes, *without]
        for owners in (inputs + own, real + own, real, inputs):
            if len(owners) == len(grads):
                return tuple(owners)
        if len(grads) == 1 and len(real) > 1 and protocol.kind == "loss":
            return ("input.0",)
        # By shape, in order.
        lay = LAYOUTS[protocol.layout][0]
        shapes = {f"input.{i}": tuple(lay(trial.inputs[i]).shape) for i in trial.differentiable}
        shapes |= protocol.shapes
        values = self._subject(protocol).slots()
        shapes |= {name: tuple(values[name].shape) for name in without}
        result = []
        for grad in grads:
            size = None if grad is None else [n for n in tuple(flat(grad)[0].shape) if n != 1]
            name = next(
                (n for n, shape in shapes.items() if [s for s in shape if s != 1] == size), ""
            )
            shapes.pop(name, None)
            result.append(name)
        return tuple(result)

    def _score(self, protocol: Protocol) -> int:
        """3 if all gradients agree, 2 if they are of the right shapes, else 1."""
        trial = self.trial
        subject = self._subject(protocol)
        with seeded(11):
            subject.forward(*trial.inputs)
            grads = subject.backward(*trial.cotangents)
        factor = self.convention(trial.inputs[0]) if protocol.kind == "loss" else 1.0
        pairs = [(grads[place], trial.grads[place]) for place in trial.differentiable]
        if protocol.kind == "loss":
            pairs = pairs[:1]
        own = subject.gradients()
        pairs += [(own[name], grad) for name, grad in trial.parameter_grads.items()]
        good = [
            (a is None or not a.any() if e is None else a is not None and agree(a, e * factor))
            for a, e in pairs
        ]
        shaped = [e is None or (a is not None and a.shape == e.shape) for a, e in pairs]
        return 3 if all(good) else 2 if all(shaped) else 1

    # Facts.

    def _narrow(self, protocol: Protocol) -> bool:
        """Whether results come in float32 though everything is in float64."""
        subject = self._subject(protocol)
        with seeded(11):
            outputs = subject.forward(*self.trial.inputs)
            grads = subject.backward(*self.trial.cotangents)
        if any(value.dtype == torch.float32 for value in subject.slots().values()):
            return True
        loss = protocol.kind == "loss"
        factor = self.convention(self.trial.inputs[0]) if loss else 1.0
        pairs = [
            *zip(outputs, (o * factor for o in self.trial.outputs), strict=False),
            *((a, e if e is None else e * factor) for a, e in
              zip(grads, self.trial.grads, strict=False)),
        ]  # fmt: skip
        # A constant in log(p + 1e-7) changes a loss by as little, and no gradient of it.
        if loss and len(pairs) > 1 and outputs[0].dtype == torch.float64:
            pairs = pairs[1:]
        return any(
            a is not None and (a.dtype in (torch.float32, torch.float16) or _rounded(a, e))
            for a, e in pairs
        )

    def _facts(self, protocol: Protocol) -> None:
        """Put into the protocol what is found out about several calls, and all notes."""
        trial = self.trial

        def run(order: str, subject: Foreign) -> dict[str, Tensor]:
            """Letters are forward passes, capitals the backward passes of the same inputs."""
            results: dict[str, Tensor] = {}
            for letter in order:
                inputs = trial.inputs if letter.lower() == "a" else other.inputs
                with seeded(11):
                    if letter.islower():
                        subject.forward(*inputs)
                        continue
                    cotangents = trial.cotangents if letter == "A" else other.cotangents
                    grads = subject.backward(*cotangents)
                results |= {f"{letter}{i}": g.clone() for i, g in enumerate(grads) if g is not None}
            results |= {n: g.clone() for n, g in subject.gradients().items() if g is not None}
            return results

        def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
            return one.keys() == two.keys() and all(agree(one[k], two[k]) for k in one)

        other = try_out(
            self.comparison,
            lambda dtype: self.make_reference(dtype, reduction=self.reduction),
            trial.dtype,
            29,
        )
        try:
            alone, after = run("aA", self._subject(protocol)), run("bB", self._subject(protocol))
        except Exception:
            return
        names = [name for name in protocol.fits if name in alone and name in after]
        try:
            both = run("aAbB", self._subject(protocol))
            protocol.overwrites = bool(names) and all(
                agree(both[n], after[n]) and not agree(both[n], alone[n] + after[n]) for n in names
            )
        except Exception:
            protocol.notes.append("it can be called once")
        try:
            nested = run("abBA", self._subject(protocol))
            apart = run("bBaA", self._subject(protocol))
            protocol.one_call = not same(
                {k: v for k, v in nested.items() if k[0] not in "bB" or k in protocol.fits},
                {k: v for k, v in apart.items() if k[0] not in "bB" or k in protocol.fits},
            )
        except Exception:
            protocol.one_call = True
        if protocol.one_call:
            protocol.notes.append("keeps what one call needs, not a stack of calls")
        if protocol.overwrites:
            protocol.notes.append("a backward pass overwrites the parameters' gradients")
        self._describe(protocol)

    def _describe(self, protocol: Protocol) -> None:
        like = self.trial.like.parameters()
        subject = self._subject(protocol)
        shapes = {name: tuple(tensor.shape) for name, tensor in subject.slots().items()}
        protocol.notes += describe(shapes, like, protocol.fits)
        spare = [name for name in shapes if name not in {f.slot for f in protocol.fits.values()}]
        if protocol.fits and spare and len(shapes) <= 2 * len(like) + 2:
            protocol.notes.append(f"not compared: its arrays {', '.join(spare)}")
        if protocol.layout == "columns":
            protocol.notes.append("its samples are columns: inputs and outputs are transposed")
        elif protocol.layout != "rows":
            protocol.notes.append("its channels are the last dimension")
        if protocol.setter:
            protocol.notes.append(f"it takes the target by {protocol.setter}")
        if protocol.order != tuple(sorted(protocol.order)):
            protocol.notes.append("it takes the target first")
        if protocol.derivative:
            what = "output" if protocol.roles[0].startswith("output") else "input"
            protocol.notes.append(
                f"{protocol.backward} is its derivative as a function of the {what}"
            )
        elif protocol.kind == "loss" and not any("cotangent" in r for r in protocol.roles):
            protocol.notes.append("its backward pass takes no gradient of the output, which is 1")
        if self.trial.like.buffers():
            names = ", ".join(self.trial.like.buffers())
            protocol.notes.append(f"the reference's buffers are not compared: {names}")


def _rounded(actual: Tensor, expected: Tensor | None) -> bool:
    """Whether a result in float64 is exact to the digits of float32 alone."""
    if expected is None or actual.shape != expected.shape or not expected.numel():
        return False
    distance = ((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
    return 1e-11 < distance < 1e-6


def array_kinds(made: Any) -> list[str]:
    """The kinds of arrays to try, the one first that its module speaks of."""
    if not isinstance(made, (Pair, type)):
        if any(isinstance(value, Tensor) for _, value in kept(made)):
            return ["torch", "numpy"]
        made = type(made)
    functions = [made.forward] if isinstance(made, Pair) else list(vars(made).values())
    names: dict[str, Any] = {}
    for function in functions:
        names |= getattr(function, "__globals__", {})
    origins = {
        str(getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", ""))
        for value in names.values()
    }
    known = {origin.partition(".")[0] for origin in origins}
    if "torch" not in known and "numpy" in known:
        return ["numpy", "torch", "list", "float"]
    if "torch" not in known and "math" in known:
        return ["float", "list", "numpy", "torch"]
    return ["torch", "numpy", "list", "float"]


def _orders(method: Any, count: int, loss: bool) -> list[tuple[int, ...]]:
    """Orders of the inputs to try: of a loss also the target first, at once if it is named so."""
    plain = tuple(range(count))
    if not loss or count != 2:
        return [plain]
    names = [parameter.name for parameter in positional(method) or []][:2]
    roles = [role(name) for name in names]
    first = len(roles) == 2 and roles[0] == "target" and roles[1] != "target"
    return [plain[::-1], plain] if first else [plain, plain[::-1]]


def _setter(made: Any) -> str:
    """The method that a loss takes its target by; "" for none."""
    setter = re.compile(r"set_\w*(labels?|targets?)")
    return next(filter(setter.fullmatch, dir(made)), "")


def _left_in(made: Any) -> Iterator[tuple[str, Any]]:
    """Where a backward pass may leave the gradient of the input."""
    for name, value in getattr(made, "__dict__", {}).items():
        if isinstance(value, Model):
            yield f"{name}.gradient", value.gradient
    for name in ("gradient", "grad", "dx", "grad_input", "input_grad", "dinputs", "dX"):
        yield name, getattr(made, name, None)


def _settled(made: Any, slot: Slot) -> Slot:
    """The slot where writing to it has an effect: not a copy that is handed out."""
    value = read(made, slot.value)
    before = _copy(value)
    number = flat(value)[0] + 1.0
    try:
        write(made, slot.value, number)
        if not _changed(read(made, slot.value), number):
            return slot
        for place, other in kept(made):
            if _fits(other, flat(value)[0]) and other.shape == value.shape:
                saved = flat(_copy(other))[0]
                write(made, place, number)
                if not _changed(read(made, slot.value), number):
                    return replace(slot, value=place)
                write(made, place, saved)
    finally:
        write(made, slot.value, flat(before)[0])
    return slot


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value.copy()


def _changed(before: Any, after: Any) -> bool:
    old, new = flat(before)[0], flat(after)[0]
    return old.shape != new.shape or not torch.equal(
        old.double().nan_to_num(), new.double().nan_to_num()
    )


def _fits(gradient: Any, value: Tensor) -> bool:
    """Whether a gradient is as large as its parameter."""
    return bool(flat(gradient)[0].numel() == value.numel())


def settle_parameters(subject: Foreign, values: dict[str, Tensor], inputs: tuple[Any, ...]) -> None:
    """Write the reference's values; make parameters first that the first call makes."""
    if not subject.fits:
        return
    missing = any(not is_array(read(subject.made, slot.value)) for slot in subject.protocol.slots)
    if missing:
        with seeded(0):
            subject.raw(inputs)
        subject.zero_gradients()  # and forget the call, where they go together
    subject.set_parameters(values)
