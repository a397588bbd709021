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
from minifw.testing.subjects.modules import Traced
from minifw.testing.verdict import LABEL

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


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Context in which an error is a refusal, which is as good as a right result."""
    try:
        yield
    except Exception as error:
        raise NotApplicable(f"it refuses {what}: {error}".splitlines()[0]) from error


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
        self.side_effects: list[str] = []  # what was modified, shared or changed
        self.given: dict[str, Sequence[Tensor]] = {}  # cotangents, by label
        self.largest_cotangent = 0.0
        self._before = {name: t.clone() for name, t in subject.parameters().items()}
        self._watched: list[tuple[str, Tensor, Tensor]] = []
        self._shared: list[str] = []  # outputs, with inputs

    def run(self, draws: Sequence[tuple[Any, ...]]) -> dict[str, Tensor]:
        """Do the calls on one or two sets of inputs, and return what came out by name.

        Notes in ``side_effects`` what the subject modified (an input, a cotangent, a parameter, an
        output or a gradient that it had returned), which output shares its memory with an input,
        which gradient with any of them, and what global state its calls changed.

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
        self.side_effects += [*self._shared, *dict.fromkeys(self.subject.changes)]
        return self.named

    def forward(self, inputs: Sequence[Any], label: str = "") -> tuple[Tensor, ...]:
        """Call the subject, and note its outputs under ``label``."""
        if self.in_place:
            copies = {id(value): copied(value) for value in inputs}
            inputs = [copies[id(value)] for value in inputs]
        self._watch([(f"{label}input.{i}", tensor) for i, tensor in enumerate(inputs)])
        with _finding_nothing(), self.within:
            outputs = self.subject.forward(*inputs)
        for name, output in self.note_outputs(outputs, label):
            self._watch([(f"{label}{name}, once returned,", output)])
            for i, value in enumerate(inputs):
                if isinstance(value, Tensor) and _share_memory(output, value):
                    self._shared.append(f"{label}{name} shares its memory with input.{i}")
        return outputs

    def note_outputs(self, outputs: Sequence[Tensor], label: str = "") -> list[tuple[str, Tensor]]:
        """Note outputs under ``label``, and return them with their names."""
        names = ["output"] if len(outputs) == 1 else [f"output.{i}" for i in range(len(outputs))]
        for name, output in zip(names, outputs, strict=True):
            self.named[label + name] = output.detach().clone()
        return list(zip(names, outputs, strict=True))

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
        unused: int | None = None,
    ) -> tuple[Any, ...]:
        """Go back from ``outputs``, and note the gradients of the inputs.

        Args:
            unused: place of the output that nothing depends on.
        """
        cotangents = cotangents or self.cotangents or self.draw(outputs, label)
        self.given[label] = cotangents
        if self.in_place:
            cotangents = [copied(cotangent) for cotangent in cotangents]
        self._watch([(f"{label}cotangent.{i}", tensor) for i, tensor in enumerate(cotangents)])
        sizes = [tensor.detach().abs().max().item() for tensor in cotangents if tensor.numel()]
        self.largest_cotangent = max([self.largest_cotangent, *sizes])
        given: list[Any] = list(cotangents)
        if unused is not None:
            given[unused] = None if self.subject.in_graph else torch.zeros_like(given[unused])
        with _finding_nothing(), self.within:
            grads = self.subject.backward(*given)
        for i, spec in enumerate(self.specs):
            grad = grads[i] if i < len(grads) else None
            if grad is not None and not spec.constant:
                self.named[f"{label}input.{i}.grad"] = grad.detach().clone()
                self._watch([(f"the gradient {label}input.{i}.grad, once returned,", grad)])
        return grads

    def both(self, inputs: Sequence[Any], label: str = "") -> None:
        """Call the subject and go back from its outputs."""
        self.backward(self.forward(inputs, label), label)

    def afresh(self, inputs: Sequence[Any], label: str) -> None:
        """As :meth:`both`, with the parameters' gradients from 0, and noted."""
        self.subject.zero_gradients()
        self.both(inputs, label)
        self.note_gradients(label)

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
        plain = self.example.layout == "expanded" or self.example.laid_out is not None
        layout = self.example.cotangent_layout or ("contiguous" if plain else self.example.layout)
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
            if _share_memory(grad, tensor):
                self.side_effects.append(f"{what} shares its memory with {name}")


def _share_memory(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors lie in one storage."""
    storages = [tensor.untyped_storage().data_ptr() for tensor in (first, second)]
    return first.numel() > 0 and storages[0] == storages[1]


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
        run.afresh(draws[number % 2], f"{number}.")
    run.afresh(draws[0], "again.")


def _changed_weights(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The parameters changed between two calls."""
    before = {name: tensor.clone() for name, tensor in run.subject.parameters().items()}
    if not before:
        raise NotApplicable("it has no parameters")
    for number in range(1, CALLS // 2):
        run.both(draws[0], f"{number}.")
    run.subject.zero_gradients()
    run.subject.set_parameters({name: tensor / 2 + 1 for name, tensor in before.items()})
    run.both(draws[0], "again.")
    run.subject.set_parameters(before)


def _loaded_weights(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Parameters loaded from a state, and then each replaced by another tensor."""
    before = {name: tensor.clone() for name, tensor in run.subject.parameters().items()}
    if not before:
        raise NotApplicable("it has no parameters")
    run.afresh(draws[0], "1.")
    run.subject.zero_gradients()
    run.subject.forward_only(*draws[0])  # as of an evaluation
    run.subject.load_parameters({name: tensor / 2 + 1 for name, tensor in before.items()})
    run.both(draws[0], "2.")
    run.note_gradients("2.")
    run.subject.zero_gradients()
    run.subject.forward_only(*draws[0])
    run.subject.replace_parameters(lambda value: value * 2 - 1)
    run.both(draws[0], "3.")
    run.subject.set_parameters(before)


def _evaluated_weights(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The parameters changed between two calls in evaluation mode."""
    if not run.subject.switches:
        raise NotApplicable("it has no switch between training and evaluation mode")
    run.subject.train(False)
    _changed_weights(run, draws)


def _other_sizes(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call on fewer samples between two others, and one with none of them left."""
    sizes = {len(tensor) for tensor in draws[0] if tensor.dim()}
    if len(sizes) != 1 or not max(sizes) > 1 or not all(tensor.dim() for tensor in draws[0]):
        raise NotApplicable("its inputs have no batch in common")
    run.afresh(draws[0], "first.")
    run.afresh(tuple(tensor[:1] for tensor in draws[1]), "second.")
    run.afresh(draws[0], "again.")


def _modes(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A call in training mode, one in evaluation mode, one in training mode again."""
    run.afresh(draws[0], "first.")
    run.subject.train(False)
    run.afresh(draws[1], "second.")
    run.subject.train(True)
    run.afresh(draws[0], "again.")


def _mode_between(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Evaluation mode switched on between forward and backward."""
    if not run.subject.switches:
        raise NotApplicable("it has no switch between training and evaluation mode")
    outputs = run.forward(draws[0])
    run.subject.train(False)
    with _refusing("to go back in another mode"):
        run.backward(outputs)


def _refilled(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """One tensor that holds one batch after the other."""
    inputs = tuple(tensor.clone() for tensor in draws[0])
    with run.unwatched():
        run.afresh(inputs, "first.")
        for tensor, value in zip(inputs, draws[1], strict=True):
            tensor.copy_(value)
        run.afresh(inputs, "second.")


def _outputs_unused(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Each of several outputs in turn without a gradient, and with one of zeros."""
    outputs = run.forward(draws[0])
    run.backward(outputs)
    if len(outputs) < 2:
        raise NotApplicable("it has one output")
    for place in range(len(outputs)):
        for label in (f"unused-{place}.", f"zero-{place}."):
            run.subject.zero_gradients()
            outputs = run.forward(draws[0], label)
            cotangents = run.draw(outputs, label)
            cotangents[place] = torch.zeros_like(cotangents[place])
            unused = place if label.startswith("unused") else None
            run.backward(outputs, label, cotangents, unused)
            run.note_gradients(label)


def _retained(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """A second backward pass through the graph of one call, which was retained."""
    run.subject.use_autograd("retained")
    outputs = run.forward(draws[0], "first.")
    run.backward(outputs, "first.")
    run.note_gradients("first.")
    run.subject.zero_gradients()
    with _refusing("a second backward pass"):
        run.backward(outputs, "second.")


def _asked(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The gradients of two calls asked for by torch.autograd.grad, which leaves none behind."""
    run.subject.use_autograd("asked")
    for label, inputs in zip(("first.", "second."), draws, strict=True):
        run.both(inputs, label)
        for name, grad in run.subject.asked.items():
            run.named[f"{label}{name}.grad"] = grad.detach().clone()


def _not_leaves(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Inputs that another operation has made."""
    run.subject.use_autograd("not leaves")
    _once(run, draws)


def _one_leaf(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Two calls on the same leaves, whose gradients add up."""
    run.subject.use_autograd("one leaf")
    with run.unwatched():
        run.both(draws[0], "first.")
        run.both(draws[0], "second.")


def _changed_between(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Inputs, and then parameters, changed in place between forward and backward.

    PyTorch refuses that where the backward pass needs them. What is refused counts as right.
    """
    if not isinstance(run.subject, Traced):
        raise NotApplicable("it is not a part of autograd's graph")
    inputs = tuple(v.clone() if isinstance(v, Tensor) else v for v in draws[0])
    real = [v for v in inputs if isinstance(v, Tensor) and v.is_floating_point()]
    with run.unwatched():
        outputs = run.forward(inputs, "first.")
        run.backward(outputs, "first.")
        run.note_gradients("first.")
        right = dict(run.named)
        for label, changed in (
            ("inputs.", real),
            ("parameters.", list(run.subject.trained().values())),
        ):
            run.subject.zero_gradients()
            again = run.forward(inputs, label)
            if not all(
                map(torch.equal, map(torch.nan_to_num, again), map(torch.nan_to_num, outputs))
            ):
                raise NotApplicable("its outputs are others in each call")
            before = [tensor.detach().clone() for tensor in changed]
            with torch.no_grad():
                for tensor in changed:
                    tensor.mul_(0.5)
            try:
                run.backward(again, label, run.given["first."])
                run.note_gradients(label)
            except Exception:
                run.named |= {label + LABEL.sub(r"\2", n): t for n, t in right.items()}
            with torch.no_grad():
                for tensor, value in zip(changed, before, strict=True):
                    tensor.copy_(value)
    run.afresh(inputs, "again.")


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


def _forward_mode(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """The derivative along a direction."""
    run.note_outputs(run.subject.forward_mode(draws[0], run.draw), "forward.")


def _mapped(run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
    """Two calls at once, by vmap along a last dimension."""
    if not all(isinstance(value, Tensor) for value in draws[0]):
        raise NotApplicable("not all of its inputs are tensors")
    stacked = [torch.stack(pair, -1) for pair in zip(*draws, strict=True)]
    run.note_outputs(run.subject.mapped(stacked))


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
    "loaded weights": _loaded_weights,
    "evaluated weights": _evaluated_weights,
    "mode between": _mode_between,
    "changed between": _changed_between,
    "retained": _retained,
    "asked": _asked,
    "not leaves": _not_leaves,
    "one leaf": _one_leaf,
    "outputs unused": _outputs_unused,
    "frozen": _frozen,
    "frozen each": _frozen_each,
    "input frozen": _input_frozen,
    "same tensor": _same_tensor,
    "no grad": _no_grad,
    "inference mode": _inference_mode,
    "differentiated twice": _twice_differentiated,
    "forward mode": _forward_mode,
    "mapped": _mapped,
    "draws": _draws,
}
