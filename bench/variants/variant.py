"""A variant: an implementation unlike PyTorch's, and right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.catalog.implementation import Implementation, T, noted

__all__ = ["VARIANTS", "Variant", "variant"]

Held = Sequence[tuple[Any, Any]]  # a value and its gradient for each parameter


@dataclass(frozen=True, kw_only=True)
class Variant(Implementation):
    """A right implementation, and how to call it by hand.

    Attributes:
        kind: how to call it by hand, to be sure that it is right: "module"; "Function"; "function";
            "pair", of forward and backward functions; "derivative", a function and its derivative;
            "with gradient", a loss that returns both; "object"; "loss", whose ``backward`` takes
            nothing; "loss of inputs", whose ``backward`` takes the inputs again; "random".
        arrays: "torch", "numpy", or "float" for a function of one number.
        columns: whether samples are columns.
        order: the places of the inputs in its call.
        held: of an object, values and gradients of its parameters, in the reference's order.
    """

    kind: str = "module"
    arrays: str = "torch"
    columns: bool = False
    order: tuple[int, ...] = ()
    held: Callable[[Any], Held] = lambda made: ()


VARIANTS: list[Variant] = []


def variant(reference: Any, *inputs: str, **fields: Any) -> Callable[[T], T]:
    """Note a class or function in :data:`VARIANTS`, under its docstring as a name.

    Args:
        reference: what it is equal to.
        inputs: what both are called on, such as "4,3" or "4:long:10".
        fields: of :class:`Variant`. Default contract: "torch" for what autograd goes through, else
            "formula".
    """
    through_autograd = fields.get("kind", "module") in ("module", "Function", "function")
    contract = "torch" if through_autograd else "formula"
    given = {"contract": contract, "reference": reference, "inputs": inputs}
    return noted(VARIANTS, Variant, given | fields)
