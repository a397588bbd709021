"""Stacks: many models of one shape, trained as one with a leading dimension for the members.

Most rules work entry by entry or on the last dimensions, so they need not know of members. This
file has the others: :func:`stack` gives each of their modules a class of its own.
"""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minifw import nn
from minifw.callbacks import EarlyStopping
from minifw.data import Data, shuffle, split
from minifw.layout import Layout
from minifw.metrics import Metric
from minifw.nn.batch_norm import batch_norm
from minifw.nn.dropout import dropout
from minifw.nn.linear import check_input
from minifw.nn.loss import Loss, reduce
from minifw.nn.rule import ALL, NOT_DIFFERENTIATED, Needs, Pullback, constant, parametric_rule
from minifw.run import Callback, History, Run

__all__ = ["stack", "unstack"]


def stack(models: Iterable[Any]) -> Any:
    """Return one model made of many of one shape, which trains each as if it were alone.

    >>> import minifw
    >>> model = minifw.stack([nn.Linear(2, 1) for _ in range(32)])
    >>> criterion = minifw.stack([nn.MSELoss()] * 32)
    >>> optimizer = minifw.optim.SGD(model.parameters(), lr=0.1)
    >>> inputs, targets = torch.randn(32, 50, 2), torch.randn(32, 50, 1)  # 50 samples for each
    >>> minifw.train_step(model, criterion, optimizer, inputs, targets).shape
    torch.Size([32])
    >>> len(minifw.unstack(model))
    32

    The first dimension of every parameter, buffer, input, output and loss counts the members. Each
    member is what it would have been alone, up to rounding. Optimizers work entry by entry, so they
    need no change; ``nn.utils.clip_grad_norm_`` would compute one norm of all members. Tensors that
    :class:`~minifw.nn.Add` or similar modules broadcast need equally many dimensions.

    :func:`minifw.fit` trains a stack with a stack of a criterion, data (members, samples, \\*) and
    a list of one generator a member. Losses and metrics in the history are lists of one value
    a member. Early stopping is stacked too: ``minifw.stack([EarlyStopping()] * 32)`` has the
    attribute ``members``. A member that has stopped keeps its best weights; the run ends with the
    last member.

    Args:
        models: the members, which are copied: models, losses or early stopping. They have the same
            modules, settings, shapes and dtypes. Each Dropout draws from its own generator.

    Raises:
        ValueError: there are none, or two differ in more than values.
        TypeError: a module cannot be stacked, and the message names it: it defines a rule, or a
            ``forward`` and parameters; it is a loss with weights, a dropout without a generator, or
            a softmax without dim.
    """
    models = list(models)
    if not models:
        raise ValueError("expected at least one model to stack, got none")
    if isinstance(models[0], EarlyStopping):
        return StackedEarlyStopping(models)
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
    stacked, layout = _copy(models[0], memo, 1), StackLayout(len(models))
    for module in stacked.modules():
        vars(module)["_layout"] = layout
        variant = _VARIANTS.get(type(module).rule)
        if variant is not None:
            module.__class__ = _derive(variant, type(module))
    return stacked


def unstack(stacked: nn.Module) -> list[Any]:
    """Return the members of a stack as separate models, with the generators of the stack.

    Raises:
        ValueError: ``stacked`` is not a stack.
    """
    if not hasattr(stacked, "_layout"):
        raise ValueError(f"expected a model made by minifw.stack, got {type(stacked).__name__}")
    models = []
    for member in range(stacked._layout.members):
        memo: dict[int, Any] = {}
        for part in _parts(stacked):
            memo[id(part)] = part[member].clone() if isinstance(part, Tensor) else part[member]
        models.append(_copy(stacked, memo, -1))
        for module in models[-1].modules():
            del module._layout
            module.__class__ = getattr(type(module), "alone", type(module))
    return models


def _parts(model: nn.Module) -> list[Any]:
    """Return the values and generators, which differ among members; in a stack, lists of them."""
    drop = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    values = [parameter.data for parameter in model.parameters()]
    return [*values, *model.buffers(), *(module.generator for module in drop if module.generator)]


def _shape(model: nn.Module) -> list[Any]:
    """Return what members have in common: everything but values and generators."""
    named: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    shapes = [(name, tuple(t.shape), t.dtype, t.device, t.requires_grad) for name, t in named]
    count = f"{len(_parts(model))} values and generators"
    return [repr(model), count, *shapes, [module.training for module in model.modules()]]


def _copy(model: nn.Module, memo: dict[int, Any], shift: int) -> Any:
    """Copy the model with the parts in ``memo`` in place of its own, and shift its dimensions."""
    memo |= {id(p.grad): None for p in model.parameters() if p.grad is not None}
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        for name in _DIMS.get(type(module).rule, ()):
            dim = getattr(module, name)
            setattr(module, name, dim + shift if dim >= 0 else dim)
    return copied


def _obstacle(module: nn.Module) -> str:
    """Return why the module cannot be stacked, or "" if it can."""
    rule, values = type(module).rule, vars(module)
    if "_layout" in values:
        return "it is of a stack already; unstack that, and stack all members together"
    if rule not in _STACKABLE and rule not in _VARIANTS:
        return "its rule is its own and may take the members for samples; compose other modules"
    has_parameters = any(isinstance(value, nn.Parameter) for value in values.values())
    if rule is nn.Module.rule and (has_parameters or module._buffers):
        return "it holds parameters or buffers itself; give them to a module that it calls"
    if isinstance(module, Loss) and any(values[name] is not None for name in module._buffers):
        return "its weights would have to be broadcast to members; leave them out"
    if isinstance(module, nn.Dropout) and module.p and module.generator is None:
        return "it draws from torch's global generator; give each model's its own generator"
    if any(values[name] is None for name in _DIMS.get(rule, ())):
        return "its dim depends on the input's dimensions; give it"
    return ""


def _derive(variant: type[nn.Module], alone: type[nn.Module]) -> type[nn.Module]:
    """Return the class of a stacked module: ``alone``, which a user may have derived, varied."""
    attributes = {"alone": alone, "__doc__": variant.__doc__, "__module__": alone.__module__}
    return type(alone.__name__, (variant, alone), attributes, capturable=alone._capturable)


# What a run on a stack does in another way.


@dataclasses.dataclass(frozen=True)
class StackLayout(Layout):
    """Members along the first dimension, the samples of each along the second."""

    members: int
    dim = 1

    def check(self, generator: Any, monitor: str | None, callbacks: Sequence[Callback]) -> None:
        if monitor or not isinstance(generator, Sequence):
            raise ValueError(
                "expected a generator for each member of the stack, and a scheduler that needs no "
                f"value to monitor, got {generator} and {monitor}"
            )
        if len(generator) != self.members:
            raise ValueError(
                f"expected a generator for each of {self.members} members, got {len(generator)}"
            )
        if any(isinstance(callback, EarlyStopping) for callback in callbacks):
            raise ValueError(
                "expected early stopping of each member, got one EarlyStopping; stack it too: "
                "minifw.stack([EarlyStopping()] * n)"
            )

    def batches(self, data: Data, batch_size: int, generator: Any) -> Iterator[Data]:
        each = [shuffle(part, own) for *part, own in zip(*data, generator, strict=True)]  # type: ignore[arg-type]
        inputs, targets = zip(*each, strict=True)
        return split((torch.stack(inputs), torch.stack(targets)), batch_size, 1)

    def measure(self, metric: Metric, outputs: Tensor, targets: Tensor) -> Any:
        return [metric(*member) for member in zip(outputs, targets, strict=True)]

    def __str__(self) -> str:
        return f"a stack of {self.members} members"


class _MemberModel:
    """A member of a stack in training: its part of the state, which shares memory."""

    def __init__(self, stacked: Any, member: int) -> None:
        self._stacked, self._member = stacked, member

    def state_dict(self) -> dict[str, Tensor]:
        state = self._stacked.state_dict()
        return {name: tensor[self._member] for name, tensor in state.items()}


class StackedEarlyStopping(Callback):
    """Early stopping of each member of a stack.

    Attributes:
        members (list[EarlyStopping]): that of each member.
    """

    def __init__(self, members: Iterable[EarlyStopping]) -> None:
        self.members = [copy.copy(member) for member in members]

    def _each(self, run: Run) -> Iterator[tuple[EarlyStopping, Run]]:
        """Iterate over members, each with the run that it sees: its model and its last row."""
        last = History(run.history[-1:])
        for index, member in enumerate(self.members):
            model, history = _MemberModel(run.model, index), last.member(index)
            yield member, dataclasses.replace(run, model=model, history=history)

    def on_train_begin(self, run: Run) -> None:
        for member, its_run in self._each(run):
            member.on_train_begin(its_run)

    def on_step_end(self, run: Run) -> None:
        if any(member.stopped_epoch for member in self.members):
            for member, its_run in self._each(run):
                if member.stopped_epoch:
                    member.on_train_end(its_run)

    def on_epoch_end(self, run: Run) -> None:
        run.history.latest(self.members[0].monitor)
        for member, its_run in self._each(run):
            if not member.stopped_epoch:
                member.on_epoch_end(its_run)
        run.stop |= all(member.stopped_epoch for member in self.members)
        self.on_step_end(run)

    def on_train_end(self, run: Run) -> None:
        for member, its_run in self._each(run):
            member.on_train_end(its_run)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for member, state in zip(self.members, state_dict["members"], strict=True):
            member.load_state_dict(state)


# Modules whose rules need to know of members.


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Pullback]:
    """:func:`~minifw.nn.functional.linear`, in which each input meets its member's weight."""
    check_input(input, weight)
    rows = input if input.dim() == 3 else input.reshape(len(weight), -1, weight.shape[-1])
    if bias is None:
        output = torch.bmm(rows, weight.mT)
    else:
        output = torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> tuple[Tensor | None, ...]:
        grad = grad_output if input.dim() == 3 else grad_output.reshape(output.shape)
        return (
            torch.bmm(grad, weight).view(input.shape) if needs_input_grad[0] else None,
            torch.bmm(grad.mT, rows) if needs_input_grad[1] else None,
            grad.sum(-2) if bias is not None and needs_input_grad[2] else None,
        )

    return output.view(*input.shape[:-1], weight.shape[-2]), pullback


class _Linear(nn.Linear, capturable=True):
    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return parametric_rule(_linear, input, self.weight, self.bias)


def _batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, **options: Any
) -> tuple[Tensor, Pullback]:
    """:func:`batch_norm` of (S, N, C, \\*): the channels of the members side by side."""

    def fold(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1).flatten(1, 2)

    def unfold(tensor: Tensor) -> Tensor:
        channels = (input.shape[0], input.shape[2])
        return tensor.reshape(len(tensor), *channels, *tensor.shape[2:]).transpose(0, 1)

    for name, value in {"weight": weight, "bias": bias, **options}.items():
        # Views, so that the running moments of the stack change.
        options[name] = value.view(-1) if isinstance(value, Tensor) else value
    output, pullback_folded = batch_norm(fold(input), **options)

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> tuple[Tensor | None, ...]:
        grad_input, *grads = pullback_folded(fold(grad_output), needs_input_grad)
        return (
            None if grad_input is None else unfold(grad_input),
            *[None if grad is None else grad.view(len(input), -1) for grad in grads],
        )

    return unfold(output), pullback


class _BatchNorm1d(nn.BatchNorm1d, capturable=True):
    function = staticmethod(_batch_norm)
    dims = (3, 4)


class _Dropout(nn.Dropout, capturable=True):
    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        if not self.training or self.p in (0, 1):
            return dropout(input, self.p, self.training)
        mask, keep = torch.empty_like(input), 1 - self.p
        generators: Any = self.generator
        for part, generator in zip(mask.unbind(), generators, strict=True):
            part.bernoulli_(keep, generator=generator)
        mask.div_(constant(keep, input.dtype, input.device))
        return input * mask, lambda grad_output: grad_output * mask


class _Loss(Loss, capturable=True):
    def rule(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        each, pullback = self.loss(input.flatten(0, 1), target.flatten(0, 1), "none")
        reduced, count = self.reduction != "none", None
        losses = each.view(len(input), -1, *([] if reduced else each.shape[1:]))
        if isinstance(self, nn.NLLLoss | nn.CrossEntropyLoss) and not target.is_floating_point():
            count = torch.ne(target, self.ignore_index).flatten(1).sum(1)
        output, pullback_reduce = reduce(losses, self.reduction, count, dim=1)

        def pullback_members(grad_output: Tensor) -> Any:
            grad = pullback_reduce(grad_output)
            grad = grad.unsqueeze(1).expand(losses.shape) if reduced else grad
            grad_input = pullback(grad.reshape(each.shape)).view(input.shape)
            return grad_input, NOT_DIFFERENTIATED

        return output, pullback_members

    def default_grad(self, output: Tensor) -> Tensor:
        return super().default_grad(output) if self.reduction == "none" else torch.ones_like(output)


_VARIANTS: dict[Any, type[nn.Module]] = {
    nn.Linear.rule: _Linear,
    nn.BatchNorm1d.rule: _BatchNorm1d,
    nn.Dropout.rule: _Dropout,
    Loss.rule: _Loss,
}
_STACKABLE = {
    kind.rule
    for kind in (
        *(nn.LayerNorm, nn.Identity, nn.Flatten, nn.Activation, nn.Tanh, nn.Sigmoid, nn.ReLU),
        *(nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Softmax, nn.LogSoftmax),
        *(nn.Add, nn.Multiply, nn.Concatenate, nn.Sequential, nn.Module),
    )
}
_DIMS: dict[Any, tuple[str, ...]] = {
    **{kind.rule: ("dim",) for kind in (nn.Softmax, nn.LogSoftmax, nn.Concatenate)},
    nn.Flatten.rule: ("start_dim", "end_dim"),
}
