"""What is compared with what, and the numbers drawn for one example of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from minifw.testing.case import Input
from minifw.testing.example import DTYPES, Example, draw_inputs, lay_out
from minifw.testing.subjects import Subject, make_reference, make_subject, recognized
from minifw.testing.subjects.roles import accepts, positional, takes_any

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
        subject: what is verified: a class, a function that makes something, an instance; a
            function of tensors, a :class:`torch.autograd.Function`, a pair of functions. See
            :mod:`minifw.testing.subjects`.
        reference: class, function or instance of the trusted :class:`torch.nn.Module`, or a
            function of tensors.
        inputs: what both are called on.
        arguments, options: of both constructors; a function of tensors has none.
        reference_arguments, reference_options: of the reference's constructor, where they are
            others; None where they are the same.
        call: arguments and keyword arguments of every call, after the inputs. A keyword goes to the
            sides that accept it, other arguments to the subject, and to a function as reference.
        backward: the function that goes back, where the subject is the one that goes forward.
        conventions: whether a loss may follow another convention than the reference: a sum where
            that has a mean, or one half of it.
        training: the mode; None where the mode makes no difference.
        device: where to compute.
        exceptions: checks not to make, with the reasons.
        strict: whether dtypes, and dimensions of size 1, have to be the reference's.
        in_place: whether the subject may modify its inputs and cotangents.
        one_sided: whether, where the derivative jumps, any number between the derivatives of both
            sides is right.
        may_refuse: clauses in which an error that the subject raises is a refusal, and reported:
            other ranks, and sizes of 0.
        base: the dtype in which the derivative is judged.
        isolated: makes the subject in a process of its own, where it has one; see
            :mod:`minifw.testing.remote`.
        known: where to keep what the reference makes of each example; several subjects with the
            same reference may share it. Default: nowhere.
        found: what was found out about the subject by trying; filled in when it is first made.
    """

    name: str
    subject: Any
    reference: Any
    inputs: tuple[Input, ...]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    training: bool | None = None
    device: str = "cpu"
    exceptions: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True
    in_place: bool = False
    one_sided: bool = False
    may_refuse: frozenset[str] = frozenset()
    base: str = "float64"
    isolated: "Callable[[Drawn, torch.dtype], Subject] | None" = None
    known: "dict[str, Expected] | None" = None
    reference_arguments: tuple[Any, ...] | None = None
    reference_options: Mapping[str, Any] | None = None
    call: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})
    backward: Callable[..., Any] | None = None
    conventions: bool = True
    found: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        if self.isolated is None:
            return vars(self)
        # In the subject's process the subject is at home, and more is known about it.
        return vars(self) | {"isolated": None, "known": None, "found": _FoundThere()}

    @property
    def reference_name(self) -> str:
        """The reference as a report names it: "torch.nn.SiLU"."""
        name = getattr(self.reference, "__qualname__", type(self.reference).__name__)
        module = getattr(self.reference, "__module__", "")
        public = module.startswith("torch.nn.modules") and f"torch.nn.{name}"
        return public or ("the reference" if "<" in name else name)

    @property
    def subject_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the subject is called with after the inputs."""
        if not any(self.call):
            return (), {}
        return _copied(self.call[0]), _accepted(self.subject, self.call[1])

    @property
    def reference_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the reference is called with after the inputs."""
        arguments, options = self.call
        if not any(self.call):
            return (), {}
        # Settings in a dict are another framework's.
        plain = tuple(value for value in arguments if not isinstance(value, dict))
        places = positional(self.reference)
        room = None if places is None or takes_any(self.reference) else len(places)
        if isinstance(self.reference, (type, torch.nn.Module)) or (
            room is not None and room < len(self.inputs) + len(plain)
        ):
            plain = ()
        return plain, _accepted(self.reference, options)

    @property
    def without_gradient(self) -> frozenset[int]:
        """Places of the inputs that a loss gives no gradient of: its targets."""
        protocol = self.found.get("protocol")
        if protocol is None or protocol.kind != "loss":
            return frozenset()
        given = {f"input.{place}" for place in range(len(self.inputs))} & {*protocol.returned}
        return frozenset(
            place for place in range(len(self.inputs)) if f"input.{place}" not in given
        )

    def resized(self, example: Example) -> "Comparison":
        """The same with the sizes of an example."""

        def options(values: Mapping[str, Any] | None) -> Any:
            return values and example.resize_options(values)

        return replace(
            self,
            inputs=tuple(
                replace(spec, shape=example.shape(spec), classes=example.resize(spec.classes))
                for spec in self.inputs
            ),
            arguments=example.resize(tuple(self.arguments)),
            options=options(self.options),
            reference_arguments=self.reference_arguments
            and example.resize(tuple(self.reference_arguments)),
            reference_options=options(self.reference_options),
        )


_FOUND: dict[str, Any] = {}  # about the one subject of this process


def _found_here() -> dict[str, Any]:
    return _FOUND


class _FoundThere:
    """What was found out about the subject in its own process, and stays there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _found_here, ()


def _accepted(factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a call of it accepts."""
    called = factory
    if isinstance(factory, (tuple, list)):
        called = factory[0]
    elif isinstance(factory, type) or not callable(factory) or isinstance(factory, torch.nn.Module):
        called = next(
            (getattr(factory, n) for n in ("forward", "__call__") if hasattr(factory, n)), factory
        )
    return {name: value for name, value in options.items() if accepts(called, name)}


def _copied(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Settings in a dict may be written to by the call."""
    return tuple(dict(value) if isinstance(value, dict) else value for value in values)


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

    def __reduce__(self) -> tuple[Any, ...]:
        values = self.like.parameters() | self.like.buffers()
        return _drawn, (self.comparison, self.example, values, self.inputs)

    @property
    def training(self) -> bool:
        """The mode to run in."""
        return (self.comparison.training is not False) != self.example.other_mode

    def subject(self, dtype: torch.dtype) -> Subject:
        """The subject, with the parameters that were drawn."""
        if self.comparison.isolated:
            return self.comparison.isolated(self, dtype)
        recognized(self.comparison)
        comparison = self.comparison.resized(self.example)
        made = make_subject(comparison, self.training, dtype, self.like)
        if layout := self.example.parameter_layout:
            made.replace_parameters(lambda value: lay_out(value, layout))
        return made

    def reference(self, dtype: torch.dtype, move: Move = stay) -> Subject:
        """The reference, with the parameters that were drawn, moved."""
        made = make_reference(self.comparison.resized(self.example), self.training, dtype)
        mine, theirs = (s.parameters() | s.buffers() for s in (made, self.like))
        for name, tensor in mine.items():
            tensor.copy_(move(theirs[name].to(tensor.dtype)))
        return made

    def inputs_in(self, dtype: torch.dtype, move: Move = stay) -> tuple[tuple[Tensor, ...], ...]:
        """Both sets of inputs, moved; their strides stay."""
        return tuple(
            tuple(
                move(value.to(dtype))
                if isinstance(value, Tensor) and value.is_floating_point()
                else value
                for value in inputs
            )
            for inputs in self.inputs
        )


class _Values(Subject):
    """Parameters and buffers alone."""

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.made)


def _drawn(
    comparison: Comparison,
    example: Example,
    values: dict[str, Tensor],
    inputs: tuple[tuple[Tensor, ...], ...],
) -> Drawn:
    """What was drawn in another process."""
    drawn = Drawn(comparison, example, _Values(values), inputs)
    return replace(drawn, like=drawn.reference(DTYPES[example.dtype]))


def draw(comparison: Comparison, example: Example) -> Drawn:
    """Draw parameters and inputs."""
    generator = Generator().manual_seed(example.seed)
    dtype = DTYPES[example.dtype]
    recognized(comparison)  # with its own sizes, which tell dimensions apart
    drawn = Drawn(comparison, example, None, ())  # type: ignore[arg-type]
    like = make_reference(comparison.resized(example), drawn.training, dtype)
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
