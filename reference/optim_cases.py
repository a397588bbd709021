"""One row for each verified setting of an optimizer or a learning-rate schedule.

A row is the name of a class, in minifw and in torch alike, and the arguments of its constructor.
"""

import math
from typing import Any

from reference.torch_changes import lacks

__all__ = ["OPTIMIZERS", "SCHEDULES", "Warmup"]

Row = tuple[str, dict[str, Any]]


class Warmup:
    """A factor that is an object with state, which a state_dict must contain."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, epoch: int) -> float:
        return min(1.0, (epoch + 1) / self.epochs)


OPTIMIZERS: tuple[Row, ...] = (
    ("SGD", {"lr": 0.1}),
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.01, "maximize": True}),
    ("SGD", {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    *(
        ()
        if lacks("decoupled Adam")
        else (("Adam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),)
    ),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.9), "amsgrad": True, "eps": 0.1}),
    ("AdamW", {"lr": 0.01, "maximize": True}),
)

SCHEDULES: tuple[Row, ...] = (
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 30}),
    ("ConstantLR", {"factor": 1.0}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: math.cos(epoch)]}),
    ("LambdaLR", {"lr_lambda": Warmup(10)}),
    ("StepLR", {"step_size": 30}),
    ("StepLR", {"step_size": 7, "gamma": 0.5}),
    ("StepLR", {"step_size": 1, "gamma": 1.1}),
    ("MultiStepLR", {"milestones": [10, 40]}),
    ("MultiStepLR", {"milestones": [40, 3, 3, 0], "gamma": 0.3}),
    ("MultiStepLR", {"milestones": ()}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ExponentialLR", {"gamma": 1.02}),
    ("CosineAnnealingLR", {"T_max": 70}),
    ("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.003}),
    ("CosineAnnealingLR", {"T_max": 1, "eta_min": 0.01}),
    # Ours: torch has no such class.
    ("InverseTimeLR", {"decay": 0.05}),
    ("ReduceLROnPlateau", {}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 3}),
    ("ReduceLROnPlateau", {"patience": 2, "factor": 0.5, "cooldown": 4}),
    ("ReduceLROnPlateau", {"patience": 0, "threshold": 0.05, "threshold_mode": "abs"}),
    (
        "ReduceLROnPlateau",
        {"mode": "max", "patience": 1, "threshold": 0.2, "threshold_mode": "abs"},
    ),
    ("ReduceLROnPlateau", {"patience": 1, "factor": 0.1, "min_lr": [1e-3, 0.4]}),
    ("ReduceLROnPlateau", {"patience": 0, "factor": 0.5, "min_lr": 1e-3, "eps": 1e-2}),
    ("ReduceLROnPlateau", {"patience": 1, "threshold": 0.3, "cooldown": 1}),
)
