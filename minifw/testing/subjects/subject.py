"""Subjects: whatever has a backward pass, behind one surface."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from minifw.testing.subjects.fit import Fit

__all__ = ["Adapter", "CrashError", "NotApplicable", "Step", "Subject", "UsageError"]


class UsageError(ValueError):
    """What was given cannot be compared; the message says why, in one line."""


class CrashError(UsageError):
    """The subject raised an error in a call that the reference and its own signature accept."""


class NotApplicable(Exception):  # noqa: N818 -- a finding, not an error of the harness
    """What was to be tried says nothing about the subject."""


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


class Step(NamedTuple):
    """A forward and a backward pass, without what the harness does besides."""

    forward: Callable[[], tuple[Tensor, ...]]
    backward: Callable[..., Sequence[Tensor | None]]


class Subject:
    """One made subject; each kind says how it is called and where its parameters are.

    Args:
        made: the module, function or object itself.

    Attributes:
        kind: in words: "torch module", "minifw module", "autograd.Function", "function", "object",
            "loss", "function pair" or "elementwise pair".
        contract: the contract that is expected of this kind unless another is asked for.
        notes: what was found out about it, in sentences.
        in_graph: whether its inputs are leaves of autograd's graph.
        one_call: whether it keeps what one call needs, so that a second forward pass makes the
            backward pass of the first impossible.
        overwrites: whether a backward pass replaces the gradients of parameters instead of adding
            to them.
        takes_cotangents: whether the backward pass is given the gradient of the output. It is not
            where a loss's backward() has no argument: the gradient of the output is then 1, and a
            result is multiplied by any other.
        switches: whether it can be switched between training and evaluation mode.
        dtypes: names of the dtypes that it computes in; empty for all.
        fits: how its parameters lie in the reference's, by the reference's names.
        changes: what its calls changed globally.
        asked: gradients that autograd was asked for; see :meth:`use_autograd`.
        remote: does a pass where the subject is, if that is another process; see
            :mod:`minifw.testing.remote`.
    """

    kind = "object"
    contract = "formula"
    in_graph = False
    one_call = False
    overwrites = False
    takes_cotangents = True
    switches = True
    dtypes: tuple[str, ...] = ()
    remote: Callable[..., None] | None = None

    def __init__(self, made: Any) -> None:
        self.made = made
        self.notes: list[str] = []
        self.fits: dict[str, Fit] = {}
        self.changes: list[str] = []
        self.asked: dict[str, Tensor] = {}

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Return the outputs, and keep what :meth:`backward` needs."""
        raise NotImplementedError

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the most recent pending call; return the gradient of each input."""
        raise NotImplementedError

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Return the outputs, and keep nothing where that is possible."""
        return self.forward(*inputs)

    def step(self, inputs: Sequence[Any]) -> Step:
        """A forward and a backward pass on ``inputs``, to be timed, with gradients dropped."""
        self.zero_gradients()
        return Step(functools.partial(self.forward, *inputs), self.backward)

    def slots(self) -> Mapping[str, Tensor]:
        """Its own parameters, under its own names, as they are now."""
        return {}

    def slot_gradients(self) -> Mapping[str, Tensor | None]:
        """The gradients of :meth:`slots`."""
        return {}

    def parameters(self) -> dict[str, Tensor]:
        """The parameters under the reference's names and in its shapes: views, read anew."""
        slots = self.slots()
        return {name: fit(slots[fit.slot]) for name, fit in self.fits.items()}

    def gradients(self) -> dict[str, Tensor | None]:
        """The parameters' gradients, likewise."""
        slots = self.slot_gradients()
        found = {name: (fit, slots[fit.slot]) for name, fit in self.fits.items()}
        return {
            name: None if grad is None else fit.gradient(grad)
            for name, (fit, grad) in found.items()
        }

    def set_parameters(self, values: Mapping[str, Tensor]) -> None:
        """Write values, under the reference's names, into the subject's own parameters."""
        parameters = self.parameters()
        with torch.no_grad():
            for name, value in values.items():
                parameters[name].copy_(value)

    def zero_gradients(self) -> None:
        """Set all gradients to zero."""
        with torch.no_grad():
            for grad in self.slot_gradients().values():
                if grad is not None:
                    grad.zero_()

    def buffers(self) -> dict[str, Tensor]:
        """Tensors that calls change, such as running statistics."""
        return {}

    def train(self, mode: bool) -> None:
        """Set training or evaluation mode, where there are two."""
        if callable(getattr(self.made, "train", None)):
            self.made.train(mode)

    def choose_call(self, place: int) -> None:
        """Have the next backward pass go back through the pending call at ``place``.

        Raises:
            NotApplicable: the subject goes back through the most recent call alone.
        """
        raise NotApplicable("it goes back through the most recent call")

    def without_gradient(self, places: Collection[int]) -> None:
        """Have the next calls need no gradient of the inputs at ``places``.

        Raises:
            NotApplicable: the subject cannot be told.
        """
        raise NotApplicable("it always gives the gradients of its inputs")

    def use_autograd(self, how: str) -> None:
        """Have the next calls use autograd in another way than ``backward`` on leaves.

        Args:
            how: "asked", by ``torch.autograd.grad``, which leaves the gradients in ``asked``;
                "retained", each backward pass going through the same call again; "not leaves", on
                inputs that another operation made; "one leaf", on one leaf for each input, whose
                gradients add up.

        Raises:
            NotApplicable: the subject is no part of autograd's graph.
        """
        raise NotApplicable("it is not a part of autograd's graph")

    def forward_mode(
        self, inputs: Sequence[Any], draw: Callable[[Sequence[Tensor], str], list[Tensor]]
    ) -> tuple[Tensor, ...]:
        """The derivatives of the outputs along a drawn direction, by forward-mode differentiation.

        Raises:
            NotApplicable: the subject does not do that, and says so.
        """
        raise NotApplicable("it is not a part of autograd's graph")

    def mapped(self, stacked: Sequence[Any]) -> tuple[Tensor, ...]:
        """The outputs for inputs stacked along a last dimension, by :func:`torch.func.vmap`.

        Raises:
            NotApplicable: the subject does not do that, and says so.
        """
        raise NotApplicable("it is not a part of autograd's graph")

    def differentiate_twice(
        self, inputs: Sequence[Any], draw: Callable[[Sequence[Tensor], str], list[Tensor]]
    ) -> dict[str, Tensor]:
        """The gradient of a weighted sum of the gradients, by name.

        Args:
            inputs: of the call.
            draw: draws the weights of tensors, given a label.

        Raises:
            NotApplicable: the subject is not differentiable twice, and says so.
        """
        raise NotApplicable("it is not a part of autograd's graph")

    def load_parameters(self, values: Mapping[str, Tensor]) -> None:
        """Give the parameters values as ``load_state_dict`` does, where there is that."""
        self.set_parameters(values)

    def replace_parameters(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace the tensor that holds each parameter: ``parameter.data = change(...)``.

        Raises:
            NotApplicable: the subject's parameters cannot be replaced.
        """
        raise NotApplicable("its parameters cannot be replaced")

    def freeze(self, names: Iterable[str] | None = None) -> bool:
        """Freeze all parameters, or these of the reference's names; return whether it can be."""
        return False
