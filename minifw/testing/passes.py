"""Passes: orders of forward and backward calls, and what is seen of them.

Each takes a subject through the calls of an order that users make, on inputs and cotangents that
are the same for every subject, and notes what comes out by name: "output", "input.0.grad",
"weight.grad", "running_mean". A pass also sees to it that the calls change nothing that is not
theirs.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.testing.case import Input, seeded
from minifw.testing.comparison import stay
from minifw.testing.example import COTANGENTS, DTYPES, Example, lay_out
from minifw.testing.subject import Subject, named

__all__ = ["NOTHING", "PASSES", "NotApplicable", "Pass"]

NOTHING = nullcontext()  # to call a subject in


class NotApplicable(Exception):  # noqa: N818 -- a finding, not an error of the harness
    """This pass says nothing about the subject."""


@contextlib.contextmanager
def _finding_nothing() -> Iterator[None]:
    """Context in which a subject is called: what it raises is no finding of a pass."""
    try:
        yield
    except NotApplicable as error:
        raise RuntimeError(f"NotApplicable: {error}") from error


class Pass:
    """One pass of one subject.

    Args:
        subject: what to take through it.
        specs: of its inputs.
        example: seed of the cotangents and of torch's global generator, dtype and layout of the
            cotangents, and the order of calls.
        cotangents: to use in place of drawn ones.
        move: applied to the cotangents.
        within: what the subject, and nothing else, is called in.
    """

    def __init__(
        self,
        subject: Subject,
        specs: Sequence[Input],
        example: Example,
        cotangents: Sequence[Tensor] | None = None,
        move: Callable[[Tensor], Tensor] = stay,
        within: AbstractContextManager[Any] = NOTHING,
    ) -> None:
        self.subject = subject
        self.specs = specs
        self.example = example
        self.cotangents = cotangents
        self.move = move
        self.within = within
        self.named: dict[str, Tensor] = {}
        self.side_effects: list[str] = []
        self.largest_cotangent = 0.0
        self._before = {name: t.clone() for name, t in subject.parameters().items()}
        self._watched: list[tuple[str, Tensor, Tensor]] = []
        self._calls = 0

    def run(self, draws: Sequence[tuple[Any, ...]]) -> dict[str, Tensor]:
        """Do the calls on one or two sets of inputs, and return what came out by name.

        Notes in ``side_effects`` what the subject modified (an input, a cotangent, a parameter or
        a gradient that it had returned) and which gradient shares its memory with one of them.

        Raises:
            NotApplicable: the pass says nothing about the subject.
        """
        if self.subject.remote:
            self.subject.remote(self, draws)
            return self.named
        with seeded(self.example.seed):
            PASSES[self.example.steps](self, draws)
        for name, grad in named(self.subject, self.subject.gradients()).items():
            if grad is not None:
                self._check_own(f"the gradient of {name}", grad)
                self.named[f"{name}.grad"] = grad.detach().clone()
        for name, buffer in self.subject.buffers().items():
            self.named[name] = buffer.clone()
        self._watched += [
            (name, tensor, self._before[name]) for name, tensor in self.subject.parameters().items()
        ]
        for what, tensor, before in self._watched:
            if not torch.equal(tensor.nan_to_num(), before.nan_to_num()):
                self.side_effects.append(f"{what} was modified")
        return self.named

    def forward(self, inputs: Sequence[Any], label: str = "") -> tuple[Tensor, ...]:
        """Call the subject, and note its outputs under ``label``."""
        self._watch([(f"{label}input.{i}", tensor) for i, tensor in enumerate(inputs)])
        with _finding_nothing(), self.within:
            outputs = self.subject.forward(*inputs)
        names = ["output"] if len(outputs) == 1 else [f"output.{i}" for i in range(len(outputs))]
        for name, output in zip(names, outputs, strict=True):
            self.named[label + name] = output.detach().clone()
        return outputs

    def backward(
        self,
        outputs: Sequence[Tensor],
        label: str = "",
        cotangents: Sequence[Tensor] | None = None,
    ) -> tuple[Any, ...]:
        """Go back from ``outputs``, and note the gradients of the inputs."""
        cotangents = cotangents or self.cotangents or self.draw(outputs, label)
        self._watch([(f"{label}cotangent.{i}", tensor) for i, tensor in enumerate(cotangents)])
        sizes = [tensor.detach().abs().max().item() for tensor in cotangents if tensor.numel()]
        self.largest_cotangent = max([self.largest_cotangent, *sizes])
        with _finding_nothing(), self.within:
            grads = self.subject.backward(*cotangents)
        for i, spec in enumerate(self.specs):
            grad = grads[i] if i < len(grads) else None
            if grad is not None and not spec.constant:
                self.named[f"{label}input.{i}.grad"] = grad.detach().clone()
                self._watch([(f"the gradient {label}input.{i}.grad, once returned,", grad)])
        return grads

    def draw(self, outputs: Sequence[Tensor], label: str) -> list[Tensor]:
        """Draw a gradient for each output."""
        # Another seed than the inputs': normalization maps a cotangent equal to its input to 0.
        generator = Generator().manual_seed(self.example.seed + 1_000_003 + len(label))
        dtype = DTYPES[self.example.dtype]
        # Of equal samples with equal gradients, batch normalization makes nothing but rounding.
        expanded = self.example.layout == "expanded"
        layout = self.example.cotangent_layout or (
            "contiguous" if expanded else self.example.layout
        )
        kind = COTANGENTS[self.example.cotangent]
        drawn = [torch.randn(o.shape, generator=generator).to(dtype).to(o) for o in outputs]
        # Moved before it is laid out: what is moved has strides of its own.
        return [kind(lay_out(self.move(cotangent), layout)) for cotangent in drawn]

    def _watch(self, tensors: Sequence[tuple[str, Any]]) -> None:
        self._watched += [
            (what, tensor, tensor.detach().clone())
            for what, tensor in tensors
            if isinstance(tensor, Tensor)
        ]

    def _check_own(self, what: str, grad: Tensor) -> None:
        others = [(name, tensor) for name, tensor, _ in self._watched]
        for name, tensor in others + list(self.subject.parameters().items()):
            if grad.numel() and grad.untyped_storage().data_ptr() == (
                tensor.untyped_storage().data_ptr()
            ):
                self.side_effects.append(f"{what} shares its memory with {name}")


def _once(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    run.backward(run.forward(draws[0]))


def _twice(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Two forward passes, then their backward passes, the latest first."""
    first, second = run.forward(draws[0], "first."), run.forward(draws[1], "second.")
    run.backward(second, "second.")
    run.backward(first, "first.")


def _accumulated(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Two complete passes, whose parameters' gradients add up."""
    for label, inputs in (("first.", draws[0]), ("second.", draws[1])):
        run.backward(run.forward(inputs, label), label)


def _chained(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The subject called on its own output."""
    inputs = draws[0]
    outputs = run.forward(inputs, "inner.")
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape != outputs[0].shape:
        raise NotApplicable("its output is not of the shape of its input")
    grads = run.backward(run.forward(outputs, "outer."), "outer.")
    if grads[0] is None:
        raise NotApplicable("it gives no gradient of its input")
    run.backward(outputs, "inner.", grads)


def _frozen(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """All parameters frozen, so that the input alone has a gradient."""
    if not run.subject.parameters():
        raise NotApplicable("it has no parameters")
    if not run.subject.freeze():
        raise NotApplicable("the adapter has no way to freeze parameters")
    _once(run, draws)


PASSES: dict[str, Callable[[Pass, Sequence[tuple[Any, ...]]], None]] = {
    "once": _once,
    "twice": _twice,
    "accumulated": _accumulated,
    "chained": _chained,
    "frozen": _frozen,
}
