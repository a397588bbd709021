"""Plans: what a training step calls of torch, recorded once and then only made again.

At small widths most of a step is Python: finding each module's rule, keeping what the backward pass
needs, checking. It leads to the same calls on the same tensors for as long as the model stays as it
is. So the first step on a batch of some shape is recorded as it goes through the rules; those that
follow make its calls again, each into the tensor that it made the first time. What is handed out,
the loss and the gradients, is new in each step. Questions that a rule asks of values, as losses do
that check their targets, are asked again, and the calls hold only for the same answers.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minifw.nn.module import Module
from minifw.nn.parameter import Parameter
from minifw.nn.rule import forward_pass

__all__ = ["differentiate"]

MOST = 8  # plans of a model, for as many shapes, modes and the like
LARGEST = 2**24  # bytes of a plan's tensors, at most an eighth of them parameters; with more, it is
# arithmetic that takes the time, and memory that counts

# What looks at shapes alone, what does not depend on values, and what a copy does as well.
_LOOKS = {"__get__", "__len__", "dim", "element_size", "is_floating_point", "numel", "size"}
_FIXED = {"empty_like", "ones_like", "tensor"}
_CASTS = {"bool", "float", "long", "to"}

_data = operator.attrgetter("data")
_data_and_flag = operator.attrgetter("data", "requires_grad")


def differentiate(model: Any, criterion: Any, input: Any, target: Any) -> Tensor:
    """Return the loss of a batch, and add to the gradients of the model's parameters."""
    if (
        isinstance(model, Module)
        and isinstance(criterion, Module)
        and type(input) is type(target) is Tensor
        and not (input.requires_grad or target.requires_grad)
        and forward_pass.recording
        and forward_pass.tape is None
    ):
        plans: list[_Plan] = model._plans
        for plan in plans:
            if plan.fits(criterion, input, target):
                return plan.run(model, input, target)
        if len(plans) < MOST and _small_and_clear([*model.parameters()]):
            plan = _Plan(model, criterion, input, target)
            loss = plan.record(model)
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


class _OtherwiseError(Exception):
    """The answer to a question is not the one of the step that was recorded."""


class _Plan:
    """The calls of a step on batches of one shape.

    There are none, and each step goes by the rules, if there are modules of others, or hooks, which
    may do more than call torch; if the tensors are too large; or from the step on in which a
    question has another answer, which first puts back what it has changed until then.
    """

    def __init__(self, model: Module, criterion: Module, input: Tensor, target: Tensor) -> None:
        self._criterion = criterion  # but not the model, which would never be let go of
        self._batch: tuple[Tensor, ...] = (input.clone(), target.clone())
        self._kind = _kind(input, target)
        self._parameters = [*model.parameters(), *criterion.parameters()]
        modules = chain(model.modules(), criterion.modules())
        self._attributes = [vars(module).values() for module in modules]
        self._seen = [*self._state()]
        self._calls: list[Callable[[], Any]] = []
        self._trained: list[tuple[Any, int]] = []  # parameters, and which call makes the gradient

    def _state(self) -> Iterator[Any]:
        """All that the calls depend on, and a mark of its end."""
        of_parameters = map(_data_and_flag, self._parameters)
        return chain.from_iterable([*self._attributes, *of_parameters, (...,)])

    def fits(self, criterion: Module, input: Tensor, target: Tensor) -> bool:
        """Whether it is for such a batch, and for a model that is as it was."""
        return (
            criterion is self._criterion
            and _kind(input, target) == self._kind
            and all(map(operator.is_, self._state(), self._seen))
        )

    def record(self, model: Module) -> Tensor:
        """Do the step by the rules, and note its calls if they are all that it does."""
        buffers = chain(model.buffers(), self._criterion.buffers())
        recorder = _Recorder(chain(self._batch, map(_data, self._parameters), buffers))
        recorder.possible = not any(
            module._backward_hooks or not type(module).__module__.startswith("minifw.nn.")
            for module in chain(model.modules(), self._criterion.modules())
        ) and not any(callable(value) and not isinstance(value, Module) for value in self._seen)
        with recorder:
            loss = _follow_the_rules(model, self._criterion, *self._batch)
        if recorder.possible and not loss.is_inference():
            for parameter in self._parameters:
                if parameter.grad is not None:
                    self._trained.append((parameter, recorder.hand_out(parameter.grad)))
                    parameter.grad = parameter.grad.clone()
            self._loss = recorder.hand_out(loss)
            self._calls, self._undo = recorder.calls, recorder.undo
        else:
            self._batch = ()
        return loss.clone()

    def run(self, model: Module, input: Tensor, target: Tensor) -> Tensor:
        """Do the step on a batch."""
        if not self._calls:
            return _follow_the_rules(model, self._criterion, input, target)
        torch._foreach_copy_(self._batch, (input, target))
        before = [(put_back, read()) for read, put_back in self._undo]
        try:
            results: list[Tensor] = [*map(operator.call, self._calls)]
        except _OtherwiseError:
            results = []
        if not results:  # and not within except, so that an error of the rules stands alone
            for put_back, state in before:
                put_back(state)
            loss = _follow_the_rules(model, self._criterion, input, target)
            self._calls, self._batch = [], ()
            return loss
        for parameter, number in self._trained:
            parameter.add_grad(results[number])
        return results[self._loss]


class _Recorder(TorchFunctionMode):
    """Notes calls of torch so that they can be made again, when what was given has other values.

    What returns a view is not made again, as the tensor that it is of stays.

    Args:
        given: the tensors whose values change from step to step.

    Attributes:
        calls: in their order.
        possible: whether these calls are all that the results depend on.
        undo: how to read, and to put back, what the calls up to the last question change.
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []
        self.possible = True
        self._given = set(map(_place, given))
        self._changing = {*self._given}
        self.undo: list[Any] = []
        self._changed: dict[int, Any] = {}  # by id of a generator or a tensor that was given
        self._kept: list[Tensor] = []  # so that no two have had one place
        # By id of what no other call has taken: which call made it, and that call, making it anew.
        self._made: dict[int, tuple[int, Callable[[], Any]]] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        call, name = partial(function, *args, **(kwargs or {})), function.__name__
        result = call()
        given, made = list(_tensors([args, *call.keywords.values()])), list(_tensors([result]))
        places = set(map(_place, given))
        new = {_place(tensor) for tensor in made} - places
        if not self.possible or (name in _LOOKS and not made):
            return result
        self._kept += made if new else []
        for tensor in given if name not in _FIXED else ():
            self._made.pop(id(tensor), None)
        if "generator" in call.keywords:
            source = call.keywords["generator"] or torch.default_generator
            known = source.device == result.device
            self._changed[id(source)] = (source.get_state, source.set_state) if known else None
        if any(result is tensor for tensor in given):  # in place
            self.possible = _place(result) in self._changing
            if name not in _CASTS and _place(result) in self._given:
                self._changed[id(result)] = result.clone, result.copy_
            self.calls.append(call)
        elif new and result is made[0]:
            self.possible = sum(tensor.nbytes for tensor in self._kept) <= LARGEST
            if name == "empty_like":
                self._changing |= new
            elif name not in _FIXED and not (places and places.isdisjoint(self._changing)):
                self._changing |= new
                self._made[id(result)] = len(self.calls), call
                self.calls.append(_into(result, call))
        elif made:  # views
            self.possible = not new
        else:
            self.undo = [*self._changed.values()]
            self.possible = result is not None and None not in self.undo
            self.calls.append(partial(_ask, call, result))
        if not self.possible:
            for held in (self.calls, self._kept, self._made, self._changed, self.undo):
                held.clear()
        return result

    def hand_out(self, result: Tensor) -> int:
        """Have a call return ``result`` anew; return its number."""
        number, call = self._made.get(id(result), (len(self.calls), result.clone))
        self.calls[number : number + 1] = [call]
        return number


def _ask(call: Callable[[], object], answer: object) -> None:
    if call() != answer:
        raise _OtherwiseError


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


def _kind(input: Tensor, target: Tensor) -> tuple[object, ...]:
    return input.shape, target.shape, input.dtype, target.dtype, input.device, target.device


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among ``values``, and in the lists and tuples there."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
