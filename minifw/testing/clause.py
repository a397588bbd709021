"""Clauses: what PyTorch promises of a layer, in parts that are tried and judged one by one.

The contract says which clauses decide a verdict; the others are reported beside it.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from minifw.testing.example import Example
from minifw.testing.subjects import UsageError

__all__ = ["CLAUSES", "CONTRACTS", "Clause", "clause_of", "deciding", "known"]

CONTRACTS = ("formula", "torch", "minifw")


@dataclass(frozen=True)
class Clause:
    """One part of PyTorch's contract.

    Attributes:
        name: without blanks, as ``--require`` and ``--allow`` take it.
        summary: what it tries, in a line.
        contracts: in which it decides the verdict.
    """

    name: str
    summary: str
    contracts: tuple[str, ...] = ("torch", "minifw")


CLAUSES: dict[str, Clause] = {
    clause.name: clause
    for clause in (
        Clause("derivative", "values and gradients of ordinary numbers", CONTRACTS),
        Clause("precision", "float32, bfloat16 and float16; large and small numbers; long sums"),
        Clause("sizes", "sizes around powers of two and blocks, one at a time"),
        Clause("ranks", "unbatched, with more leading dimensions, zero-dimensional"),
        Clause("empty", "a batch, or another dimension, of zero"),
        Clause("layouts", "strides of inputs and of cotangents: transposed, strided, expanded"),
        Clause("cotangents", "zeros, one row, scaled, large and small, None"),
        Clause("partial-gradients", "inputs without gradient, frozen parameters"),
        Clause("call-order", "several forward passes before their backward passes"),
        Clause("life", "one object over many calls: changed weights, sizes and modes"),
        Clause("accumulation", "gradients are added to what is there"),
        Clause("special-values", "NaN, infinities, signed zeros, subnormal, largest", ("minifw",)),
        Clause("kinks", "where the derivative jumps"),
        Clause("domain-edges", "probabilities of 0 and 1, ignored and repeated indices"),
        Clause("side-effects", "nothing modified, nothing shared, dtype and global state kept"),
        Clause("determinism", "the same call twice gives the same bits"),
        Clause("modes", "training and evaluation mode, no_grad, inference_mode"),
        Clause("higher-order", "double backward, forward mode, vmap: right or refused"),
        Clause("options", "constructor options of the reference", ("minifw",)),
    )
}


def known(what: str, name: str, names: Collection[str]) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        UsageError: it is not; the message suggests the nearest.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; expected some of {', '.join(names)}"
    raise UsageError(f"unknown {what} {name!r}{hint}")


def deciding(
    contract: str,
    require: Collection[str] = (),
    allow: Collection[str] = (),
    table: Mapping[str, Clause] = CLAUSES,
) -> frozenset[str]:
    """The names of the clauses that decide a verdict under a contract.

    Args:
        contract: one of :data:`CONTRACTS`.
        require: clauses that decide besides.
        allow: clauses that do not.
        table: the clauses there are.

    Raises:
        UsageError: a name is unknown.
    """
    known("contract", contract, CONTRACTS)
    for name in (*require, *allow):
        known("clause", name, table)
    names = {clause.name for clause in table.values() if contract in clause.contracts}
    return frozenset((names | {*require}) - {*allow})


def clause_of(example: Example, base: str) -> str:
    """The clause that an example tries, by what sets it apart from an ordinary one.

    Args:
        example: what is drawn and done.
        base: the dtype of the question about the derivative.
    """
    steps = {
        "accumulated": "accumulation",
        "one leaf": "accumulation",
        "outputs unused": "cotangents",
        **dict.fromkeys(("frozen", "frozen each", "input frozen", "asked"), "partial-gradients"),
        **dict.fromkeys(
            ("again", "changed weights", "loaded weights", "evaluated weights", "other sizes",
             "modes", "refilled"), "life",
        ),
        **dict.fromkeys(("no grad", "inference mode"), "modes"),
        "same tensor": "layouts",
        **dict.fromkeys(("differentiated twice", "forward mode", "mapped"), "higher-order"),
        "draws": "derivative",
    }  # fmt: skip
    plain = Example()
    tried = (
        (steps.get(example.steps, "call-order"), example.steps != plain.steps),
        ("modes", example.other_mode),
        ("kinks", example.special == "ties" or bool(example.values)),
        ("domain-edges", example.special == "edges" or example.parameters == "zero"),
        ("domain-edges", example.ignored is not None),
        ("precision", example.special == "positive"),
        ("special-values", bool(example.special)),
        ("layouts", example.layout != plain.layout or bool(example.cotangent_layout)),
        ("layouts", example.cotangent == "scalar" or bool(example.parameter_layout)),
        ("cotangents", example.cotangent != plain.cotangent),
        ("empty", example.batch == 0),
        ("ranks", example.scalar or example.rank != 0 or example.trailing != 0),
        ("precision", example.dtype != base or example.scale != 1 or example.shift != 0),
    )
    return next((clause for clause, applies in tried if applies), "derivative")
