"""Stacks: many models of one shape, trained as one with a leading dimension for its members."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from minifw import nn
from minifw.nn.loss import Loss

__all__ = ["stack", "unstack"]

# Those whose rules work with a leading dimension, by their rules, since subclasses may have others.
_RULES = {
    kind.rule
    for kind in (
        *(nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.Dropout, nn.Identity, nn.Flatten, Loss),
        *(nn.Activation, nn.Tanh, nn.Sigmoid, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU),
        *(nn.Softplus, nn.Softmax, nn.LogSoftmax, nn.Add, nn.Multiply, nn.Concatenate),
        *(nn.Sequential, nn.Module),
    )
}
_DIMS: dict[Any, tuple[str, ...]] = {
    **{kind.rule: ("dim",) for kind in (nn.Softmax, nn.LogSoftmax, nn.Concatenate)},
    nn.Flatten.rule: ("start_dim", "end_dim"),
}


def stack(models: Iterable[nn.Module]) -> Any:
    """Return one model of many of one shape, which trains each of them as if it were alone.

    >>> import minifw
    >>> model = minifw.stack([nn.Linear(2, 1) for _ in range(32)])
    >>> criterion = minifw.stack([nn.MSELoss()] * 32)
    >>> optimizer = minifw.optim.SGD(model.parameters(), lr=0.1)
    >>> inputs, targets = torch.randn(32, 50, 2), torch.randn(32, 50, 1)  # 50 samples for each
    >>> minifw.train_step(model, criterion, optimizer, inputs, targets).shape
    torch.Size([32])
    >>> len(minifw.unstack(model))
    32

    Every parameter and buffer has the members' in its first dimension, and so have inputs, outputs
    and losses. A member is what it would have been alone, up to rounding. Optimizers work entry by
    entry, so that they need not know of members; ``nn.utils.clip_grad_norm_`` would take the norm
    of all members together. Tensors that :class:`~minifw.nn.Add` or its like broadcast against each
    other need as many dimensions as each other, since all have the members in the first.

    Args:
        models: the members, of the same modules, settings, shapes and dtypes; models or losses.
            They are copied. Dropout draws the masks of each from its own generator.

    Raises:
        ValueError: there are none, or two differ in more than values.
        TypeError: a module, which is named, cannot be stacked: one with a rule of its own, one with
            a ``forward`` and parameters of its own, a loss with weights, a dropout without a
            generator, a softmax without dim.
    """
    models = list(models)
    if not models:
        raise ValueError("expected at least one model to stack, got none")
    expected = _shape(models[0])
    for index, model in enumerate(models):
        for here, there in zip(_shape(model), expected, strict=False):
            if here != there:
                raise ValueError(
                    f"expected models of one shape, got, at 0, {there} and, at {index}, {here}; "
                    "make all by the same function"
                )
    for path, module in models[0].named_modules():
        reason = _obstacle(module)
        if reason:
            raise TypeError(f"{path} {module!r} cannot be stacked: {reason}".lstrip())
    memo: dict[int, Any] = {}
    for parts in zip(*(_parts(model) for model in models), strict=True):
        memo[id(parts[0])] = torch.stack(parts) if isinstance(parts[0], Tensor) else list(parts)
    return _copy(models[0], memo, len(models), 1)


def unstack(stacked: nn.Module) -> list[Any]:
    """Return the members of a stack: models of their own, with the generators they had in it.

    Raises:
        ValueError: it is no stack.
    """
    if stacked.members is None:
        raise ValueError(f"expected a model made by minifw.stack, got {type(stacked).__name__}")
    models = []
    for member in range(stacked.members):
        memo: dict[int, Any] = {}
        for part in _parts(stacked):
            memo[id(part)] = part[member].clone() if isinstance(part, Tensor) else part[member]
        models.append(_copy(stacked, memo, None, -1))
    return models


def _parts(model: nn.Module) -> list[Any]:
    """What members have each of their own: values and generators; lists of these in a stack."""
    drop = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    values = [parameter.data for parameter in model.parameters()]
    return [*values, *model.buffers(), *(module.generator for module in drop if module.generator)]


def _shape(model: nn.Module) -> list[Any]:
    """All but the values and generators of a model."""
    named: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    shapes = [(name, tuple(of.shape), of.dtype, of.device, of.requires_grad) for name, of in named]
    count = f"{len(_parts(model))} values and generators"
    return [repr(model), count, *shapes, [module.training for module in model.modules()]]


def _copy(model: nn.Module, memo: dict[int, Any], members: int | None, shift: int) -> nn.Module:
    """A copy of the model with what ``memo`` has for its parts, its dimensions moved by shift."""
    memo |= {id(p.grad): None for p in model.parameters() if p.grad is not None}
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        module.members = members
        for name in _DIMS.get(type(module).rule, ()):
            dim = getattr(module, name)
            setattr(module, name, dim + shift if dim >= 0 else dim)
    return copied


def _obstacle(module: nn.Module) -> str:
    """Why the module cannot be stacked, or "" if it can."""
    rule, of = type(module).rule, vars(module)
    if module.members is not None:
        return "it is of a stack already; unstack that, and stack all members together"
    if rule not in _RULES:
        return "its rule is its own and may take the members for samples; compose other modules"
    own = any(isinstance(value, nn.Parameter) for value in of.values())
    if rule is nn.Module.rule and (own or module._buffers):
        return "it holds parameters or buffers itself; give them to a module that it calls"
    if isinstance(module, Loss) and any(of[name] is not None for name in module._buffers):
        return "its weights would have to be broadcast to members; leave them out"
    if isinstance(module, nn.Dropout) and module.p and module.generator is None:
        return "it draws from torch's global generator; give each model's its own generator"
    if any(of[name] is None for name in _DIMS.get(rule, ())):
        return "its dim depends on the input's dimensions; give it"
    return ""
