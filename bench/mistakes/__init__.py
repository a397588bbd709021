"""The catalog of wrong subjects: implementations with one mistake each, which have to be found.

The twin of :mod:`bench.variants`. :mod:`bench.faults` puts mistakes into minifw's own layers; these
stand beside PyTorch's, as a stranger's code does.
"""

from bench.mistakes import (  # noqa: F401 -- each notes its mistakes
    cheats,
    cotangents,
    formulas,
    higher_order,
    layouts,
    life,
    precision,
    protocol,
    ranks,
    sizes,
    values,
)
from bench.mistakes.mistake import MISTAKES, Mistake

__all__ = ["MISTAKES", "Mistake"]
