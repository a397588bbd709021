"""One row for each verified setting of an initializer.

A row is the name of a function, in minifw and in torch alike, the arguments after its tensor, and
whether it draws, and so takes a generator.
"""

from typing import Any

__all__ = ["INITIALIZERS", "SHAPES"]

INITIALIZERS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("uniform_", {}, True),
    ("uniform_", {"a": -2.5, "b": 0.5}, True),
    ("normal_", {}, True),
    ("normal_", {"mean": -2.5, "std": 0.5}, True),
    ("zeros_", {}, False),
    ("ones_", {}, False),
    ("constant_", {"val": 0.3}, False),
    *(
        (f"xavier_{name}_", options, True)
        for name in ("uniform", "normal")
        for options in ({}, {"gain": 5 / 3})
    ),
    *(
        (f"kaiming_{name}_", options, True)
        for name in ("uniform", "normal")
        for options in (
            {},
            {"nonlinearity": "relu", "mode": "fan_out"},
            {"nonlinearity": "tanh"},
            {"a": 0.2, "mode": "FAN_IN"},
            {"a": 5**0.5},
        )
    ),
)

SHAPES = ((25, 2), (1, 25), (4, 4), (6, 3, 5), (2, 3, 4, 5))
