"""Plans: what a training step calls of torch, recorded once and then only made again.

At small widths most of a step is Python: finding each module's rule, keeping what the backward pass
needs, checking. It leads to the same calls on the same tensors for as long as the model stays as it
is. So the first step on a batch of some shape is recorded as it goes through the rules; those that
follow make its calls again, each into the tensor that it made the first time, with fewer calls
where layers are alike, and unseen by autograd. What is handed out, the loss and the gradients, is
new in each step. Questions that a rule asks of values, as losses do that check their targets, are
asked again, and the calls hold only for the same answers.
"""

import contextlib
import operator
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.parameter import Parameter
from minifw.nn.tape import forward_pass
from minifw.plans.composition import only_calls_modules
from minifw.plans.merging import merge
from minifw.plans.recording import Call, OtherwiseError, Recorder

__all__ = ["differentiate", "disabled"]

MOST = 8  # plans of a model, for as many shapes, modes and the like
LARGEST = 2**24  # bytes of a plan's tensors, at most an eighth of them parameters; with more, it is
# arithmetic that takes the time, and memory that counts

_data = operator.attrgetter("data")
_requires_grad = operator.attrgetter("requires_grad")


class _State(threading.local):
    enabled = True


_state = _State()


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Context in which this thread runs training steps eagerly: none is captured or replayed."""
    before, _state.enabled = _state.enabled, False
    try:
        yield
    finally:
        _state.enabled = before


def differentiate(model: Any, criterion: Any, input: Any, target: Any) -> Tensor:
    """Return the loss of a batch, and add to the gradients of the model's parameters."""
    if (
        isinstance(model, Module)
        and isinstance(criterion, Module)
        and type(input) is type(target) is Tensor
        and not (input.requires_grad or target.requires_grad)
        and _state.enabled
        and forward_pass.recording
        and forward_pass.tape is None
    ):
        plans: list[_Plan] = model._plans
        for plan in plans:
            if plan.fits(criterion, input, target):
                return plan.run(model, input, target)
        if len(plans) < MOST and _small_and_clear([*model.parameters()]):
            plan = _Plan(model, criterion, input, target)
            loss = plan.record(model, input, target)
            plans.append(plan)
            return loss
    return _follow_the_rules(model, criterion, input, target)


def _small_and_clear(parameters: list[Parameter]) -> bool:
    """Whether the parameters leave room for a plan's tensors, and none has a gradient."""
    size = sum(parameter.data.nbytes for parameter in parameters)
    return 8 * size <= LARGEST and all(parameter.grad is None for parameter in parameters)


def _follow_the_rules(model: Any, criterion: Any, input: Any, target: Any) -> Tensor:
    loss: Tensor = criterion(model(input), target)
    model.backward(criterion.backward(), needs_input_grad=False)
    return loss


class _Calls(NamedTuple):
    """What a step consists of.

    Attributes:
        batch: what the calls read, inputs and targets.
        again: the calls.
        undo: how to read, and to put back, what they change before all questions are answered.
        loss: makes the loss, in a new tensor.
        grads: the gradients, by parameter.
    """

    batch: tuple[Tensor, Tensor]
    again: list[Callable[[], object]]
    undo: list[tuple[Callable[[], Any], Callable[[Any], object]]]
    loss: Callable[[], Tensor]
    grads: list[tuple[Parameter, Tensor]]


class _Plan:
    """The calls of a step on batches of one shape.

    There are none, and each step goes by the rules, if there are hooks, or modules of the user's
    that do more than call others, so that a step may do more than call torch; if the tensors are
    too large; or from the step on in which a question has another answer, which first puts back
    what it has changed until then.
    """

    def __init__(self, model: Module, criterion: Module, input: Tensor, target: Tensor) -> None:
        self._criterion = criterion  # but not the model, which would never be let go of
        self._kind = _kind(input, target)
        self._parameters = [*model.parameters(), *criterion.parameters()]
        modules = chain(model.modules(), criterion.modules())
        self._attributes = [vars(module).values() for module in modules]
        self._seen = [*self._state()]
        self._calls: _Calls | None = None
        # Autograd has nothing to see, and every call is faster by a tenth if it does not look.
        self._unseen = torch.inference_mode()

    def _state(self) -> Iterator[Any]:
        """All that the calls depend on, and a mark of its end."""
        of_parameters = map(_data, self._parameters), map(_requires_grad, self._parameters)
        return chain(*self._attributes, *of_parameters, (...,))

    def fits(self, criterion: Module, input: Tensor, target: Tensor) -> bool:
        """Whether it is for such a batch, and for a model that is as it was."""
        return (
            criterion is self._criterion
            and _kind(input, target) == self._kind
            and all(map(operator.is_, self._state(), self._seen))
        )

    def record(self, model: Module, input: Tensor, target: Tensor) -> Tensor:
        """Do the step by the rules, and note its calls if they are all that it does."""
        modules = [*model.modules(), *self._criterion.modules()]
        if any(module._backward_hooks or not only_calls_modules(module) for module in modules) or (
            any(callable(value) and not isinstance(value, Module) for value in self._seen)
        ):
            return _follow_the_rules(model, self._criterion, input, target)
        buffers = [*model.buffers(), *self._criterion.buffers()]
        with self._unseen:
            batch = input.clone(), target.clone()
            recorder = Recorder([*batch, *map(_data, self._parameters), *buffers], LARGEST)
            with recorder:
                loss = _follow_the_rules(model, self._criterion, *batch)
            grads = [(p, p.grad) for p in self._parameters if p.grad is not None]
            if recorder.possible:
                results = [loss, *(grad for _, grad in grads)]
                calls = merge(recorder.calls, recorder.given, results)
                make_loss = _anew(loss, calls)
                again = [call.again for call in calls]
                self._calls = _Calls(batch, again, recorder.undo, make_loss, grads)
        for parameter, grad in grads:
            parameter.lend_grad(grad)
        return loss.clone()

    def run(self, model: Module, input: Tensor, target: Tensor) -> Tensor:
        """Do the step on a batch."""
        if self._calls is None:
            return _follow_the_rules(model, self._criterion, input, target)
        batch, again, undo, loss, grads = self._calls
        earlier: list[tuple[Parameter, Any]] = [
            (p, p.grad) for p, _ in grads if p._grad is not None
        ]
        holds = True
        with self._unseen:
            torch._foreach_copy_(batch, (input, target))
            before = [(put_back, read()) for read, put_back in undo]
            try:
                for call in again:
                    call()
            except OtherwiseError:
                holds = False
        if not holds:  # and not within except, so that an error of the rules stands alone
            for put_back, state in before:
                put_back(state)
            by_the_rules = _follow_the_rules(model, self._criterion, input, target)
            self._calls = None
            return by_the_rules
        for parameter, grad in grads:
            parameter.lend_grad(grad)
        for parameter, sum_so_far in earlier:
            parameter.add_grad(sum_so_far)
        return loss()


def _anew(result: Tensor, calls: list[Call]) -> Callable[[], Tensor]:
    """What makes ``result`` in a new tensor: its call, taken out of ``calls``, or else a copy."""
    for number, call in enumerate(calls):
        in_place = any(value is call.result for value in call.args)
        if call.result is result and not in_place and call.may_pass(calls[number + 1 :]):
            del calls[number]
            return partial(call.function, *call.args, **call.keywords)
    return result.clone


def _kind(input: Tensor, target: Tensor) -> tuple[object, ...]:
    return input.shape, target.shape, input.dtype, target.dtype, input.device, target.device
