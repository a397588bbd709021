"""Passes: orders of forward and backward calls, and what is seen of them.

Each takes a subject through the calls of an order that users make, on inputs and cotangents that
are the same for every subject, and notes what comes out by name: "output", "input.0.grad",
"weight.grad", "running_mean". A pass also sees to it that the calls change nothing that is not
theirs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.testing.case import Input, seeded
from minifw.testing.comparison import stay
from minifw.testing.example import COTANGENTS, DTYPES, Example, copied, lay_out
from minifw.testing.subjects import NotApplicable, Subject

__all__ = ["NOTHING", "PASSES", "NotApplicable", "Pass"]

NOTHING = nullcontext()  # to call a subject in
CALLS = 12  # of one object, after which the first is made again
DRAWS = 200  # of a random layer, for the shares of its outcomes


@contextmanager
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
        in_place: whether calls may modify what they are given, which is then a copy.
    """

    def __init__(
        self,
        subject: Subject,
        specs: Sequence[Input],
        example: Example,
        cotangents: Sequence[Tensor] | None = None,
        move: Callable[[Tensor], Tensor] = stay,
        within: AbstractContextManager[Any] = NOTHING,
        in_place: bool = False,
    ) -> None:
        self.subject = subject
        self.specs = specs
        self.example = example
        self.cotangents = cotangents
        self.move = move
        self.within = within
        self.in_place = in_place
        self.named: dict[str, Tensor] = {}
        self.side_effects: list[str] = []
        self.given: dict[str, Sequence[Tensor]] = {}  # cotangents, by label
        self.largest_cotangent = 0.0
        self._before = {name: t.clone() for name, t in subject.parameters().items()}
        self._watched: list[tuple[str, Tensor, Tensor]] = []

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
        self.note_gradients()
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
        if self.in_place:
            copies = {id(value): copied(value) for value in inputs}
            inputs = [copies[id(value)] for value in inputs]
        self._watch([(f"{label}input.{i}", tensor) for i, tensor in enumerate(inputs)])
        with _finding_nothing(), self.within:
            outputs = self.subject.forward(*inputs)
        self.note_outputs(outputs, label)
        return outputs

    def note_outputs(self, outputs: Sequence[Tensor], label: str = "") -> None:
        """Note outputs under ``label``."""
        names = ["output"] if len(outputs) == 1 else [f"output.{i}" for i in range(len(outputs))]
        for name, output in zip(names, outputs, strict=True):
            self.named[label + name] = output.detach().clone()

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Context in which inputs may be modified."""
        watched = list(self._watched)
        yield
        self._watched = watched

    def backward(
        self,
        outputs: Sequence[Tensor],
        label: str = "",
        cotangents: Sequence[Tensor] | None = None,
    ) -> tuple[Any, ...]:
        """Go back from ``outputs``, and note the gradients of the inputs."""
        cotangents = cotangents or self.cotangents or self.draw(outputs, label)
        self.given[label] = cotangents
        if self.in_place:
            cotangents = [copied(cotangent) for cotangent in cotangents]
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

    def both(self, inputs: Sequence[Any], label: str = "") -> None:
        """Call the subject and go back from its outputs."""
        self.backward(self.forward(inputs, label), label)

    def note_gradients(self, label: str = "") -> None:
        """Note the gradients of the parameters."""
        for name, grad in self.subject.gradients().items():
            if grad is not None:
                self._check_own(f"the gradient of {name}", grad)
                self.named[f"{label}{name}.grad"] = grad.detach().clone()

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
    """The subject called on its own output, halved and shifted.

    Clamping leaves numbers at which the derivative jumps, and either side's is right there.
    """
    inputs = draws[0]
    outputs = run.forward(inputs, "inner.")
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape != outputs[0].shape:
        raise NotApplicable("its output is not of the shape of its input")
    between = outputs[0] / 2 + 0.25
    grads = run.backward(run.forward([between], "outer."), "outer.")
    if grads[0] is None:
        raise NotApplicable("it gives no gradient of its input")
    run.backward(outputs, "inner.", [grads[0] / 2])


def _frozen(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """All parameters frozen, so that the input alone has a gradient."""
    if not run.subject.parameters():
        raise NotApplicable("it has no parameters")
    if not run.subject.freeze():
        raise NotApplicable("the adapter has no way to freeze parameters")
    _once(run, draws)


def _dropped(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """An output that nobody goes back from, then another call."""
    run.forward(draws[1], "dropped.")
    run.both(draws[0])


def _first_in_first_out(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Two forward passes, then their backward passes, the earliest first."""
    first, second = run.forward(draws[0], "first."), run.forward(draws[1], "second.")
    run.subject.choose_call(0)
    run.backward(first, "first.")
    run.backward(second, "second.")


def _again(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Many calls of one object; what the first gave comes again at the end."""
    for number in range(1, CALLS):
        run.both(draws[number % 2], f"{number}.")
    run.subject.zero_gradients()
    run.both(draws[0], "again.")


def _changed_weights(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The parameters changed between two calls."""
    before = {name: tensor.clone() for name, tensor in run.subject.parameters().items()}
    if not before:
        raise NotApplicable("it has no parameters")
    run.both(draws[0], "first.")
    run.subject.zero_gradients()
    run.subject.set_parameters({name: tensor / 2 + 1 for name, tensor in before.items()})
    run.both(draws[0], "second.")
    run.subject.set_parameters(before)


def _other_sizes(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call on fewer samples between two others, and one with none of them left."""
    sizes = {len(tensor) for tensor in draws[0] if tensor.dim()}
    if len(sizes) != 1 or not max(sizes) > 1 or not all(tensor.dim() for tensor in draws[0]):
        raise NotApplicable("its inputs have no batch in common")
    run.both(draws[0], "first.")
    run.both(tuple(tensor[:1] for tensor in draws[1]), "second.")
    run.subject.zero_gradients()
    run.both(draws[0], "again.")


def _modes(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call in training mode, one in evaluation mode, one in training mode again."""
    run.both(draws[0], "first.")
    run.subject.train(False)
    run.subject.zero_gradients()
    run.both(draws[1], "second.")
    run.subject.train(True)
    run.subject.zero_gradients()
    run.both(draws[0], "again.")


def _refilled(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """One tensor that holds one batch after the other."""
    inputs = tuple(tensor.clone() for tensor in draws[0])
    with run.unwatched():
        run.both(inputs, "first.")
        for tensor, value in zip(inputs, draws[1], strict=True):
            tensor.copy_(value)
        run.subject.zero_gradients()
        run.both(inputs, "second.")


def _frozen_each(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Each parameter frozen by itself, then trained by itself."""
    names = list(run.subject.parameters())
    if len(names) < 2:
        raise NotApplicable("it has fewer than two parameters")
    for name in names:
        for label, frozen in (("frozen", [name]), ("alone", [n for n in names if n != name])):
            if not run.subject.freeze(frozen):
                raise NotApplicable("it has no way to freeze parameters")
            run.subject.zero_gradients()
            # A name may have dots, which separate a label from a tensor.
            labeled = f"{label}-{name.replace('.', '-')}."
            run.both(draws[0], labeled)
            run.note_gradients(labeled)


def _input_frozen(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Each input without gradient, in turn."""
    places = [
        i
        for i, spec in enumerate(run.specs)
        if draws[0][i].is_floating_point() and not spec.constant
    ]
    if len(places) + len(run.subject.parameters()) < 2:
        raise NotApplicable("nothing else has a gradient")
    for place in places:
        run.subject.without_gradient({place})
        run.subject.zero_gradients()
        run.both(draws[0], f"without-{place}.")
        run.note_gradients(f"without-{place}.")


def _same_tensor(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """One tensor given as two inputs: its gradient is the sum of both."""
    inputs = list(draws[0])
    pairs = [
        (i, j)
        for j in range(len(inputs))
        for i in range(j)
        if inputs[i].is_floating_point()
        and (inputs[i].shape, run.specs[i].constant) == (inputs[j].shape, run.specs[j].constant)
    ]
    if not pairs:
        raise NotApplicable("no two inputs are alike")
    i, j = pairs[0]
    inputs[j] = inputs[i]
    run.both(tuple(inputs))
    if not run.subject.in_graph:  # where one tensor has one gradient
        names = [f"input.{place}.grad" for place in (i, j)]
        run.named |= dict.fromkeys(names, run.named[names[0]] + run.named[names[1]])


def _no_grad(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call without gradients."""
    run.note_outputs(run.subject.forward_only(*draws[0]))


def _inference_mode(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call in torch's inference mode."""
    with torch.inference_mode():
        run.note_outputs(run.subject.forward_only(*draws[0]))


def _twice_differentiated(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The gradient of a weighted sum of the gradients."""
    for name, grad in run.subject.differentiate_twice(draws[0], run.draw).items():
        run.named[f"second.{name}"] = grad


def _draws(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Many equal calls of a random layer."""
    for number in range(DRAWS):
        run.both(draws[0], f"{number}.")


PASSES: dict[str, Callable[[Pass, Sequence[tuple[Any, ...]]], None]] = {
    "once": _once,
    "twice": _twice,
    "dropped": _dropped,
    "first in first out": _first_in_first_out,
    "accumulated": _accumulated,
    "chained": _chained,
    "again": _again,
    "changed weights": _changed_weights,
    "other sizes": _other_sizes,
    "modes": _modes,
    "refilled": _refilled,
    "frozen": _frozen,
    "frozen each": _frozen_each,
    "input frozen": _input_frozen,
    "same tensor": _same_tensor,
    "no grad": _no_grad,
    "inference mode": _inference_mode,
    "differentiated twice": _twice_differentiated,
    "draws": _draws,
}
