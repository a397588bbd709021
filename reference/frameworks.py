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
    """What a recipe needs of a framework; all else is the surface that both share.

    Attributes:
        name: as the command line and the tables give it.
        nn, optim: the namespaces.
        train_step: ``train_step(model, criterion, optimizer, input, target)`` does one step on one
            batch and returns the loss.
        no_grad: context in which calls keep nothing for a backward pass.
    """

    name: str
    nn: ModuleType
    optim: ModuleType
    train_step: Callable[[Any, Any, Any, Tensor, Tensor], Tensor]
    no_grad: Callable[[], contextlib.AbstractContextManager[None]]


def _torch_train_step(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor
) -> Tensor:
    optimizer.zero_grad()
    loss = criterion(model(input), target)
    loss.backward()
    optimizer.step()
    return cast("Tensor", loss.detach())


def _torch_nn() -> ModuleType:
    """torch.nn, with the twins of what it lacks."""
    nn = ModuleType("torch.nn and its twins")
    vars(nn).update(vars(torch.nn))
    vars(nn).update({name: getattr(twins, name) for name in twins.__all__})
    return nn


MINIFW = Framework("minifw", minifw.nn, minifw.optim, minifw.train_step, minifw.no_grad)
PYTORCH = Framework("pytorch", _torch_nn(), torch.optim, _torch_train_step, torch.no_grad)
FRAMEWORKS = {framework.name: framework for framework in (MINIFW, PYTORCH)}
