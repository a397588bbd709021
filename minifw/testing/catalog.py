"""The checks: which examples are tried on every comparison, each differing from the plain one in a
single thing."""

from minifw.testing.example import DTYPES, SPECIAL, Example

__all__ = ["CHECKS"]


def _plain() -> dict[str, tuple[Example, ...]]:
    return {
        f"values in {dtype}": tuple(Example(dtype=dtype, seed=seed) for seed in (0, 1))
        for dtype in DTYPES
    }


def _both(**options: object) -> tuple[Example, ...]:
    """An example in float64, where a formula shows, and in float32, whose kernels differ."""
    return tuple(Example(dtype=dtype, **options) for dtype in ("float64", "float32"))  # type: ignore[arg-type]


CHECKS: dict[str, tuple[Example, ...]] = {
    **_plain(),
    "initial parameters": (Example(parameters="initial"),),
    "transposed": _both(layout="transposed", seed=2),
    "strided": _both(layout="strided", seed=3),
    "expanded": _both(layout="expanded", seed=4),
    "channels last": _both(layout="channels last", seed=5),
    "empty batch": _both(batch=0),
    "one sample": _both(batch=1, seed=6),
    "zero-dimensional": _both(scalar=True, seed=7),
    # The largest numbers only where float64 tells what overflows by right.
    **{
        name: _both(special=name, seed=8)[name == "largest" :]
        for name in SPECIAL
    },
    # Where formulas overflow and cancel that are right in between.
    **{
        f"{name} numbers": tuple(
            Example(dtype=dtype, scale=scale, seed=14) for dtype in ("float32", "float16")
        )
        for name, scale in (("large", 1000.0), ("small", 0.001))
    },
    # Where a difference of means loses its digits: a variance as that of squares and a square.
    "far from 0": _both(shift=1000.0, seed=15),
    "other mode": (Example(other_mode=True, seed=9),),
    "two forwards, two backwards": (Example(steps="twice", seed=10),),
    "accumulated": (Example(steps="accumulated", seed=11),),
    "chained": (Example(steps="chained", seed=12),),
    "frozen": (Example(steps="frozen", seed=13),),
}  # fmt: skip
