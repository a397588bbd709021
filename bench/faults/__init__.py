"""The catalog of faults that the equivalence engine has to find.

Each is a minifw in which one class or function is wrong, and is named after what it does.
"""

from bench.faults import (  # noqa: F401 -- each notes its faults
    activations,
    data,
    initializers,
    layers,
    losses,
    normalization,
    optimizers,
    schedules,
    training,
)
from bench.faults.fault import FAULTS, Fault, replaced

__all__ = ["FAULTS", "Fault", "replaced"]
