"""An implementation of something that PyTorch computes too, and how one is noted in a catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from minifw.testing import Report
from minifw.testing.comparison import Comparison
from minifw.testing.example import DTYPES, parse_input
from minifw.testing.from_text import read_call
from minifw.testing.verification import verify_comparison

__all__ = ["Implementation", "noted"]

T = TypeVar("T", bound=Callable[..., Any])
I = TypeVar("I", bound="Implementation")  # noqa: E741 -- a type, not a number


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """An implementation of something that PyTorch, or a line of eager code, computes too.

    Attributes:
        name: what sets it apart, in plain words.
        family: the module that it stands in.
        subject, reference, inputs, backward: as :func:`minifw.testing.verify` takes them.
        init, reference_init: arguments of the constructors, as in a call. The reference's are the
            subject's unless given.
        call: further arguments of both calls, as in a call.
        contract: under which it is verified.
        allow: clauses that it does not keep, and whose author says so.
        in_place: whether it may write into its inputs and cotangents.
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
    backward: Callable[..., Any] | None = None
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

    def verify(self, **options: Any) -> Report:
        """Verify it under its contract, with options of ``verify_comparison``."""
        return verify_comparison(
            self.comparison(),
            contract=self.contract,
            allow=self.allow,
            dtypes=self.dtypes,
            **options,
        )


def noted(catalog: list[I], record: type[I], fields: Mapping[str, Any]) -> Callable[[T], T]:
    """A decorator that notes a class or function, under its docstring as a name.

    Args:
        catalog: where to note it.
        record: what to note it as.
        fields: of ``record``.
    """

    def note(subject: T) -> T:
        family = subject.__module__.rpartition(".")[2]
        found = {"name": subject.__doc__, "family": family, "subject": subject}
        catalog.append(record(**(found | {**fields})))
        return subject

    return note
