"""Captured calls: what a module's call and its backward pass call of torch, recorded and replayed.

At small widths most of a step is Python: finding each module's rule, keeping what the backward pass
needs, checking. It leads to the same calls on the same tensors for as long as the module stays as
it is. So the first call of a module on inputs of some kind is recorded together with its backward
pass, and put back. It and those that follow replay it: each recorded call is replayed into the
tensor that it made the first time, unseen by autograd. Outputs and gradients that are handed out
are new tensors. There is one set of tensors, so a call runs eagerly while the call before it awaits
its backward pass. So does one of so few calls of torch that a replay takes no less time.
"""

import contextlib
import operator
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minifw.plans.merging import merge
from minifw.plans.recording import Call, NotRepeatableError, OtherwiseError, Recorder, place

__all__ = ["disabled", "replay", "replay_step"]

MOST = 8  # captured calls of a module, for as many shapes, modes and the like
LARGEST = 2**24  # bytes of a captured call's tensors, at most an eighth of them parameters; with
# more, it is arithmetic that takes the time, and memory that counts

FEW = 8  # calls of torch of a module; what a replay copies and checks takes as long as the rules
MISSES = 2  # of a question's answer: the first one may be an input that is refused

_data = operator.attrgetter("data")
_requires_grad = operator.attrgetter("requires_grad")


class _State(threading.local):
    enabled = True


_state = _State()


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Context in which this thread runs modules eagerly: no call is captured or replayed."""
    before, _state.enabled = _state.enabled, False
    try:
        yield
    finally:
        _state.enabled = before


def replay(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, list[Tensor], Any] | None:
    """Return the output of a captured call, the tensors that may not change, and its pullback.

    None if the call has to run eagerly.

    Raises:
        RuntimeError: a class that is declared capturable does not repeat its calls of torch.
    """
    captured = _find((module,), inputs) if _state.enabled else None
    output = None if captured is None else captured.run(module.rule, inputs)
    if captured is None or output is None:
        return None
    passes: Any = captured.passes
    pullback = partial(passes.pull)
    outputs = output if isinstance(output, tuple) else (output,)
    captured.pending = weakref.ref(pullback)
    module._is_brief = captured.trusted and len(passes.signature) < FEW
    return output, [*inputs, *outputs, *passes.weights], pullback


def replay_step(model: Any, criterion: Any, input: Tensor, target: Tensor) -> Tensor | None:
    """Return the loss of a batch, after adding to the gradients of ``model``, in one captured call.

    The four passes of a small network's step, of model and criterion, take almost twice as long
    one by one. None if they have to be made.

    Raises:
        RuntimeError: as :func:`replay`.
    """

    # Python evaluates annotations of an inner function in every call of the outer: keep them short.
    def differentiate(input: Any, target: Any) -> Any:
        output, pullback = model.rule(input)
        loss, pullback_loss = criterion.rule(output, target)
        pullback(pullback_loss(criterion.default_grad(loss))[0], needs_input_grad=False)
        return loss, None

    captured = _find((model, criterion), (input, target)) if _state.enabled else None
    return None if captured is None else captured.run(differentiate, (input, target))


def _find(modules: tuple[Any, ...], inputs: tuple[Any, ...]) -> "_Captured | None":
    """Return what was captured, or can be, for such inputs and for modules in their state."""
    if not inputs:
        return None
    kind: list[Any] = [modules[1:]]
    for value in inputs:
        if type(value) is not Tensor or value.requires_grad:
            return None
        kind += value.shape, value.stride(), value.dtype, value.device
    known: list[_Captured] = modules[0]._captured
    for captured in known:
        if captured.fits(kind):
            return captured if captured.possible and captured.pending() is None else None
    if len(known) == MOST:
        return None
    known.append(_Captured(modules, kind))
    return known[-1] if known[-1].possible else None


class _Calls(NamedTuple):
    """Recorded calls.

    Attributes:
        inputs: what they read.
        undo: how to read, and to put back, what they change before all questions are answered.
        calls: the calls.
        grads: the gradients that they make, by parameter.
        result: makes what is handed out, in new tensors.
        unseen: autograd has nothing to see, and every call is faster by a tenth if it does not
            look.
    """

    inputs: list[Tensor]
    undo: list[tuple[Callable[[], Any], Callable[[Any], object]]]
    calls: list[Callable[[], object]]
    grads: list[tuple[Any, Tensor]]
    result: Callable[[], Any]
    unseen: Any

    def replay(self, inputs: tuple[Tensor, ...]) -> Any:
        """Make the calls on other inputs, and return the result.

        Raises:
            OtherwiseError: a question has another answer; all is as it was.
        """
        # Read before the calls change the ones that were lent.
        earlier = [(p, p.grad) for p, _ in self.grads if p._grad is not None and p.requires_grad]
        with self.unseen:
            for copy, value in zip(self.inputs, inputs, strict=True):
                copy.copy_(value)
            before = [(put_back, read()) for read, put_back in self.undo]
            try:
                for call in self.calls:
                    call()
            except OtherwiseError:
                for put_back, state in before:
                    put_back(state)
                raise
        for parameter, grad in self.grads:
            if parameter.requires_grad:  # not frozen between the call and its backward pass
                parameter._grad, parameter._lent = grad, True
        for parameter, grad in earlier:
            parameter.add_grad(grad)
        return self.result()


class _Passes(NamedTuple):
    """A captured call.

    Attributes:
        forward, backward: its passes; ``backward`` is None if ``forward`` is the whole step.
        backward_to_parameters: what of ``backward`` the gradients of parameters need.
        weights: the tensors of parameters that ``backward`` reads.
        signature: what has to be the same if the call is recorded again.
    """

    forward: _Calls
    backward: _Calls | None
    backward_to_parameters: _Calls | None
    weights: list[Tensor]
    signature: list[Any]

    def pull(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """The pullback."""
        calls = self.backward if needs_input_grad else self.backward_to_parameters
        return calls.replay(grad_outputs)  # type: ignore[union-attr]


class _Captured:
    """A call of modules, on inputs of one kind and with the modules in one state.

    It runs eagerly if there are hooks or functions of the user's, or classes that are not declared
    capturable; if the tensors are too large; and once a question has had another answer twice.
    """

    def __init__(self, modules: tuple[Any, ...], kind: list[Any]) -> None:
        parts = [part for module in modules for part in module.modules()]
        self._kind = kind
        self._parameters = [p for module in modules for p in module.parameters()]
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        # Not the first module itself, which would never be let go of.
        self._attributes = [vars(part).values() for part in parts]
        self._seen = [*self._state()]
        self.possible = (
            8 * sum(parameter.data.nbytes for parameter in self._parameters) <= LARGEST
            and all(type(part)._capturable and not part._backward_hooks for part in parts)
            and not any(callable(value) and value not in parts for value in self._seen)
        )
        # A user's class may be declared capturable and not be: it is captured twice, and compared.
        self.trusted = all(type(part).__module__.startswith("minifw.") for part in parts)
        self.passes: _Passes | None = None
        self._missed = 0  # calls in which a question had another answer
        self.pending: Callable[[], Any] = lambda: None  # the pullback of a pending call

    def _state(self) -> Iterator[Any]:
        """All that the calls depend on, and a mark of its end."""
        of_parameters = map(_data, self._parameters), map(_requires_grad, self._parameters)
        return chain(*self._attributes, *of_parameters, (...,))

    def fits(self, kind: list[Any]) -> bool:
        """Whether it is for inputs of this kind, and for modules that are as they were."""
        return kind == self._kind and all(map(operator.is_, self._state(), self._seen))

    def run(self, rule: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        """Return the output of ``rule``, replayed; None if it has to be called eagerly.

        Raises:
            RuntimeError: as :func:`replay`.
        """
        if self.passes is None or not self.trusted:
            earlier, self.passes = self.passes, self._capture(rule, inputs)
            if self.passes is None:
                self.possible = False
                return None
            self.trusted |= earlier is not None
            if earlier is not None and earlier.signature != self.passes.signature:
                self.possible = False
                raise RuntimeError(
                    "a class declared with capturable=True made other calls of torch in its "
                    "second call than in its first, which is what a replay would repeat; leave "
                    "capturable out"
                )
        try:
            return self.passes.forward.replay(inputs)
        except OtherwiseError:
            self._missed += 1
            if self._missed == MISSES:
                self.possible, self.passes = False, None
            return None

    def _capture(self, rule: Callable[..., Any], inputs: tuple[Tensor, ...]) -> _Passes | None:
        """Make the call, record it, and put everything back; None if it cannot be repeated."""
        recorder = Recorder(LARGEST)
        before = [(buffer.copy_, buffer.clone()) for buffer in self._buffers]
        grads = [(parameter, parameter._grad, parameter._lent) for parameter in self._parameters]
        try:
            with (
                disabled(),
                warnings.catch_warnings(action="error"),
                torch.random.fork_rng([value.device for value in inputs if value.is_cuda]),
                torch.inference_mode(),
            ):
                for parameter in self._parameters:
                    parameter.grad = None
                return self._record(recorder, rule, inputs)
        except Exception:  # the eager call that follows raises it again, or warns
            return None
        finally:
            for put_back, state in (*before, *recorder.before):
                put_back(state)
            for parameter, grad, lent in grads:
                parameter._grad, parameter._lent = grad, lent

    def _record(
        self, recorder: Recorder, rule: Callable[..., Any], inputs: tuple[Tensor, ...]
    ) -> _Passes:
        copies = [value.clone() for value in inputs]
        recorder.give([*copies, *map(_data, self._parameters), *self._buffers])
        with recorder:
            output, pullback = rule(*copies)
        undo, forward, recorder.calls = recorder.undo, recorder.calls, []
        outputs = output if isinstance(output, tuple) else (output,)
        if pullback is None:
            grads = self._grads()
            signature = _signature(forward)
            forward = merge(forward, recorder.given, [output, *(grad for _, grad in grads)])
            step = _calls(copies, undo, forward, grads, output, [], set())
            return _Passes(step, None, None, [], signature)
        grad_outputs = [torch.ones_like(tensor) for tensor in outputs]
        recorder.give(grad_outputs)
        with recorder:
            grad_inputs = pullback(*grad_outputs)
        grads, backward = self._grads(), recorder.calls
        signature = _signature([*forward, *backward])
        results = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
        others = [t for t in (*outputs, *results) if isinstance(t, Tensor)]
        others += [grad for _, grad in grads]
        others += [tensor for call in forward for tensor in call.tensors()]
        written = frozenset().union(*(call.writes for call in backward))
        if not written.issuperset(place(grad) for _, grad in grads) or recorder.undo is not undo:
            raise NotRepeatableError
        kept = {place(grad) for _, grad in grads}  # before they move
        backward = merge(backward, recorder.given, others)
        touched = frozenset().union(*(call.touches for call in backward))
        needed = _needed(backward, kept)
        return _Passes(
            _calls(copies, undo, forward, [], output, backward, set()),
            _calls(grad_outputs, [], backward, grads, grad_inputs, [], kept),
            _calls(grad_outputs, [], needed, grads, None, [], kept),
            [p.data for p in self._parameters if place(p.data) in touched],
            signature,
        )

    def _grads(self) -> list[tuple[Any, Tensor]]:
        return [(p, p._grad) for p in self._parameters if p._grad is not None]


def _calls(
    inputs: list[Tensor],
    undo: list[Any],
    calls: list[Call],
    grads: list[tuple[Any, Tensor]],
    result: Any,
    later: list[Call],
    kept: set[int],
) -> _Calls:
    make = _anew(result, calls, later, kept)  # takes out a call
    return _Calls(inputs, undo, [call.again for call in calls], grads, make, torch.inference_mode())


def _anew(result: Any, calls: list[Call], later: list[Call], kept: set[int]) -> Any:
    """Return what makes ``result`` anew: its call, taken out of ``calls``, or else a copy.

    Args:
        result: a tensor, or a tuple in which there may be other values.
        calls: the calls that made it.
        later: calls that follow them.
        kept: places of tensors that are needed where they are.
    """
    if isinstance(result, tuple):
        return lambda: tuple([t.clone() if isinstance(t, Tensor) else t for t in result])
    if not isinstance(result, Tensor):
        return lambda: result
    for number, call in enumerate(calls):
        in_place = any(value is call.result for value in call.args)
        others = [*calls[number + 1 :], *later]
        may_move = not in_place and call.writes.isdisjoint(kept) and call.may_pass(others)
        if call.result is result and may_move:
            del calls[number]
            return partial(call.function, *call.args, **call.keywords)
    return result.clone


def _needed(calls: list[Call], results: set[int]) -> list[Call]:
    """Return the calls that what lies at the places ``results`` depends on."""
    places, needed = {*results}, []
    for call in reversed(calls):
        if not call.writes.isdisjoint(places):
            places |= call.touches
            needed.append(call)
    return needed[::-1]


def _signature(calls: list[Call]) -> list[Any]:
    """Return what equal recordings have in common: functions, settings, and how tensors relate."""
    numbers: dict[int, int] = {}

    def describe(value: Any) -> Any:
        if isinstance(value, Tensor):
            number = numbers.setdefault(place(value), len(numbers))
            return number, value.shape, value.stride(), value.storage_offset(), value.dtype
        return [*map(describe, value)] if isinstance(value, list | tuple) else value

    return [
        (call.function.__name__, describe([call.args, [*call.keywords.items()], call.result]))
        for call in calls
    ]
