"""Module: what every layer, loss and model is, and the explicit backward pass."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback, as_tuple, forward_pass, modified, versions
from minifw.nn.tape import Tape
from minifw.nn.tree import ModuleTree

__all__ = ["Module"]


class Module(ModuleTree):
    """Base class of every layer, loss and model.

    A subclass assigns parameters and sub-modules to attributes and defines one of two methods. It
    never defines ``backward``.

    - ``forward(*inputs)`` calls other modules and returns the output, as in torch; the backward
      pass comes from the calls themselves, through a :class:`~minifw.nn.tape.Tape`.
    - ``rule(*inputs)`` computes on tensors and returns output and pullback: the closure that maps
      the gradient of the output to that of each input (:mod:`minifw.nn.rule`).

    >>> from minifw import nn
    >>> module = nn.ReLU()
    >>> module(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    >>> module.backward(torch.tensor([10.0, 10.0]))
    tensor([ 0., 10.])

    Attributes:
        training (bool): set by :meth:`train` and :meth:`eval`; default True.
    """

    # What belongs to this very object and not to its state: the calls not yet gone back through
    # (outputs, tensors to watch, their versions, pullback), and the plans of its training steps.
    __slots__ = ("_calls", "_plans")
    _calls: list[tuple[tuple[Tensor, ...], list[Tensor], list[int], Pullback]]
    _plans: list[Any]
    _backward_hooks: Mapping["_Handle", Callable[..., Any]] = MappingProxyType({})

    def __new__(cls, *_args: object, **_options: object) -> Self:
        module = super().__new__(cls)
        module._calls, module._plans = [], []
        return module

    def __init_subclass__(cls) -> None:
        if "forward" in vars(cls) and "rule" not in vars(cls):
            # What a subclass defines last is what runs, whichever of the two it is.
            cls.rule = Module.rule  # type: ignore[method-assign]

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the output, by calling other modules."""
        raise NotImplementedError(
            f"{type(self).__name__} defines no forward; define forward (calls of other modules) or "
            "rule (output and pullback)"
        )

    def rule(self, *inputs: Any, **options: Any) -> tuple[Any, Pullback]:
        """Return the output and the pullback; by default those of ``forward``."""
        outer, tape = forward_pass.tape, Tape(inputs)
        forward_pass.tape = tape
        try:
            output = self.forward(*inputs, **options)
        finally:
            forward_pass.tape = outer
        tape.close(as_tuple(output))
        return output, tape.pullback

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return the output, and keep what :meth:`backward` needs.

        Raises:
            RuntimeError: ``forward`` computes on tensors other than by calling modules; or an error
                of torch's, with the path of the module in which it arose in front.
        """
        tape = forward_pass.tape
        if tape is not None:
            return tape.call(self, inputs, options)
        for place, value in enumerate(inputs):
            if isinstance(value, Tensor) and (
                value.requires_grad or (place and any(value is one for one in inputs[:place]))
            ):
                # Unknown to autograd, and told apart from the same tensor in another place.
                inputs = (*inputs[:place], value.detach(), *inputs[place + 1 :])
        try:
            output, pullback = self.call_rule(*inputs, **options)
        except Exception as error:
            self._name_the_failed(error)
            raise
        outputs = as_tuple(output)
        for tensor in outputs:
            if tensor.requires_grad:
                raise RuntimeError(
                    f"{self._describe()}: a parameter or a keyword argument requires grad in "
                    "autograd's sense, so autograd would record what minifw differentiates by "
                    "hand; detach() it"
                )
        if forward_pass.recording:
            tensors = [tensor for tensor in inputs + outputs if isinstance(tensor, Tensor)]
            self._calls.append((outputs, tensors, versions(tensors), pullback))
        return output

    def call_rule(self, *inputs: Any, **options: Any) -> tuple[Any, Pullback]:
        """:meth:`rule`, with the backward hooks, and its errors marked with this module."""
        try:
            output, pullback = self.rule(*inputs, **options)
        except Exception as error:
            vars(error).setdefault("failed_in", self)  # the innermost is the one to name
            raise
        if not self._backward_hooks:
            return output, pullback

        def pullback_and_hooks(*grad_outputs: Any, **options: Any) -> Any:
            grads = pullback(*grad_outputs, **options)
            for hook in list(self._backward_hooks.values()):
                replaced = hook(self, as_tuple(grads), grad_outputs)
                if replaced is not None:
                    several = as_tuple(replaced)
                    grads = several if len(several) > 1 else several[0]
            return grads

        return output, pullback_and_hooks

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> "_Handle":
        """Have ``hook(module, grad_input, grad_output)`` called in the backward pass.

        So the gradient of any tensor in between can be read, since each is the output of a module,
        within a :class:`Sequential` or a ``forward`` alike.

        >>> from minifw import nn
        >>> grads = []
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> handle = model[0].register_full_backward_hook(
        ...     lambda module, grad_input, grad_output: grads.append(grad_output[0])
        ... )
        >>> output = model(torch.ones(4, 2))
        >>> grad_input = model.backward(torch.ones(4, 3))
        >>> grads[0].shape  # of the gradient of the output of the first layer
        torch.Size([4, 3])
        >>> handle.remove()

        A module called several times calls its hook as often, the latest call first. A pass with
        ``needs_input_grad=False`` leaves out, as torch does, what only frozen modules lie behind.

        Args:
            hook: called with two tuples, the gradients of inputs and of outputs, None for one that
                is not computed; what it returns, if not None, replaces the gradient of the input
                (a tuple for several). It applies to calls after it was registered.

        Returns:
            A handle whose ``remove()`` takes the hook away.

        Source: :meth:`torch.nn.Module.register_full_backward_hook`; report 003 (``grad_v``).
        """
        handle = _Handle(self)
        self._backward_hooks = {**self._backward_hooks, handle: hook}
        return handle

    def _name_the_failed(self, error: Exception) -> None:
        failed = vars(error).pop("failed_in", self)
        path = next((name for name, module in self.named_modules() if module is failed), "")
        if error.args and isinstance(error.args[0], str):
            where = f"{path} {failed._describe()}" if path else failed._describe()
            error.args = (f"{where}: {error.args[0]}", *error.args[1:])

    def backward(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """Go back through the latest call that has not yet been gone back through.

        Adds to the ``grad`` of every parameter of the call that has ``requires_grad``.

        Args:
            grad_outputs: gradient of the loss in each output, in its shape and dtype; may be left
                out for a scalar output, whose gradient is then 1.
            needs_input_grad: False saves the work that only the inputs' gradients need; what is
                returned is then unspecified. Default: True.

        Returns:
            The gradient of the input, or a tuple of one for each positional argument; None for
            what is no tensor, has no influence on the outputs or is the target of a loss.

        Raises:
            RuntimeError: no call awaits its backward pass; ``grad_outputs`` do not fit the outputs;
                a tensor that is needed was modified in place.
            TypeError: a gradient is not a tensor.
        """
        if not self._calls:
            raise RuntimeError(
                f"{self._describe()}: no call awaits its backward pass; call the module first, "
                "outside no_grad, once for each backward. Calls made inside another module are "
                "gone back through by that module"
            )
        outputs, tensors, then, pullback = self._calls[-1]
        try:
            grads = _checked_grads(grad_outputs, outputs)
            now = versions(tensors)
            if now != then:
                changed = next(i for i, number in enumerate(then) if number != now[i])
                raise RuntimeError(modified("an input or output", tensors[changed]))
        except (RuntimeError, TypeError) as error:
            raise type(error)(f"{self._describe()}.backward: {error}") from None
        # Memory: what the call holds is let go of as the pass goes on, the first gradient included.
        self._calls.pop()
        del outputs, tensors, grad_outputs
        single = len(grads) == 1
        if not needs_input_grad:
            if not self.is_trained():
                return None
            if single:
                return pullback(grads.pop(), needs_input_grad=False)
            return pullback(*grads, needs_input_grad=False)
        grad = pullback(grads.pop()) if single else pullback(*grads)
        if isinstance(grad, tuple):
            return tuple([None if part is NOT_DIFFERENTIATED else part for part in grad])
        return None if grad is NOT_DIFFERENTIATED else grad

    def __getstate__(self) -> dict[str, Any]:
        # A copy shares no pending backward pass and no plan, which fill the original's gradients.
        return vars(self)


class _Handle:
    """What takes a hook away."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def remove(self) -> None:
        """Take the hook away, if that has not been done."""
        hooks = self._module._backward_hooks.items()
        self._module._backward_hooks = {key: hook for key, hook in hooks if key is not self}


def _checked_grads(given: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """``given``, or 1 for a scalar output, once it is seen to fit ``outputs``."""
    if not given and len(outputs) == 1:
        if outputs[0].numel() != 1:
            raise RuntimeError(
                "grad_output can be left out only for a scalar output, but the output has shape "
                f"{list(outputs[0].shape)}; pass the gradient of the loss in it"
            )
        return [torch.ones_like(outputs[0])]
    if len(given) != len(outputs):
        raise RuntimeError(f"expected {len(outputs)} gradients, one an output, got {len(given)}")
    for grad, output in zip(given, outputs, strict=True):
        if not isinstance(grad, Tensor):
            raise TypeError(f"grad_output must be a torch.Tensor, got {type(grad).__name__}")
        if grad.shape != output.shape or grad.dtype != output.dtype:
            raise RuntimeError(
                f"grad_output must be as the output, {_facts(output)}, got {_facts(grad)}"
            )
    return [grad.detach() if grad.requires_grad else grad for grad in given]


def _facts(tensor: Tensor) -> str:
    return f"shape {list(tensor.shape)} and {tensor.dtype}"
