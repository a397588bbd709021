"""The catalog: the examples that are tried on every comparison, each named and of one clause.

Each example differs from an ordinary one in a single thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from minifw.testing.example import DTYPES, Example

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


def catalog(dtypes: Sequence[str] = tuple(DTYPES)) -> dict[str, Check]:
    """The checks, by name.

    Args:
        dtypes: those that the subject computes in. The first is that of the question about the
            derivative; the second, whose kernels differ, is tried beside it; all have a check of
            their values. Default: all.
    """
    base, two = dtypes[0], dtypes[:2]
    low = [dtype for dtype in ("float32", "float16") if dtype in dtypes]

    def each(example: Example, names: Sequence[str]) -> tuple[Example, ...]:
        return tuple(replace(example, dtype=dtype) for dtype in names)

    def values(dtype: str) -> tuple[Example, ...]:
        return tuple(Example(dtype=dtype, seed=seed) for seed in (0, 1))

    checks = {
        f"values-{base}": Check("derivative", values(base)),
        "initial-parameters": Check("derivative", (Example(parameters="initial", dtype=base),)),
        "one-sample": Check("derivative", each(Example(batch=1, seed=6), two)),
        "larger-batch": Check("derivative", (Example(batch=19, seed=16, dtype=base),)),
        **{f"values-{dtype}": Check("precision", values(dtype)) for dtype in dtypes[1:]},
        # Where formulas overflow and cancel that are right in between.
        "large-numbers": Check("precision", each(Example(scale=1000.0, seed=14), low)),
        "small-numbers": Check("precision", each(Example(scale=0.001, seed=14), low)),
        # Where a difference of means loses its digits: a variance as E[x^2] - E[x]^2.
        "far-from-0": Check("precision", each(Example(shift=1000.0, seed=15), two)),
        "zero-dimensional": Check("ranks", each(Example(scalar=True, seed=7), two)),
        "empty-batch": Check("empty", each(Example(batch=0), two)),
        **{
            layout.replace(" ", "-"): Check("layouts", each(Example(layout=layout, seed=s), two))
            for layout, s in (
                ("transposed", 2), ("strided", 3), ("expanded", 4), ("channels last", 5),
            )
        },
        "frozen": Check("partial-gradients", (Example(steps="frozen", seed=13, dtype=base),)),
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
        "other-mode": Check("modes", (Example(other_mode=True, seed=9, dtype=base),)),
    }  # fmt: skip
    return {name: check for name, check in checks.items() if check.examples}


CHECKS = catalog()
