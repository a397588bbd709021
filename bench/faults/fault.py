"""Mutants: copies of minifw in which one class or function is replaced by a wrong one."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

import minifw

__all__ = ["FAULTS", "Fault", "Rule", "differentiate", "fault", "of_autograd", "replaced"]

Rule = tuple[Any, Callable[..., Any]]
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Fault:
    """A deliberate fault.

    Attributes:
        name: its effect, in plain words.
        where: the path in ``minifw`` of the replaced class or function: "nn.Linear".
        wrong: the replacement.
    """

    name: str
    where: str
    wrong: Any

    @property
    def family(self) -> str:
        """The module of the catalog that defines the fault: "layers", "optimizers"."""
        return str(self.wrong.__module__.rpartition(".")[2])

    def framework(self) -> ModuleType:
        """The mutant: a copy of minifw with the fault; minifw itself is unchanged."""
        return replaced(minifw, self.where, self.wrong)


FAULTS: list[Fault] = []


def fault(where: str) -> Callable[[T], T]:
    """Register a class or function in :data:`FAULTS`; its docstring is the name."""

    def register(wrong: T) -> T:
        FAULTS.append(Fault(wrong.__doc__ or "", where, wrong))
        return wrong

    return register


def replaced(module: ModuleType, path: str, value: Any) -> ModuleType:
    """A copy of ``module`` with ``value`` at ``path``."""
    copy = ModuleType(module.__name__)
    vars(copy).update({n: getattr(module, n) for n in dir(module)})
    name, _, rest = path.partition(".")
    setattr(copy, name, replaced(getattr(module, name), rest, value) if rest else value)
    return copy


def differentiate(
    function: Callable[..., Tensor], *tensors: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """The value of a function, and its pullback by autograd.

    A wrong formula thus has its own gradient, and a ``detach`` in a right one is a dependence that
    the backward pass forgets.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves)

    def pullback(grad_output: Tensor) -> tuple[Tensor, ...]:
        grads = torch.autograd.grad(output, leaves, grad_output, materialize_grads=True)
        return tuple(grad.clone() for grad in grads)

    return output.detach().clone(), pullback


def of_autograd(module: Any, function: Callable[..., Tensor], input: Tensor) -> Rule:
    """The rule of a layer that computes ``function(input, *parameters)``."""
    parameters = list(module.parameters())
    output, pullback = differentiate(function, input, *(p.data for p in parameters))

    def pull_and_add(grad_output: Tensor, needs_input_grad: bool = True) -> Tensor:
        grad_input, *grads = pullback(grad_output)
        for parameter, grad in zip(parameters, grads, strict=True):
            if parameter.requires_grad:
                parameter.add_grad(grad)
        return grad_input

    return output, pull_and_add
