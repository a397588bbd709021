"""minifw: a deep-learning framework on plain torch tensors, every backward pass by hand.

The surface is that of :mod:`torch.nn` and :mod:`torch.optim`; the one difference is the explicit
backward pass, ``model.backward(criterion.backward())``.
"""

from minifw import callbacks, data, metrics, nn, optim
from minifw.callbacks import EarlyStopping
from minifw.checkpoint import load, save
from minifw.metrics import accuracy
from minifw.nn.tape import no_grad
from minifw.run import History
from minifw.stacking import stack, unstack
from minifw.training import evaluate, fit, train_step

__version__ = "0.1.0"

__all__ = [
    "EarlyStopping", "History", "accuracy", "callbacks", "data", "evaluate", "fit", "load",
    "metrics", "nn", "no_grad", "optim", "save", "stack", "train_step", "unstack",
]  # fmt: skip
