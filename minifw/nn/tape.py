"""The tape: gives a module whose ``forward`` calls other modules its backward pass.

It records the calls of one ``forward`` in order and goes through them in reverse. It identifies
tensors by ``id`` and adds up the gradients of a tensor that was used more than once.
"""

import contextlib
import threading
from typing import Any

from torch import Tensor

from minifw.nn.parameter import Parameter
from minifw.nn.rule import NOT_DIFFERENTIATED, HasRule, Pullback, as_tuple, not_differentiated
from minifw.nn.versions import modified, version

__all__ = ["Tape", "no_grad"]


class Tape:
    """The calls of one ``forward``, and the backward pass through them.

    Args:
        inputs: the positional arguments of ``forward``.
    """

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs
        self._outputs: tuple[Tensor, ...] = ()
        self._calls: list[tuple[HasRule, tuple[Any, ...], tuple[Tensor, ...], Pullback]] = []
        # Every tensor of this forward, by id, with its version.
        self._known: dict[int, tuple[Tensor, int]] = {}
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                self._add(tensor)

    def _add(self, tensor: Tensor) -> None:
        self._known[id(tensor)] = (tensor, version(tensor))

    def _check(self, tensor: Tensor, what: str) -> None:
        """Raise RuntimeError for a tensor that is unknown or was modified in place."""
        if id(tensor) not in self._known:
            raise RuntimeError(
                f"{what}, of shape {list(tensor.shape)}, is neither an input of this forward nor "
                "the output of a module called in it, so its gradient would be lost; call a module "
                "in place of bare arithmetic, and hold a constant in a Parameter with "
                "requires_grad=False"
            )
        if version(tensor) != self._known[id(tensor)][1]:
            raise RuntimeError(modified("a tensor", tensor))

    def call(self, module: HasRule, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call ``module`` and record the call.

        Raises:
            RuntimeError: an input was computed by bare arithmetic, or modified in place.
        """
        values = inputs
        for value in inputs:
            if isinstance(value, Tensor):
                self._check(value, f"a tensor given to {type(module).__name__}")
            elif type(value) is Parameter:
                values = tuple([v.data if type(v) is Parameter else v for v in inputs])
        output, pullback = module.call_rule(*values, **options)
        outputs = as_tuple(output)
        for tensor in outputs:
            self._add(tensor)
        if forward_pass.recording:
            self._calls.append((module, inputs, outputs, pullback))
        return output

    def close(self, outputs: tuple[Any, ...]) -> None:
        """End the recording of a forward that returned ``outputs``.

        Raises:
            TypeError: an output is not a tensor.
            RuntimeError: an output was computed by bare arithmetic, or modified in place.
        """
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(
                    "forward must return a tensor or a tuple of tensors, "
                    f"got {type(output).__name__}"
                )
            self._check(output, "an output of forward")
        self._outputs = outputs

    def pullback(self, *grad_outputs: Tensor | None, needs_input_grad: bool = True) -> Any:
        """Go through the calls in reverse: the pullback of the recorded ``forward``."""
        for tensor, then in self._known.values():
            if version(tensor) != then:
                raise RuntimeError(modified("a tensor", tensor))
        trained = self._trained()
        grads: dict[int, Tensor] = {}
        lost: set[int] = set()  # tensors whose gradient is unknown, at least in part
        for output, grad_output in zip(self._outputs, grad_outputs, strict=True):
            _accumulate(grads, output, grad_output)
        while self._calls:
            # Popping frees what each call kept as soon as it has been used.
            module, inputs, outputs, pull = self._calls.pop()
            if not lost.isdisjoint(map(id, outputs)):
                lost.update(map(id, inputs))
            grads_out = [grads.pop(id(tensor), None) for tensor in outputs]
            if all(grad is None for grad in grads_out):
                continue
            if needs_input_grad or not trained.isdisjoint(map(id, inputs)):
                grads_in = pull(*grads_out)
            elif not trained.isdisjoint(map(id, outputs)):
                grads_in = pull(*grads_out, needs_input_grad=False)
            else:
                continue
            if len(inputs) == 1:
                grads_in = (grads_in,)
            for value, grad in zip(inputs, grads_in, strict=True):
                if grad is NOT_DIFFERENTIATED:
                    if id(value) in trained:
                        raise RuntimeError(not_differentiated(module))
                    lost.add(id(value))
                elif type(value) is Parameter:
                    if grad is not None and value.requires_grad:
                        # A rule may return the tensor that it was given; a gradient is a new one.
                        value.add_grad(grad.clone())
                else:
                    _accumulate(grads, value, grad)
        self._known.clear()
        keys = map(id, self._inputs)
        result = tuple([NOT_DIFFERENTIATED if key in lost else grads.get(key) for key in keys])
        return result[0] if len(result) == 1 else result

    def _trained(self) -> set[int]:
        """Return the ids of all trained parameters, and of all tensors that depend on one."""
        trained: set[int] = set()
        for module, inputs, outputs, _ in self._calls:
            for value in inputs:
                if type(value) is Parameter and value.requires_grad:
                    trained.add(id(value))
            if not trained.isdisjoint(map(id, inputs)) or module.is_trained():
                trained.update(map(id, outputs))
        return trained


def _accumulate(grads: dict[int, Tensor], tensor: object, grad: Tensor | None) -> None:
    if grad is not None:
        key = id(tensor)
        grads[key] = grads[key] + grad if key in grads else grad


class _ForwardPass(threading.local):
    """The forward pass that runs in this thread."""

    tape: Tape | None = None  # of the innermost composed module
    recording: bool = True


forward_pass = _ForwardPass()


class no_grad(contextlib.ContextDecorator):  # noqa: N801 -- torch's name
    """Context in which calls keep nothing for a backward pass; also a decorator.

    As :class:`torch.no_grad`, for minifw alone: it leaves autograd's own mode as it is.
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(forward_pass.recording)
        forward_pass.recording = False

    def __exit__(self, *_: object) -> None:
        forward_pass.recording = self._before.pop()
