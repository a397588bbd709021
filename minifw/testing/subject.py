"""Subjects: whatever has a backward pass, behind one surface.

Four kinds are known: modules of minifw, modules of torch.nn (with or without a backward of their
own), :class:`torch.autograd.Function` classes, and any object with the four methods of
:class:`Adapter`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

import minifw
from minifw.nn.rule import as_tuple
from minifw.testing.case import seeded

__all__ = ["Adapter", "Subject", "UsageError", "make_reference", "make_subject", "named", "wrap"]


T = TypeVar("T")


class UsageError(ValueError):
    """What was given cannot be compared; the message says why, in one line."""


@runtime_checkable
class Adapter(Protocol):
    """What an object needs in order to be verified.

    ``backward`` belongs to the latest ``forward`` that has not been gone back through, and adds to
    the gradients of the parameters::

        class Scale:
            def __init__(self):
                self.weight, self.weight_grad, self.inputs = torch.ones(3), torch.zeros(3), []

            def forward(self, input):
                self.inputs.append(input)
                return input * self.weight

            def backward(self, grad_output):
                self.weight_grad = self.weight_grad + (grad_output * self.inputs.pop()).sum(0)
                return grad_output * self.weight

            def parameters(self):
                return {"weight": self.weight}

            def gradients(self):
                return {"weight": self.weight_grad}

    An object is made anew for every check, with torch's default dtype set to the one to be checked;
    its parameters are then filled in place, with numbers drawn at random.
    """

    def forward(self, *inputs: Any) -> Any:
        """Return the output, or a tuple of them."""

    def backward(self, *grad_outputs: Tensor) -> Any:
        """Return the gradient of each input, one or a tuple; None for one without."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the parameters by name."""

    def gradients(self) -> Mapping[str, Tensor | None]:
        """Return their gradients by name."""


class Subject:
    """One made subject; every kind overrides what it does otherwise.

    Args:
        made: the module, function class or object itself.
    """

    contract = "formula"  # the default for subjects of this kind
    # Does a pass where the subject is, if that is another process; see minifw.testing.remote.
    remote: Callable[..., None] | None = None

    def __init__(self, made: Any) -> None:
        self.made = made
        self.names: list[str] = []  # the reference's, where the subject's are others

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """Return the outputs, and keep what :meth:`backward` needs."""
        return as_tuple(self.made.forward(*inputs))

    def backward(self, *grad_outputs: Tensor) -> tuple[Any, ...]:
        """Go back through the latest call; return the gradient of each input, None for none."""
        return as_tuple(self.made.backward(*grad_outputs))

    def parameters(self) -> dict[str, Tensor]:
        """Return the values of the parameters."""
        return dict(self.made.parameters())

    def gradients(self) -> dict[str, Tensor | None]:
        """Return the parameters' gradients, added up since the subject was made."""
        return dict(self.made.gradients())

    def buffers(self) -> dict[str, Tensor]:
        """Return tensors that calls change, such as running statistics."""
        return {}

    def freeze(self) -> bool:
        """Freeze all parameters, if the subject can."""
        return False

    def forward_only(self, *inputs: Any) -> tuple[Any, ...]:
        """Return the outputs, and keep nothing where that is possible."""
        return self.forward(*inputs)


class _Module(Subject):
    """What the modules of both frameworks have in common."""

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.made.named_parameters()}

    def parameters(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self.made.named_parameters()}

    def buffers(self) -> dict[str, Tensor]:
        return dict(self.made.named_buffers())

    def freeze(self) -> bool:
        self.made.requires_grad_(False)
        return True


class _Minifw(_Module):
    contract = "minifw"

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        return as_tuple(self.made(*inputs))

    def forward_only(self, *inputs: Any) -> tuple[Any, ...]:
        with minifw.no_grad():
            return self.forward(*inputs)


def _leaf(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


class _Torch(_Module):
    """A module of torch.nn; its backward pass is autograd's, or its own within autograd."""

    contract = "torch"

    def __init__(self, made: Any) -> None:
        super().__init__(made)
        self._calls: list[tuple[tuple[Any, ...], tuple[Tensor, ...]]] = []

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        leaves = tuple(map(_leaf, inputs))
        outputs = as_tuple(self.call(*leaves))
        self._calls.append((leaves, outputs))
        return tuple(output.detach() for output in outputs)

    def call(self, *leaves: Any) -> Any:
        """Call what was made, within autograd."""
        return self.made(*leaves)

    def backward(self, *grad_outputs: Tensor) -> tuple[Any, ...]:
        leaves, outputs = self._calls.pop()
        # Else nothing that requires grad has influence on the output.
        reached = [place for place, output in enumerate(outputs) if output.requires_grad]
        if reached:
            torch.autograd.backward(
                [outputs[place] for place in reached], [grad_outputs[place] for place in reached]
            )
        return tuple(leaf.grad if isinstance(leaf, Tensor) else None for leaf in leaves)

    def forward_only(self, *inputs: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            return as_tuple(self.call(*inputs))


class _Function(_Torch):
    """A torch.autograd.Function, applied to the inputs and then the reference's parameters."""

    def __init__(self, made: Any, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(made)
        self._parameters = {name: _leaf(data.clone()) for name, data in parameters.items()}

    def call(self, *leaves: Any) -> Any:
        return self.made.apply(*leaves, *self._parameters.values())

    def parameters(self) -> dict[str, Tensor]:
        return {name: leaf.detach() for name, leaf in self._parameters.items()}

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: leaf.grad for name, leaf in self._parameters.items()}

    def buffers(self) -> dict[str, Tensor]:
        return {}

    def freeze(self) -> bool:
        for leaf in self._parameters.values():
            leaf.requires_grad_(False)
        return True


def _build(
    what: str,
    factory: Callable[..., Any],
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    dtype: torch.dtype,
) -> Any:
    """Call ``factory`` with torch's default dtype set, and its generators left as found."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with seeded(0):
            return factory(*arguments, **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"the {what} cannot be made: {reason}") from error
    finally:
        torch.set_default_dtype(before)


def make_reference(
    factory: Callable[..., Any],
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    training: bool,
    dtype: torch.dtype,
    device: str,
) -> Subject:
    """The trusted module, with its own first weights.

    Raises:
        UsageError: the factory raises, or does not make a torch.nn.Module.
    """
    made = _build("reference", factory, arguments, options, dtype)
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"the reference must be a torch.nn.Module, got {type(made).__name__}")
    return _Torch(made.to(device=device, dtype=dtype).train(training))


def wrap(made: Any) -> Subject:
    """A module or an adapter, as a subject.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(made, minifw.nn.Module):
        return _Minifw(made)
    if isinstance(made, torch.nn.Module):
        return _Torch(made)
    if isinstance(made, Adapter):
        return Subject(made)
    raise UsageError(
        "the subject must be a minifw.nn.Module, a torch.nn.Module, a torch.autograd.Function "
        "or an object with forward, backward, parameters and gradients, "
        f"got {type(made).__name__}"
    )


def make_subject(
    factory: Any,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    training: bool,
    dtype: torch.dtype,
    device: str,
    like: Subject,
) -> Subject:
    """What is to be verified, with the parameters and buffers of the reference ``like``.

    Raises:
        UsageError: it cannot be made, is of no known kind, or has other parameters than ``like``.
    """
    if isinstance(factory, type) and issubclass(factory, torch.autograd.Function):
        return _Function(
            factory, {name: value.to(dtype) for name, value in like.parameters().items()}
        )
    subject = wrap(_build("subject", factory, arguments, options, dtype))
    if isinstance(subject, _Module):
        subject.made.to(device=device, dtype=dtype)
    if hasattr(subject.made, "train"):
        subject.made.train(training)
    theirs = subject.parameters()
    if theirs.keys() != like.parameters().keys() and len(theirs) == len(like.parameters()):
        subject.names = list(like.parameters())
    _copy("parameters", like.parameters(), named(subject, theirs), dtype)
    if subject.buffers():
        _copy("buffers", like.buffers(), subject.buffers(), dtype)
    return subject


def named(subject: Subject, values: Mapping[str, T]) -> dict[str, T]:
    """``values`` of a subject's parameters, under the reference's names."""
    return dict(zip(subject.names or values, values.values(), strict=True))


def _copy(
    what: str, source: dict[str, Tensor], target: dict[str, Tensor], dtype: torch.dtype
) -> None:
    shapes = [{name: list(t.shape) for name, t in side.items()} for side in (target, source)]
    if shapes[0] != shapes[1]:
        raise UsageError(f"the subject has {what} {shapes[0]}, the reference {shapes[1]}")
    with torch.no_grad():
        for name, tensor in source.items():
            if tensor.is_floating_point() and target[name].dtype != dtype:
                raise UsageError(
                    f"the subject's {name} is of {target[name].dtype}, expected {dtype}; make "
                    "tensors in torch's default dtype, or leave this dtype out with --dtype"
                )
            target[name].copy_(tensor)
