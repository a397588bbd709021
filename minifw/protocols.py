"""Protocols: what training needs of a model, a criterion, an optimizer and a schedule."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Criterion", "Model", "Optimizer", "Scheduler"]


class Model(Protocol):
    """A module; only ``train_step`` calls ``backward``, which torch's do not have."""

    training: bool

    def __call__(self, input: Any, /) -> Any: ...
    def backward(self, *grad_outputs: Any, needs_input_grad: bool = True) -> Any: ...
    def train(self, mode: bool = True, /) -> object: ...
    def eval(self) -> object: ...


class Criterion(Protocol):
    """A loss of an output and its target."""

    def __call__(self, input: Any, target: Any, /) -> Tensor: ...
    def backward(self, *grad_outputs: Any) -> Any: ...


class Optimizer(Protocol):
    """What changes the parameters by their gradients."""

    def step(self) -> object: ...
    def zero_grad(self) -> object: ...


class Scheduler(Protocol):
    """A schedule of the learning rate; ``step`` is called once an epoch, with a value if any."""

    @property
    def step(self) -> Callable[..., object]: ...
