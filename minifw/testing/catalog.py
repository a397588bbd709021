"""The catalog: the examples that are tried on every comparison, each named and of one clause.

Each example differs from an ordinary one in a single thing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from minifw.testing.comparison import Comparison
from minifw.testing.example import DTYPES, Example, ordinary
from minifw.testing.random_layers import acts_at_random
from minifw.testing.subjects.make import entries

__all__ = ["CHECKS", "Check", "catalog"]


@dataclass(frozen=True)
class Check:
    """Examples of one clause.

    Attributes:
        clause: key of :data:`minifw.testing.clause.CLAUSES`.
        examples: to be tried.
    """

    clause: str
    examples: tuple[Example, ...]


# Around powers of two, vectors and blocks; multiples of 8 for paths that are faster there.
SIZES = (
    7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 130, 257, 1024, 1025,
)  # fmt: skip
LONG = 4096  # terms of a sum; one in half precision stops growing after 256 or 2,048
LARGEST = 2_000_000  # entries of inputs, parameters and outputs together


def _symbols(comparison: Comparison | None) -> list[int]:
    """The sizes among the dimensions of inputs, the batch's apart where they have one in common."""
    if comparison is None:
        return []
    start = 1 if len({spec.shape[:1] for spec in comparison.inputs}) == 1 else 0
    sizes = {size for spec in comparison.inputs for size in spec.shape[start:]}
    return sorted(size for size in sizes if size > 1)


def _laid_out(comparison: Comparison | None) -> list[int]:
    """The places of the inputs to lay out one at a time, where there are several."""
    if comparison is None or len(comparison.inputs) < 2:
        return []
    return [place for place, spec in enumerate(comparison.inputs) if spec.shape]


def _ignored(comparison: Comparison | None) -> list[int]:
    """Numbers that may stand for an index to be ignored; none where there are no indices."""
    if comparison is None or not any(spec.domain == "index" for spec in comparison.inputs):
        return []
    given = [comparison.options, comparison.reference_options or {}, comparison.call[1]]
    named = [options["ignore_index"] for options in given if "ignore_index" in options]
    return named[:1] or [-100]


def _kinks(comparison: Comparison | None) -> tuple[float, ...]:
    """Numbers at which derivatives jump: multiples of 1/2, and the reference's own floats."""
    numbers = {half / 2 for half in range(-6, 7)} | {-6.0, 6.0}
    if comparison is not None:
        floats = [*comparison.arguments, *comparison.options.values()]
        numbers |= {sign * n for n in floats if isinstance(n, float) for sign in (-1, 1)}
    return tuple(sorted(numbers))


def _fits(comparison: Comparison | None, example: Example) -> bool:
    """Whether inputs, parameters and outputs are small enough to be made dozens of times."""
    if comparison is None:
        return True
    comparison = comparison.resized(example)
    return sum(math.prod(spec.shape) for spec in comparison.inputs) <= LARGEST and (
        entries(comparison) <= LARGEST
    )


def catalog(
    dtypes: Sequence[str] = tuple(DTYPES), comparison: Comparison | None = None
) -> dict[str, Check]:
    """The checks, by name.

    Args:
        comparison: for which sizes and kinks are to be found. Default: none are.
        dtypes: those that the subject computes in. The first is that of the question about the
            derivative; the second, whose kernels differ, is tried beside it; all have a check of
            their values. Default: all.
    """
    base, two = dtypes[0], dtypes[:2]
    low = [dtype for dtype in ("float32", "float16") if dtype in dtypes]

    def each(example: Example, names: Sequence[str]) -> tuple[Example, ...]:
        return tuple(replace(example, dtype=dtype) for dtype in names)

    def scaled(scale: float) -> tuple[Example, ...]:
        examples = each(Example(scale=scale, seed=14), low)
        return tuple(map(ordinary, examples)) if forgiving else examples

    def values(dtype: str) -> tuple[Example, ...]:
        return tuple(Example(dtype=dtype, seed=seed) for seed in (0, 1))

    symbols = _symbols(comparison)
    # What is dropped in evaluation too is a wrong formula, not a matter of PyTorch's conventions.
    forgiving = comparison is not None and comparison.one_sided
    # Nobody makes a layer of no features.
    arguments = () if comparison is None or not forgiving else comparison.arguments
    features = {argument for argument in arguments if isinstance(argument, int)}
    hollow = [size for size in symbols if size not in features]
    random = comparison is not None and forgiving and acts_at_random(comparison)

    def sized(dtype: str, sizes: Sequence[int], **options: Any) -> list[Example]:
        """The batch, and then each size of the inputs, replaced by each of ``sizes``."""
        return [
            *(Example(batch=size, dtype=dtype, seed=17, **options) for size in sizes),
            *(
                Example(sizes={symbol: size}, dtype=dtype, seed=18, **options)
                for symbol in symbols
                for size in sizes
            ),
        ]

    def fitting(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(e for e in examples if comparison is not None and _fits(comparison, e))

    return {
        f"values-{base}": Check("derivative", values(base)),
        "initial-parameters": Check("derivative", (Example(parameters="initial", dtype=base),)),
        "one-sample": Check("derivative", each(Example(batch=1, seed=6), two)),
        "larger-batch": Check("derivative", (Example(batch=19, seed=16, dtype=base),)),
        **{f"values-{dtype}": Check("precision", values(dtype)) for dtype in dtypes[1:]},
        # Where formulas overflow and cancel that are right in between.
        "large-numbers": Check("precision", scaled(1000.0)),
        "small-numbers": Check("precision", scaled(0.001)),
        # Where a difference of means loses its digits: a variance as E[x^2] - E[x]^2.
        "far-from-0": Check("precision", each(Example(shift=1000.0, seed=15), two)),
        # A sum kept in half precision shows only where it is long and nothing cancels.
        "long-sums": Check(
            "precision",
            fitting(
                [
                    example
                    for dtype in ("bfloat16", "float16")
                    if dtype in dtypes
                    for example in sized(dtype, (LONG,), special="positive", cotangent="positive")
                ]
            ),
        ),
        "sizes": Check("sizes", fitting([*sized(base, SIZES), *sized(two[-1], (64, 65, 1025))])),
        "unbatched": Check("ranks", (Example(rank=-1, seed=19, dtype=base),)),
        "leading-dimension": Check("ranks", (Example(rank=1, seed=20, dtype=base),)),
        "two-leading-dimensions": Check("ranks", (Example(rank=2, seed=21, dtype=base),)),
        "trailing-dimension": Check("ranks", (Example(trailing=1, seed=36, dtype=base),)),
        "zero-dimensional": Check("ranks", each(Example(scalar=True, seed=7), two)),
        "empty-batch": Check("empty", each(Example(batch=0), two)),
        **{
            layout.replace(" ", "-"): Check("layouts", each(Example(layout=layout, seed=s), two))
            for layout, s in (
                ("transposed", 2), ("strided", 3), ("expanded", 4), ("channels last", 5),
            )
        },
        "empty-dimension": Check(
            "empty", tuple(Example(sizes={size: 0}, dtype=base) for size in hollow)
        ),
        "columns": Check("layouts", each(Example(layout="columns", seed=22), two)),
        "offset": Check("layouts", each(Example(layout="offset", seed=23), two)),
        **{
            f"{layout}-cotangent": Check(
                "layouts", each(Example(cotangent_layout=layout, seed=24), two)
            )
            for layout in ("transposed", "strided", "expanded", "columns", "offset")
        },
        "one-input-laid-out": Check(
            "layouts",
            tuple(
                Example(layout=layout, laid_out=place, seed=37, dtype=base)
                for place in _laid_out(comparison)
                for layout in ("transposed", "strided")
            ),
        ),
        "laid-out-leading-dimension": Check(
            "layouts",
            tuple(
                Example(rank=1, layout=own, cotangent_layout=others, seed=38, dtype=base)
                for own, others in (
                    ("transposed", ""),
                    ("strided", ""),
                    ("contiguous", "transposed"),
                    ("contiguous", "strided"),
                )
            ),
        ),
        **{
            f"{layout}-parameters": Check(
                "layouts", (Example(parameter_layout=layout, seed=39, dtype=base),)
            )
            for layout in ("transposed", "strided")
        },
        "scalar-cotangent": Check("layouts", each(Example(cotangent="scalar", seed=25), two)),
        **{
            f"{kind.replace(' ', '-')}-cotangent": Check(
                "cotangents", each(Example(cotangent=kind, seed=26), two)
            )
            for kind in ("zeros", "one row", "last row", "large", "small")
        },
        "edges": Check("domain-edges", each(Example(special="edges", seed=27), two)),
        "ignored": Check(
            "domain-edges",
            tuple(Example(ignored=n, seed=40, dtype=base) for n in _ignored(comparison)),
        ),
        "zero-parameters": Check(
            "domain-edges", (Example(parameters="zero", seed=28, dtype=base),)
        ),
        "frozen": Check("partial-gradients", (Example(steps="frozen", seed=13, dtype=base),)),
        "frozen-each": Check(
            "partial-gradients", (Example(steps="frozen each", seed=31, dtype=base),)
        ),
        "input-frozen": Check(
            "partial-gradients", (Example(steps="input frozen", seed=32, dtype=base),)
        ),
        **{
            steps.replace(" ", "-"): Check(clause, (Example(steps=steps, seed=33, dtype=base),))
            for clause, steps in (
                ("call-order", "dropped"),
                ("call-order", "first in first out"),
                ("call-order", "retained"),
                ("call-order", "not leaves"),
                ("call-order", "mode between"),
                ("call-order", "changed between"),
                ("accumulation", "one leaf"),
                ("partial-gradients", "asked"),
                ("cotangents", "outputs unused"),
                ("life", "again"),
                ("life", "changed weights"),
                ("life", "loaded weights"),
                ("life", "evaluated weights"),
                ("life", "other sizes"),
                ("life", "refilled"),
                ("layouts", "same tensor"),
                ("modes", "no grad"),
                ("modes", "inference mode"),
                ("higher-order", "differentiated twice"),
                ("higher-order", "forward mode"),
                ("higher-order", "mapped"),
            )
        },
        "train-eval-train": Check("life", (Example(steps="modes", seed=34, dtype=base),)),
        "two-forwards": Check("call-order", (Example(steps="twice", seed=10, dtype=base),)),
        "chained": Check("call-order", (Example(steps="chained", seed=12, dtype=base),)),
        "accumulated": Check("accumulation", (Example(steps="accumulated", seed=11, dtype=base),)),
        **{
            special.replace(" ", "-"): Check(
                "special-values", each(Example(special=special, seed=8), two)
            )
            for special in ("nan", "infinities", "signed zeros", "subnormal")
        },
        # Only where float64 tells what overflows by right.
        "largest": Check(
            "special-values", each(Example(special="largest", seed=8), two[1:] or two)
        ),
        "ties": Check("kinks", each(Example(special="ties", seed=8), two)),
        "kinks": Check(
            "kinks",
            tuple(
                Example(values=_kinks(comparison), batch=64, seed=seed, dtype=base)
                for seed in (29, 30)
            ),
        ),
        "other-mode": Check(
            "derivative" if random else "modes",
            # Many have no backward pass in evaluation, and need none.
            (Example("no grad" if random else "once", other_mode=True, seed=9, dtype=base),),
        ),
        "draws": Check(
            "derivative", (Example(steps="draws", batch=64, seed=35, dtype=base),) * random
        ),
    }  # fmt: skip


CHECKS = catalog()
