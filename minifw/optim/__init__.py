"""Optimizers and learning-rate schedules, on the surface of :mod:`torch.optim`."""

from minifw.optim import lr_scheduler
from minifw.optim.adam import Adam, AdamW
from minifw.optim.optimizer import Optimizer
from minifw.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
