"""minifw: a deep-learning framework on plain torch tensors, every backward pass by hand.

The surface is that of :mod:`torch.nn` and :mod:`torch.optim`; the one difference is the explicit
backward pass, ``model.backward(criterion.backward())``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minifw import callbacks, data, metrics, nn, optim, plans
    from minifw.callbacks import EarlyStopping
    from minifw.checkpoint import load, save
    from minifw.metrics import accuracy
    from minifw.nn.tape import no_grad
    from minifw.run import History
    from minifw.stacking import stack, unstack
    from minifw.training import evaluate, fit, train_step

__version__ = "0.2.0"

__all__ = [
    "EarlyStopping", "History", "accuracy", "callbacks", "data", "evaluate", "fit", "load",
    "metrics", "nn", "no_grad", "optim", "plans", "save", "stack", "train_step", "unstack",
]  # fmt: skip

# Imported when first used: pytest loads the plugin in minifw.testing, and with it this module, in
# every run of a project that has minifw installed, and torch takes a second.
_MODULES = {
    "EarlyStopping": "callbacks", "History": "run", "accuracy": "metrics", "evaluate": "training",
    "fit": "training", "load": "checkpoint", "no_grad": "nn.tape", "save": "checkpoint",
    "stack": "stacking", "train_step": "training", "unstack": "stacking",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"minifw.{_MODULES[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"minifw.{name}")
    else:
        raise AttributeError(f"module 'minifw' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
