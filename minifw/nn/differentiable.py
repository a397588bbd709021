"""Differentiable: the call of a module, and the explicit backward pass through it."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from minifw.nn.origin import note_origin, origin
from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback, as_tuple
from minifw.nn.tape import Tape, forward_pass
from minifw.nn.versions import modified, version, versions
from minifw.plans.captured import replay

__all__ = ["Differentiable"]


# A call that awaits its backward pass: the thread that called; the outputs, and references to the
# caller's tensors, which share their memory; what may not change, and its versions; the pullback.
_Pending = tuple[
    int, tuple[Tensor, ...], list[weakref.ref[Tensor]], list[Tensor], list[int], Pullback
]


class Differentiable:
    """The half of :class:`~minifw.nn.Module` that computes: call, rule, hooks and backward.

    Args:
        capturable: keyword of the class statement, ``class ReLU(Module, capturable=True)``: all
            that its rule or forward does is to make the same calls of torch, or of modules,
            whenever its attributes and its inputs' shapes are the same, so that a call can be
            captured and replayed. It must not count, print, or branch on values. A class of a
            user's is captured twice, and refused if the two differ. It holds for this class alone,
            not for subclasses. Default: False.
    """

    # They belong to this object and not to its state: the pending calls, the captured calls,
    # whether a replay would take no less time, and the lock of the thread whose pass runs.
    __slots__ = ("__dict__", "__weakref__", "_captured", "_is_brief", "_lock", "_pending")
    _pending: list[_Pending]
    _captured: list[Any]
    _is_brief: bool
    _lock: Any
    _capturable = True
    _notes_origin = False  # whether a gradient handed out remembers what it is the gradient of
    _backward_hooks: Mapping["_Handle", Callable[..., Any]] = MappingProxyType({})

    def __new__(cls, *_args: object, **_options: object) -> Self:
        module = super().__new__(cls)
        module._pending, module._captured, module._is_brief = [], [], False
        module._lock = threading.RLock()
        return module

    def __init_subclass__(cls, capturable: bool = False) -> None:
        cls._capturable = capturable
        if "forward" in vars(cls) and "rule" not in vars(cls):
            # The method that a subclass defines last is the one that runs.
            cls.rule = Differentiable.rule  # type: ignore[method-assign]

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """Return this module and all below it, with their paths."""
        raise NotImplementedError

    def is_trained(self) -> bool:
        """Return whether any parameter here or below has ``requires_grad``."""
        raise NotImplementedError

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
        """Return the output, and keep what :meth:`backward` needs as long as the output exists.

        Raises:
            RuntimeError: ``forward`` computes on tensors other than by calling modules.
            Exception: an error of torch, with the path of the module in which it arose in front.
        """
        tape = forward_pass.tape
        if tape is not None:
            return tape.call(self, inputs, options)
        if not forward_pass.recording:
            return self._run(inputs, options)[0]
        with self._lock:
            thread, pending = threading.get_ident(), self._pending
            if pending:  # before this call, which may use the tensors that an ended one has left
                pending[:] = [call for call in pending if call[0] != thread or _is_held(call)]
            output, watched, pullback = self._run(inputs, options)
            then = versions(watched)
            # The pullback may hold the outputs, so the caller gets tensors of its own.
            if isinstance(output, tuple):
                handed_out = tuple([tensor.detach() for tensor in output])
                references = [*map(weakref.ref, handed_out)]
                pending.append((thread, output, references, watched, then, pullback))
                return handed_out
            own = output.detach()
            pending.append((thread, (output,), [weakref.ref(own)], watched, then, pullback))
            return own

    def _run(
        self, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Any, list[Tensor], Pullback]:
        """Return the output, the tensors that may not change, and the pullback."""
        try:
            if not (self._is_brief or options) and self._capturable and forward_pass.recording:
                captured = replay(self, inputs)
                if captured is not None:
                    return captured
            for place, value in enumerate(inputs):
                if isinstance(value, Tensor) and (
                    value.requires_grad
                    or (place and any(value is other for other in inputs[:place]))
                ):
                    # Hidden from autograd, and with an id of its own if it is passed twice.
                    inputs = (*inputs[:place], value.detach(), *inputs[place + 1 :])
            rule = self.call_rule if self._backward_hooks else self.rule
            output, pullback = rule(*inputs, **options)
        except Exception as error:
            self._add_path(error)
            raise
        outputs = output if isinstance(output, tuple) else (output,)
        for tensor in outputs:
            if tensor.requires_grad:
                raise RuntimeError(
                    f"{self._describe()}: a parameter or a keyword argument requires grad in "
                    "autograd's sense, so autograd would record what minifw differentiates by "
                    "hand; detach() it"
                )
        return output, [value for value in inputs + outputs if isinstance(value, Tensor)], pullback

    def call_rule(self, *inputs: Any, **options: Any) -> tuple[Any, Pullback]:
        """Call :meth:`rule`, add the backward hooks, and mark an error with this module."""
        try:
            output, pullback = self.rule(*inputs, **options)
        except Exception as error:
            vars(error).setdefault("failed_in", self)  # the innermost module sets it first
            raise
        if not self._backward_hooks:
            return output, pullback

        def pullback_and_hooks(*grad_outputs: Any, **options: Any) -> Any:
            grads = pullback(*grad_outputs, **options)
            for hook in list(self._backward_hooks.values()):
                replaced = hook(self, as_tuple(grads), grad_outputs)
                if replaced is not None:
                    grads = replaced
                    if isinstance(replaced, tuple) and len(replaced) == 1:
                        grads = replaced[0]
            return grads

        return output, pullback_and_hooks

    def _add_path(self, error: Exception) -> None:
        """Put the path of the module that raised ``error`` in front of its message."""
        failed = vars(error).pop("failed_in", self)
        path = next((name for name, module in self.named_modules() if module is failed), "")
        if error.args and isinstance(error.args[0], str):
            message = f"{path} {failed._describe()}: {error.args[0]}".lstrip()
            error.args = (message, *error.args[1:])

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> "_Handle":
        """Call ``hook(module, grad_input, grad_output)`` in each backward pass.

        Every intermediate tensor is the output of a module, so a hook can read any gradient, within
        a :class:`Sequential` and within a ``forward``.

        >>> from minifw import nn
        >>> grads = []
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> handle = model[0].register_full_backward_hook(
        ...     lambda module, grad_input, grad_output: grads.append(grad_output[0])
        ... )
        >>> output = model(torch.ones(4, 2))
        >>> grad_input = model.backward(torch.ones(4, 3))
        >>> grads[0].shape  # the gradient in the output of the first layer
        torch.Size([4, 3])
        >>> handle.remove()

        A module that was called several times runs its hook as often, the last call first. A pass
        with ``needs_input_grad=False`` skips, as torch, modules that only frozen ones precede.

        Args:
            hook: called with two tuples, the gradients of inputs and of outputs, None for a
                gradient that is not computed. If it returns a value other than None, that replaces
                the gradient of the input (a tuple for several). It applies to later calls only.

        Returns:
            A handle whose ``remove()`` removes the hook.

        Source: :meth:`torch.nn.Module.register_full_backward_hook`; report 003 (``grad_v``).
        """
        handle = _Handle(self)
        self._backward_hooks = {**self._backward_hooks, handle: hook}
        return handle

    def backward(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """Go backward through a pending call of this thread.

        It is the call that made the tensor that ``grad_outputs`` are the gradient of, if a
        criterion's ``backward`` returned them, and the most recent one otherwise. A call is pending
        until its backward pass, and at least until the next call, as long as one of its outputs
        exists.

        Adds to the ``grad`` of every parameter of the call that has ``requires_grad``.

        Args:
            grad_outputs: gradient of the loss in each output, in its shape and dtype. Default: 1,
                for a single scalar output.
            needs_input_grad: False skips the work that only the inputs' gradients need; the return
                value is then unspecified. Default: True.

        Returns:
            The gradient of the input, or a tuple with the gradient of each positional argument.
            None for an argument that is not a tensor, that the outputs do not depend on, or that is
            the target of a loss.

        Raises:
            RuntimeError: there is no pending call; ``grad_outputs`` do not fit the outputs, or are
                those of a tensor that no pending call made; a tensor that is needed was modified
                in place.
            TypeError: a gradient is not a tensor.
        """
        with self._lock:
            try:
                number = self._find(grad_outputs)
                _, outputs, _, watched, then, pullback = self._pending[number]
                if grad_outputs or len(outputs) > 1:
                    grads = _checked_grads(grad_outputs, outputs)
                else:
                    grads = [self.default_grad(outputs[0])]
                if versions(watched) != then:
                    changed = next(t for t, v in zip(watched, then, strict=True) if version(t) != v)
                    raise RuntimeError(modified("an input, output or weight", changed))
            except (RuntimeError, TypeError) as error:
                raise type(error)(f"{self._describe()}.backward: {error}") from None
            noted = (watched[0], *grad_outputs) if self._notes_origin else ()
            # Memory: nothing here may keep alive what the pass frees, the first gradient included.
            del self._pending[number], outputs, watched, grad_outputs
            if needs_input_grad:
                grad = pullback(grads.pop()) if len(grads) == 1 else pullback(*grads)
            elif not self.is_trained():
                return None
            elif len(grads) == 1:
                grad = pullback(grads.pop(), needs_input_grad=False)
            else:
                grad = pullback(*grads, needs_input_grad=False)
        if noted and grad[0] is not noted[-1]:  # not what was passed in
            note_origin(grad[0], noted[0])
        if isinstance(grad, tuple):
            return tuple([None if part is NOT_DIFFERENTIATED else part for part in grad])
        return None if grad is NOT_DIFFERENTIATED else grad

    def _find(self, grad_outputs: tuple[Any, ...]) -> int:
        """Return the place of the pending call that ``grad_outputs`` belong to."""
        thread, pending = threading.get_ident(), self._pending
        for number in range(len(pending) - 1, -1, -1):
            call = pending[number]
            if call[0] == thread and all(map(_may_be, grad_outputs, call[1])):
                return number
        if not any(call[0] == thread for call in pending):
            raise RuntimeError(
                "no call awaits its backward pass; call the module first, outside no_grad, once "
                "for each backward, and keep its output. A call made inside another module is part "
                "of that module's backward pass"
            )
        shapes = [list(tensor.shape) for tensor in map(origin, grad_outputs) if tensor is not None]
        raise RuntimeError(
            f"the gradient is that of a tensor of shape {', '.join(map(str, shapes))} that no "
            "pending call of this module made; call criterion(output, target), in this order, with "
            "the output itself. A gradient of your own making, even grad.clone(), belongs to the "
            "most recent call"
        )

    def default_grad(self, output: Tensor) -> Tensor:
        """Return the gradient of a loss in itself: 1.

        Raises:
            RuntimeError: it is not a scalar.
        """
        if output.numel() != 1:
            raise RuntimeError(
                "grad_output can be left out only for a scalar output, but the output has shape "
                f"{list(output.shape)}; pass the gradient of the loss in it"
            )
        return torch.ones_like(output)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has no pending call and no captured call: both fill the original's gradients.
        return vars(self)

    # Representation, as torch.

    # Names of the settings that the representation shows.
    _shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """Return the constructor arguments that the representation shows."""
        return ", ".join([f"{name}={getattr(self, name)!r}" for name in self._shown])

    def _describe(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class _Handle:
    """Removes a hook."""

    def __init__(self, module: Differentiable) -> None:
        self._module = module

    def remove(self) -> None:
        """Remove the hook, if it is still there."""
        hooks = self._module._backward_hooks.items()
        self._module._backward_hooks = {key: hook for key, hook in hooks if key is not self}


def _is_held(call: _Pending) -> bool:
    """Return whether the caller still has one of the outputs."""
    return any(reference() is not None for reference in call[2])


def _may_be(grad: object, output: Tensor) -> bool:
    """Return whether ``grad`` is a gradient of ``output``, or of a tensor that is not known."""
    of = origin(grad)
    return of is None or (of.data_ptr() == output.data_ptr() and of.shape == output.shape)


def _checked_grads(given: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Return ``given`` after checking that it fits ``outputs``."""
    if len(given) != len(outputs):
        raise RuntimeError(f"expected {len(outputs)} gradients, one an output, got {len(given)}")
    for grad, output in zip(given, outputs, strict=True):
        if not isinstance(grad, Tensor):
            raise TypeError(f"grad_output must be a torch.Tensor, got {type(grad).__name__}")
        if grad.shape != output.shape or grad.dtype != output.dtype:
            expected, found = (
                f"shape {list(tensor.shape)} and {tensor.dtype}" for tensor in (output, grad)
            )
            raise RuntimeError(f"grad_output must be as the output, {expected}, got {found}")
    return [grad.detach() if grad.requires_grad else grad for grad in given]
