"""The catalog of right variants: implementations unlike PyTorch's that have to pass.

The twin of :mod:`bench.faults`: that one counts what gets through, this one the false alarms.
"""

from bench.variants import (  # noqa: F401 -- each notes its variants
    activations,
    attention,
    convolutions,
    dropout,
    functions,
    linear,
    losses,
    normalization,
    numpy_code,
    recurrent,
    student,
    tables,
)
from bench.variants.variant import VARIANTS, Variant

__all__ = ["VARIANTS", "Variant"]
