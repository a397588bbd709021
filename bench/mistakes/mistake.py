"""A mistake: an implementation of something that PyTorch computes too, and wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.catalog.implementation import Implementation, T, noted

__all__ = ["MISTAKES", "Mistake", "mistake"]


@dataclass(frozen=True, kw_only=True)
class Mistake(Implementation):
    """A wrong implementation.

    Attributes:
        clause: the one that it breaks, and that is meant to find it.
        missed: why the harness does not find it yet; empty if it does.
    """

    clause: str
    missed: str = ""


MISTAKES: list[Mistake] = []


def mistake(reference: Any, *inputs: str, clause: str, **fields: Any) -> Callable[[T], T]:
    """Note a class or function in :data:`MISTAKES`, under its docstring as a name.

    Args:
        reference: what it claims to be equal to.
        inputs: what both are called on, such as "4,3" or "4:long:10".
        clause: the one that it breaks, and that is meant to find it.
        fields: of :class:`Mistake`.
    """
    given = {"reference": reference, "inputs": inputs, "clause": clause}
    return noted(MISTAKES, Mistake, given | fields)
