"""minifw and torch.nn behind one interface: the only place that knows both."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

import minifw
from reference import twins

__all__ = ["FRAMEWORKS", "MINIFW", "PYTORCH", "Framework"]


@dataclass(frozen=True)
class Framework:
    """What a recipe needs from a framework, besides the API that both share.

    Attributes:
        name: in command lines and tables.
        nn, optim: the namespaces.
        train_step: ``train_step(model, criterion, optimizer, input, target)`` makes one step on one
            batch and returns the loss.
        backward: ``backward(model, criterion, loss)`` is the backward pass of a step, from the loss
            to the parameters.
        no_grad: context in which calls save nothing for a backward pass.
    """

    name: str
    nn: ModuleType
    optim: ModuleType
    train_step: Callable[[Any, Any, Any, Tensor, Tensor], Tensor]
    backward: Callable[[Any, Any, Any], None]
    no_grad: Callable[[], contextlib.AbstractContextManager[None]]


def _torch_train_step(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor
) -> Tensor:
    optimizer.zero_grad()
    loss = criterion(model(input), target)
    loss.backward()
    optimizer.step()
    return cast("Tensor", loss.detach())


def _minifw_backward(model: Any, criterion: Any, _: Any) -> None:
    model.backward(criterion.backward(), needs_input_grad=False)


def _torch_nn() -> ModuleType:
    """torch.nn, plus the twins of modules that it lacks."""
    nn = ModuleType("torch.nn and its twins")
    vars(nn).update(vars(torch.nn))
    vars(nn).update({name: getattr(twins, name) for name in twins.__all__})
    return nn


MINIFW = Framework(
    name="minifw",
    nn=minifw.nn,
    optim=minifw.optim,
    train_step=minifw.train_step,
    backward=_minifw_backward,
    no_grad=minifw.no_grad,
)
PYTORCH = Framework(
    name="pytorch",
    nn=_torch_nn(),
    optim=torch.optim,
    train_step=_torch_train_step,
    backward=lambda model, criterion, loss: loss.backward(),
    no_grad=torch.no_grad,
)
FRAMEWORKS = {framework.name: framework for framework in (MINIFW, PYTORCH)}
