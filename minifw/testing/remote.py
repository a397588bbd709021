"""A subject in a process of its own, as the engine sees it.

The judging process draws the numbers, computes the reference and judges; it never imports the
subject. What crosses the border is one pass: :class:`RemoteSubject` sends a
:class:`~minifw.testing.passes.Pass` with its inputs, and receives the tensors that came out.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minifw.testing.case import seeded
from minifw.testing.comparison import Comparison, Drawn, draw
from minifw.testing.example import DTYPES, Example
from minifw.testing.from_text import load
from minifw.testing.isolation import Answer, LostProcess, Runner, SubjectError
from minifw.testing.passes import NotApplicable, Pass
from minifw.testing.subjects import Subject, UsageError, recognized, supported_dtypes
from minifw.testing.subjects.foreign import Protocol
from minifw.testing.subjects.recognize import CONVENTIONS, Convention

__all__ = ["Elsewhere", "RemoteSubject", "isolated"]


@dataclass(frozen=True)
class Elsewhere:
    """In place of what only the subject's process imports, where it becomes that.

    Attributes:
        source: ``FILE:NAME``, or a pickled object.
    """

    source: str | bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return _found, (self.source,)


_FOUND: dict[str | bytes, Any] = {}  # in the subject's process


def _found(source: str | bytes) -> Any:
    if source not in _FOUND:
        _FOUND[source] = load(source) if isinstance(source, str) else pickle.loads(source)
    return _FOUND[source]


# An error in the subject's process is raised as what it was there, where that matters.
_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (UsageError, NotApplicable, TypeError)
}


class RemoteSubject(Subject):
    """A subject that is made, and called, in another process.

    Args:
        runner: of that process.
        drawn, dtype: as in :meth:`~minifw.testing.comparison.Drawn.subject`.
    """

    def __init__(self, runner: Runner, drawn: Drawn, dtype: torch.dtype) -> None:
        super().__init__(None)
        self.kind = str(drawn.comparison.found["kind"])
        self.contract = str(drawn.comparison.found["contract"])
        self.notes = list(drawn.comparison.found["notes"])
        self.switches = bool(drawn.comparison.found["switches"])
        self.runner = runner
        self.drawn = drawn
        self.dtype = dtype
        self.remote = self._run

    def tensors(self, function: Callable[[Drawn], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What a function makes there of what was drawn."""
        return self._call(_tensors, function, self.drawn)[0]

    def text(self, function: Callable[[Drawn], str]) -> str:
        """What a function says there of what was drawn."""
        return str(self._call(_text, function, self.drawn)[1]["text"])

    def _call_with_subject(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        return self._call(_with_subject, function, self.drawn, self.dtype, arguments)

    def _call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function in the other process.

        Raises:
            UsageError, NotApplicable, TypeError: raised there.
            SubjectError: any other error was raised, or the process was lost.
        """
        try:
            tensors, facts = self.runner.call(function, *arguments)
        except SubjectError as error:
            if not error.kind:
                raise
            message = str(error).removeprefix(f"{error.kind}: ")
            kind = error.kind if error.kind.isidentifier() else "SubjectError"
            raise _KINDS.get(kind, type(kind, (SubjectError,), {}))(message) from None
        device = self.drawn.comparison.device
        return {name: tensor.to(device) for name, tensor in tensors.items()}, facts

    def _run(self, run: Pass, draws: Sequence[tuple[Any, ...]]) -> None:
        """Do a pass there, and fill in here what came out."""
        settings = (run.specs, run.example, run.cotangents, run.move, run.within, run.in_place)
        run.named, facts = self._call_with_subject(_run, settings, draws)
        run.side_effects = [str(effect) for effect in facts["side_effects"]]
        run.largest_cotangent = float(facts["largest_cotangent"])

    def forward_only(self, *inputs: Any) -> tuple[Any, ...]:
        return tuple(self._call_with_subject(_forward_only, inputs)[0].values())

    def parameters(self) -> dict[str, Tensor]:
        return {}

    def gradients(self) -> dict[str, Tensor | None]:
        return {}


def isolated(comparison: Comparison, runner: Runner, texts: Sequence[str] = ()) -> Comparison:
    """The same comparison, whose subject is run in a process of its own.

    Args:
        comparison: whose subject is an :class:`Elsewhere`, or can be pickled.
        runner: of that process.
        texts: by which other parts of the comparison were loaded, as they are to be there.

    Raises:
        UsageError: subject or reference cannot be pickled, or imported there, or the subject is of
            no known kind.
        SubjectError: the process was lost when the subject was first made.
    """
    subject = comparison.subject
    if not isinstance(subject, Elsewhere):
        subject = Elsewhere(_pickled("subject", subject))
    _pickled("reference", comparison.reference)
    try:
        runner.load(_load, subject.source, *texts)
    except LostProcess as error:
        reason = f"cannot import {comparison.name}: its process was lost: {error}"
        raise UsageError(reason) from None
    except SubjectError as error:
        raise UsageError(str(error).removeprefix("UsageError: ")) from None
    there = replace(comparison, subject=subject, isolated=partial(RemoteSubject, runner), found={})
    try:
        facts = runner.call(_describe, there)[1]
    except SubjectError as error:
        if error.kind == "UsageError":
            raise UsageError(str(error).removeprefix("UsageError: ")) from None
        raise
    there.found.update(_checked(facts))
    return there


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """What the subject's process says that it found, if it can be true.

    The reference is multiplied by a loss's convention, so it must be one of those that are tried.
    """
    found: dict[str, Any] = {"kind": str(facts["kind"]), "contract": str(facts["contract"])}
    found["notes"] = [str(note) for note in facts["notes"]]
    found["switches"] = bool(facts["switches"])
    if "protocol" in facts:
        kind, returned, dtypes = facts["protocol"]
        convention = Convention(*facts["convention"])
        if convention not in CONVENTIONS:
            raise SubjectError(f"no such convention: {facts['convention']}")
        if (facts["reduction"] or "") not in ("", "mean", "sum", "none"):
            raise SubjectError(f"no such reduction: {facts['reduction']}")
        if not any(str(name).startswith("input.") for name in returned):
            raise SubjectError("its backward pass gives no gradient of an input")
        found["protocol"] = Protocol(
            kind=str(kind), returned=tuple(map(str, returned)), dtypes=tuple(map(str, dtypes))
        )
        found["convention"] = convention
        found["reduction"] = facts["reduction"]
    return found


def _pickled(what: str, value: Any) -> bytes:
    try:
        if getattr(value, "__module__", "") == "__main__":
            raise ValueError("it is defined in the program itself")
        return pickle.dumps(value)
    except Exception as error:
        raise UsageError(
            f"the {what} cannot be sent to a process of its own ({error}); "
            "define it in a module, or give it as 'FILE:NAME'"
        ) from None


# What follows is called in the subject's process.


def _load(subject: str | bytes, *texts: str) -> Answer:
    for text in texts:
        load(text)  # whose classes and functions are pickled by name
    _found(subject)
    return {}, {}


def _with_subject(
    function: Callable[..., Answer], drawn: Drawn, dtype: torch.dtype, arguments: tuple[Any, ...]
) -> Answer:
    return function(drawn.subject(dtype), *arguments)


def _tensors(function: Callable[[Drawn], dict[str, Tensor]], drawn: Drawn) -> Answer:
    return function(drawn), {}


def _text(function: Callable[[Drawn], str], drawn: Drawn) -> Answer:
    return {}, {"text": function(drawn)}


def _describe(comparison: Comparison) -> Answer:
    recognized(comparison)
    found = comparison.found
    dtype = supported_dtypes(comparison)[0]
    subject = draw(comparison, Example(dtype=dtype)).subject(DTYPES[dtype])
    facts = {"kind": found["kind"], "contract": subject.contract, "notes": subject.notes}
    facts["switches"] = subject.switches
    if "protocol" in found:
        protocol, convention = found["protocol"], found["convention"]
        facts["protocol"] = [protocol.kind, protocol.returned, protocol.dtypes]
        facts["convention"] = [convention.constant, convention.samples, convention.entries]
        facts["reduction"] = found["reduction"]
    return {}, facts


def _run(subject: Subject, settings: tuple[Any, ...], draws: Sequence[tuple[Any, ...]]) -> Answer:
    run = Pass(subject, *settings)
    run.run(draws)
    return run.named, {
        "side_effects": run.side_effects,
        "largest_cotangent": run.largest_cotangent,
    }


def _forward_only(subject: Subject, inputs: tuple[Any, ...]) -> Answer:
    with seeded(0):
        outputs = subject.forward_only(*inputs)
    return {str(place): output for place, output in enumerate(outputs)}, {}
