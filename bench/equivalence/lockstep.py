"""Lockstep: two frameworks trained side by side from one start, step by step.

What rounding alone does to a run is read off a control: PyTorch against PyTorch with every initial
weight moved by one ULP. At the first step at which the subject parts from the reference by more
than that, each module, the loss and the optimizer are taken by themselves through the calls of that
step, and the first that is wrong is named. If none is, it was rounding after all.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minifw.data import batches
from minifw.testing.case import Input, seeded
from minifw.testing.check import check
from minifw.testing.comparison import Comparison, Drawn
from minifw.testing.example import Example
from minifw.testing.subjects import wrap
from minifw.testing.training import Lockstep, distances, move_weights, race
from minifw.testing.verdict import Status, Verdict, failures
from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.recipes import Recipe
from reference.run import RecipeRun, prepare

__all__ = ["Lockstep", "lockstep"]


def lockstep(
    recipe: Recipe,
    framework: Framework = MINIFW,
    seed: int = 0,
    epochs: int | None = None,
    dtype: str = "float64",
) -> Lockstep:
    """Train ``framework`` beside PyTorch, and PyTorch beside itself.

    Args:
        recipe: what to train; it is not stopped early.
        framework: the subject.
        seed: of data, weights, batches and dropout masks.
        epochs: how long. Default: the recipe's own.
        dtype: of everything.
    """
    torch_dtype = getattr(torch, dtype)
    reference, subject, control = (
        prepare(recipe, side, seed, dtype=torch_dtype) for side in (PYTORCH, framework, PYTORCH)
    )
    move_weights(_values(control).values(), seed)
    epochs = epochs or recipe.epochs

    def advance(step: _Step) -> None:
        for run in (reference, subject, control):
            _train(step, run)

    return race(
        recipe.name,
        torch_dtype,
        _steps(reference, epochs),
        advance,
        lambda: (_distance(subject, reference), _distance(control, reference)),
        lambda step: _diagnose(recipe, framework, seed, epochs, torch_dtype, step),
    )


@dataclass(frozen=True)
class _Step:
    """A batch, the seed of its dropout masks, and whether an epoch before it has ended."""

    input: Tensor
    target: Tensor
    seed: int
    schedule: bool

    def prepare(self, run: RecipeRun) -> None:
        """Do what comes before the step."""
        if self.schedule:
            run.scheduler.step()

    def train(self, framework: Framework, model: Any, criterion: Any, optimizer: Any) -> None:
        """Do the step."""
        with seeded(self.seed):
            framework.train_step(model, criterion, optimizer, self.input, self.target)


def _steps(run: RecipeRun, epochs: int) -> Iterator[_Step]:
    """The training steps of a run, to be done by all sides alike."""
    for epoch in range(epochs):
        for index, (input, target) in enumerate(
            batches(run.train, run.recipe.batch_size, run.batch_order)
        ):
            seed = run.seed + 7919 * (epoch * run.recipe.steps_an_epoch + index)
            yield _Step(input, target, seed, schedule=epoch > 0 and index == 0)


def _train(step: _Step, run: RecipeRun) -> None:
    step.prepare(run)
    step.train(run.framework, run.model, run.criterion, run.optimizer)


def _values(run: RecipeRun) -> dict[str, Tensor]:
    return {name: parameter.data for name, parameter in run.model.named_parameters()}


def _distance(ours: RecipeRun, theirs: RecipeRun) -> float:
    return max(distances(_values(ours), _values(theirs)).values())


def _diagnose(
    recipe: Recipe,
    framework: Framework,
    seed: int,
    epochs: int,
    dtype: torch.dtype,
    diverged_at: int,
) -> Verdict:
    """Repeat the run up to the step, then run every part of the step alone."""
    twin, subject = (prepare(recipe, side, seed, dtype=dtype) for side in (PYTORCH, framework))
    steps = _steps(twin, epochs)
    for _ in range(diverged_at - 1):
        step = next(steps)
        for run in (twin, subject):
            _train(step, run)
    step = next(steps)
    for run in (twin, subject):
        step.prepare(run)
    rates = [[group["lr"] for group in run.optimizer.param_groups] for run in (subject, twin)]
    if rates[0] != rates[1]:
        reason = f"looks like a fault: the learning rates are {rates[0]}, expected {rates[1]}"
        return Verdict("scheduler", Status.FAILED, reason)
    twin.model.load_state_dict(copy.deepcopy(subject.model.state_dict()))
    state = copy.deepcopy(subject.optimizer.state_dict())
    # A foreign optimizer's state says nothing to PyTorch's, which then goes on with its own.
    if {"state", "param_groups"} <= {*state}:
        twin.optimizer.load_state_dict(state)
    calls = _watch(twin)
    step.train(PYTORCH, twin.model, twin.criterion, twin.optimizer)
    for call in calls:
        ours = dict(subject.model.named_modules()).get(call.path, subject.criterion)
        wrong = failures(_retry(call, ours, dtype, step.seed))
        if wrong:
            name = f"{call.path or 'model'} ({type(ours).__name__}), {wrong[0].tensor or 'call'}"
            return replace(wrong[0], tensor=name, reason=f"looks like a fault: {wrong[0].reason}")
    return _retry_update(step, subject, twin)


@dataclass(frozen=True)
class _Call:
    """One call of a module of PyTorch's: where it is in the model, and what went in and came back.

    Attributes:
        path: of the module in the model; "criterion" for the loss.
        module: a copy of it, as it was.
        inputs, grad_output: of the call; the gradient is filled in by the backward pass.
    """

    path: str
    module: torch.nn.Module
    inputs: tuple[Tensor, ...]
    grad_output: list[Tensor]


def _watch(run: RecipeRun) -> list[_Call]:
    """A list of the calls that the modules of a PyTorch run will make, inner ones first."""
    calls: list[_Call] = []

    def hook(path: str, copied: torch.nn.Module) -> Callable[..., None]:
        def note(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept = tuple(tensor.detach().clone() for tensor in inputs)
            calls.append(call := _Call(path, copied, kept, []))
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: call.grad_output.append(grad.clone())
            )

        return note

    for path, module in [*run.model.named_modules(), ("criterion", run.criterion)]:
        module.register_forward_hook(hook(path, copy.deepcopy(module)))
    return calls


def _fresh(module: Any) -> Any:
    """A copy without gradients."""
    copied = copy.deepcopy(module)
    copied.zero_grad()
    return copied


def _retry(call: _Call, ours: Any, dtype: torch.dtype, seed: int) -> list[Verdict]:
    """Take a module of the subject through a call that its twin has made."""
    is_loss = call.path == "criterion"
    comparison = Comparison(
        call.path,
        lambda: _fresh(ours),
        lambda: _fresh(call.module),
        tuple(
            Input(tuple(tensor.shape), constant=is_loss and place == 1)
            for place, tensor in enumerate(call.inputs)
        ),
        training=True,
    )
    example = Example(dtype=str(dtype).removeprefix("torch."), seed=seed)
    drawn = Drawn(comparison, example, wrap(call.module), (call.inputs, call.inputs))
    return check(comparison, example, "lockstep", "", call.grad_output, drawn)


def _retry_update(step: _Step, subject: RecipeRun, twin: RecipeRun) -> Verdict:
    """Give the subject's optimizer the gradients of PyTorch's, then let it do the whole step."""
    eps = torch.finfo(step.input.dtype).eps
    model, optimizer = copy.deepcopy((subject.model, subject.optimizer))
    grads = {name: parameter.grad for name, parameter in twin.model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = grads[name].clone()
    optimizer.step()
    expected = _values(twin)
    updated = {name: parameter.data for name, parameter in model.named_parameters()}
    step.train(subject.framework, subject.model, subject.criterion, subject.optimizer)
    for part, values, roundings in (
        ("optimizer", updated, 8),  # of an update, which is a handful of operations
        ("train_step", _values(subject), 1e4),  # of all sums of a step
    ):
        for name, share in distances(values, expected).items():
            if not share <= roundings * eps:
                reason = f"looks like a fault: {name} is {share:.2g} of its largest entry off"
                return Verdict(f"{part}, {name}", Status.FAILED, reason)
    return Verdict("model", Status.PASSED, "looks like rounding: every part of the step is right")
