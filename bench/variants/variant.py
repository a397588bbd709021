"""A variant: an implementation unlike PyTorch's, and right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from minifw.testing.comparison import Comparison
from minifw.testing.example import DTYPES, parse_input
from minifw.testing.from_text import read_call

__all__ = ["VARIANTS", "Variant", "variant"]

T = TypeVar("T", bound=Callable[..., Any])

Held = Sequence[tuple[Any, Any]]  # a value and its gradient for each parameter


@dataclass(frozen=True)
class Variant:
    """A right implementation of something that PyTorch, or a line of eager code, computes too.

    Attributes:
        name: what sets it apart, in plain words.
        family: the module of this package that it stands in.
        subject, reference, inputs, backward: as :func:`minifw.testing.verify` takes them.
        init, reference_init: arguments of the constructors, as in a call. The reference's are the
            subject's unless given.
        call: further arguments of both calls, as in a call.
        contract: what it is to keep.
        kind: how to call it by hand, to be sure that it is right: "module"; "Function"; "function";
            "pair", of forward and backward functions; "derivative", a function and its derivative;
            "with gradient", a loss that returns both; "object"; "loss", whose ``backward`` takes
            nothing; "loss of inputs", whose ``backward`` takes the inputs again; "random".
        arrays: "torch", "numpy", or "float" for a function of one number.
        columns: whether samples are columns.
        order: the places of the inputs in its call.
        held: of an object, values and gradients of its parameters, in the reference's order.
        allow: clauses that it does not keep, and whose author says so.
        in_place: whether it writes into its inputs or cotangents.
        dtypes: those that it is made for. Default: all.
    """

    name: str
    family: str
    subject: Any
    reference: Any
    inputs: tuple[str, ...]
    init: str = ""
    reference_init: str | None = None
    call: str = ""
    contract: str = "torch"
    kind: str = "module"
    arrays: str = "torch"
    columns: bool = False
    order: tuple[int, ...] = ()
    backward: Callable[..., Any] | None = None
    held: Callable[[Any], Held] = lambda made: ()
    allow: tuple[str, ...] = ()
    in_place: bool = False
    dtypes: tuple[str, ...] = tuple(DTYPES)

    def comparison(self) -> Comparison:
        """What is given to the engine: no adapter, and no hint of its kind."""
        arguments, options = read_call(self.init)
        theirs = None if self.reference_init is None else read_call(self.reference_init)
        return Comparison(
            self.name,
            self.subject,
            self.reference,
            tuple(map(parse_input, self.inputs)),
            arguments,
            options,
            reference_arguments=theirs and theirs[0],
            reference_options=theirs and theirs[1],
            call=read_call(self.call),
            backward=self.backward,
            in_place=self.in_place,
        )


VARIANTS: list[Variant] = []


def variant(reference: Any, *inputs: str, **fields: Any) -> Callable[[T], T]:
    """Note a class or function in :data:`VARIANTS`, under its docstring as a name.

    Args:
        reference: what it is equal to.
        inputs: what both are called on, such as "4,3" or "4:long:10".
        fields: of :class:`Variant`. Default contract: "torch" for what autograd goes through, else
            "formula".
    """

    def note(subject: T) -> T:
        through_autograd = fields.get("kind", "module") in ("module", "Function", "function")
        defaults = {
            "name": subject.__doc__,
            "family": subject.__module__.rpartition(".")[2],
            "contract": "torch" if through_autograd else "formula",
        }
        given = {"subject": subject, "reference": reference, "inputs": inputs}
        VARIANTS.append(Variant(**(defaults | given | fields)))
        return subject

    return note
