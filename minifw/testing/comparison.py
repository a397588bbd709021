"""What is compared with what, and the numbers drawn for one example of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from minifw.testing.case import Input
from minifw.testing.example import DTYPES, Example, draw_inputs
from minifw.testing.subject import Subject, make_reference, make_subject

if TYPE_CHECKING:
    from minifw.testing.check import Expected

__all__ = ["Comparison", "Drawn", "Move", "draw", "stay"]

Move = Callable[[Tensor], Tensor]


def stay(tensor: Tensor) -> Tensor:
    """Return the tensor as it is."""
    return tensor


@dataclass(frozen=True)
class Comparison:
    """What is compared with what.

    Attributes:
        name: of the comparison, for tables.
        subject: class or function that makes the subject, or a :class:`torch.autograd.Function`.
        reference: class or function that makes the trusted :class:`torch.nn.Module`.
        inputs: what both are called on.
        arguments, options: of both constructors; a Function has none.
        training: the mode; None where the mode makes no difference.
        device: where to compute.
        exceptions: checks not to make, with the reasons.
        strict: whether dtypes, and dimensions of size 1, have to be the reference's.
        in_place: whether the subject may modify its inputs and cotangents.
        one_sided: whether, where the derivative jumps, any number between the derivatives of both
            sides is right.
        base: the dtype in which the derivative is judged.
        known: where to keep what the reference makes of each example; several subjects with the
            same reference may share it. Default: nowhere.
    """

    name: str
    subject: Any
    reference: Callable[..., torch.nn.Module]
    inputs: tuple[Input, ...]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    training: bool | None = None
    device: str = "cpu"
    exceptions: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True
    in_place: bool = False
    one_sided: bool = False
    base: str = "float64"
    known: "dict[str, Expected] | None" = None

    @property
    def reference_name(self) -> str:
        """The reference as a report names it: "torch.nn.SiLU"."""
        name = getattr(self.reference, "__qualname__", type(self.reference).__name__)
        module = getattr(self.reference, "__module__", "")
        public = module.startswith("torch.nn.modules") and f"torch.nn.{name}"
        return public or ("the reference" if "<" in name else name)


@dataclass(frozen=True)
class Drawn:
    """The numbers of an example, and what makes modules that hold them.

    Attributes:
        comparison, example: what was drawn for.
        like: the reference, in the example's dtype.
        inputs: two sets of them.
    """

    comparison: Comparison
    example: Example
    like: Subject
    inputs: tuple[tuple[Tensor, ...], ...]

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        example, comparison = self.example, self.comparison
        return (
            example.resize(tuple(comparison.arguments)),
            example.resize_options(comparison.options),
            (comparison.training is not False) != example.other_mode,
        )

    def subject(self, dtype: torch.dtype) -> Subject:
        """The subject, with the parameters that were drawn."""
        subject = self.comparison.subject
        return make_subject(subject, *self._arguments(), dtype, self.comparison.device, self.like)

    def reference(self, dtype: torch.dtype, move: Move = stay) -> Subject:
        """The reference, with the parameters that were drawn, moved."""
        reference = self.comparison.reference
        made = make_reference(reference, *self._arguments(), dtype, self.comparison.device)
        mine, theirs = (s.parameters() | s.buffers() for s in (made, self.like))
        for name, tensor in mine.items():
            tensor.copy_(move(theirs[name].to(tensor.dtype)))
        return made

    def inputs_in(self, dtype: torch.dtype, move: Move = stay) -> tuple[tuple[Tensor, ...], ...]:
        """Both sets of inputs, moved; their strides stay."""
        return tuple(
            tuple(move(t.to(dtype)) if t.is_floating_point() else t for t in inputs)
            for inputs in self.inputs
        )


def draw(comparison: Comparison, example: Example) -> Drawn:
    """Draw parameters and inputs."""
    generator = Generator().manual_seed(example.seed)
    dtype = DTYPES[example.dtype]
    drawn = Drawn(comparison, example, None, ())  # type: ignore[arg-type]
    like = make_reference(comparison.reference, *drawn._arguments(), dtype, comparison.device)
    if example.parameters == "random":
        for parameter in like.parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for buffer in like.buffers().values():
            if buffer.is_floating_point():  # which may be a variance or a weight
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    elif example.parameters == "zero":
        for parameter in like.parameters().values():
            parameter.zero_()
    inputs = tuple(
        draw_inputs(example, comparison.inputs, generator, comparison.device) for _ in range(2)
    )
    return replace(drawn, like=like, inputs=inputs)
