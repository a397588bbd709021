"""minifw: a deep-learning framework on plain torch tensors, every backward pass by hand.

The surface is that of :mod:`torch.nn` and :mod:`torch.optim`; the one difference is the explicit
backward pass, ``model.backward(criterion.backward())``.
"""

from minifw import data, nn, optim
from minifw.nn.rule import no_grad
from minifw.training import accuracy, evaluate, fit, train_step

__version__ = "0.1.0"

__all__ = ["accuracy", "data", "evaluate", "fit", "nn", "no_grad", "optim", "train_step"]
