"""The catalog of mutants: copies of minifw with one deliberate fault, which the checks must find.

In each, one class or function is wrong; its docstring is the name of the fault.
"""

from bench.faults import (  # noqa: F401 -- each registers its faults
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
