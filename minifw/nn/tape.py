"""The tape: gives a module whose ``forward`` calls other modules its backward pass.

It records the calls of one ``forward`` in order and goes back through them in reverse. Tensors are
told apart by identity; gradients are added where a tensor was used more than once.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from minifw.nn.parameter import Parameter
from minifw.nn.rule import (
    NOT_DIFFERENTIATED,
    Pullback,
    as_tuple,
    forward_pass,
    modified,
    not_differentiated,
    version,
)

if TYPE_CHECKING:
    from minifw.nn.module import Module

__all__ = ["Tape"]


class Tape:
    """The calls of one ``forward``, and the way back through them.

    Args:
        inputs: the positional arguments of ``forward``.
    """

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs
        self._outputs: tuple[Tensor, ...] = ()
        self._calls: list[tuple[Module, tuple[Any, ...], tuple[Tensor, ...], Pullback]] = []
        # Every tensor of this forward, by identity, and how often it had been modified in place.
        self._known: dict[int, tuple[Tensor, int]] = {}
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                self._add(tensor)

    def _add(self, tensor: Tensor) -> None:
        self._known[id(tensor)] = (tensor, version(tensor))

    def _check(self, module: "Module | None", tensor: Tensor) -> None:
        """Refuse a tensor, given to ``module`` or returned, that is unknown or was modified."""
        if id(tensor) not in self._known:
            what = "an output of forward"
            if module is not None:
                what = f"a tensor given to {type(module).__name__}"
            raise RuntimeError(
                f"{what}, of shape {list(tensor.shape)}, is neither an input of this forward nor "
                "the output of a module called in it, so its gradient would be lost; call a module "
                "in place of bare arithmetic, and hold a constant in a Parameter with "
                "requires_grad=False"
            )
        if version(tensor) != self._known[id(tensor)][1]:
            raise RuntimeError(modified("a tensor", tensor))

    def call(self, module: "Module", inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call ``module`` and add the call to the tape.

        Raises:
            RuntimeError: an input was made by arithmetic that the tape did not see, or modified.
        """
        values = inputs
        for value in inputs:
            if isinstance(value, Tensor):
                self._check(module, value)
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
        """End the forward, which returned ``outputs``."""
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(
                    "forward must return a tensor or a tuple of tensors, "
                    f"got {type(output).__name__}"
                )
            self._check(None, output)
        self._outputs = outputs

    def pullback(self, *grad_outputs: Tensor | None, needs_input_grad: bool = True) -> Any:
        """Go back through the calls: the pullback of the module whose forward was recorded."""
        for tensor, then in self._known.values():
            if version(tensor) != then:
                raise RuntimeError(modified("a tensor", tensor))
        trained = self._trained()
        grads: dict[int, Tensor] = {}
        lost: set[int] = set()  # tensors whose influence is not, or not all, in their gradient
        for output, grad_output in zip(self._outputs, grad_outputs, strict=True):
            _accumulate(grads, output, grad_output)
        while self._calls:
            # Popping lets go of what each call kept as soon as it has been used.
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
            for value, grad in zip(
                inputs, grads_in if len(inputs) > 1 else (grads_in,), strict=True
            ):
                if grad is NOT_DIFFERENTIATED:
                    if id(value) in trained:
                        raise RuntimeError(not_differentiated(module))
                    lost.add(id(value))
                elif type(value) is Parameter:
                    if grad is not None and value.requires_grad:
                        # A rule may hand on the tensor that it was given; this one is its own.
                        value.add_grad(grad.clone())
                else:
                    _accumulate(grads, value, grad)
        self._known.clear()
        grad_inputs = tuple(
            [
                NOT_DIFFERENTIATED if id(value) in lost else grads.get(id(value))
                for value in self._inputs
            ]
        )
        return grad_inputs[0] if len(grad_inputs) == 1 else grad_inputs

    def _trained(self) -> set[int]:
        """The identities of the parameters given to modules, and of the tensors, that are trained
        or behind which parameters lie that are."""
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
