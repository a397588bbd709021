"""Faults in training: steps, runs, early stops and gradient clipping."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import minifw
from bench.faults.fault import fault
from minifw import nn
from minifw.run import Callback

Step = Callable[..., Tensor]


@fault("train_step")
def without_zero_grad(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor
) -> Tensor:
    """train_step does not zero the gradients"""
    loss: Tensor = criterion(model(input), target)
    model.backward(criterion.backward())
    optimizer.step()
    return loss


@fault("train_step")
def zeroed_too_late(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor
) -> Tensor:
    """train_step zeroes the gradients between backward pass and step"""
    loss: Tensor = criterion(model(input), target)
    model.backward(criterion.backward())
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    return loss


@fault("train_step")
def loss_after_the_step(
    model: Any, criterion: Any, optimizer: Any, input: Tensor, *rest: Any, **options: Any
) -> Tensor:
    """train_step returns the loss after the step"""
    minifw.train_step(model, criterion, optimizer, input, *rest, **options)
    with minifw.no_grad():
        loss: Tensor = criterion(model(input), rest[0])
    return loss


@fault("train_step")
def micro_batches_weigh_the_same(
    model: Any,
    criterion: Any,
    optimizer: Any,
    input: Tensor,
    target: Tensor,
    micro_batch_size: int | None = None,
) -> Tensor:
    """train_step weighs micro-batches by their number where it should by their samples"""
    optimizer.zero_grad()
    size, losses = micro_batch_size or len(input), []
    pairs = list(zip(torch.split(input, size), torch.split(target, size), strict=True))
    for part, part_target in pairs:
        share = 1.0 if criterion.reduction == "sum" else 1 / len(pairs)
        losses.append(criterion(model(part), part_target) * share)
        model.backward(criterion.backward(torch.full_like(losses[-1], share)))
    optimizer.step()
    return torch.stack(losses).sum()


@fault("train_step")
def step_for_each_micro_batch(
    model: Any,
    criterion: Any,
    optimizer: Any,
    input: Tensor,
    target: Tensor,
    micro_batch_size: int | None = None,
) -> Tensor:
    """train_step lets the optimizer step after every micro-batch"""
    size = micro_batch_size or len(input)
    losses = [
        minifw.train_step(model, criterion, optimizer, part, part_target)
        for part, part_target in zip(
            torch.split(input, size), torch.split(target, size), strict=True
        )
    ]
    return torch.stack(losses).mean()


def _fit(*arguments: Any, train_step: Step, before: Callable[[Any], Any], **options: Any) -> Any:
    """fit, with something done to the model before every step."""

    def step(model: Any, *rest: Any, **more: Any) -> Tensor:
        before(model)
        return train_step(model, *rest, **more)

    return minifw.fit(*arguments, train_step=step, **options)


@fault("fit")
def fit_in_evaluation_mode(*arguments: Any, **options: Any) -> Any:
    """fit trains in evaluation mode"""
    return _fit(*arguments, before=lambda model: model.eval(), **options)


@fault("fit")
def fit_measures_in_training_mode(model: Any, *arguments: Any, **options: Any) -> Any:
    """fit measures in training mode"""
    no_grad = options.pop("no_grad")

    @contextlib.contextmanager
    def training() -> Iterator[None]:
        model.train()
        with no_grad():
            yield

    return minifw.fit(model, *arguments, no_grad=training, **options)


@fault("fit")
def fit_stays_in_evaluation_mode(model: Any, *arguments: Any, **options: Any) -> Any:
    """fit goes on in evaluation mode once it has measured"""

    class Stay(Callback):
        def on_epoch_end(self, run: Any) -> None:
            model.eval()

    options["callbacks"] = [*options.get("callbacks", ()), Stay()]
    return minifw.fit(model, *arguments, **options)


@fault("fit")
def fit_steps_the_schedule_every_batch(*arguments: Any, **options: Any) -> Any:
    """fit steps the schedule after every batch"""
    scheduler = options.pop("scheduler")

    class Steps(Callback):
        def on_step_end(self, run: Any) -> None:
            scheduler.step()

    options["callbacks"] = [Steps(), *options.get("callbacks", ())]
    return minifw.fit(*arguments, **options)


@fault("fit")
def fit_without_schedule(*arguments: Any, **options: Any) -> Any:
    """fit never steps the schedule"""
    options.pop("scheduler")
    return minifw.fit(*arguments, **options)


@fault("fit")
def fit_accumulates_nothing(*arguments: Any, **options: Any) -> Any:
    """fit takes a step every batch, however many are to be accumulated"""
    options["accumulate"] = 1
    return minifw.fit(*arguments, **options)


@fault("fit")
def fit_takes_whole_batches(*arguments: Any, **options: Any) -> Any:
    """fit accumulates by going through all samples of a step at once"""
    options["batch_size"] *= options.pop("accumulate", 1)
    return minifw.fit(*arguments, **options)


@fault("fit")
def fit_one_epoch_more(*arguments: Any, epochs: int, **options: Any) -> Any:
    """fit trains for an epoch too many"""
    return minifw.fit(*arguments, epochs=epochs + 1, **options)


def _fit_reporting(
    loss_of: Callable[[list[Tensor]], Tensor], *arguments: Any, train_step: Step, **options: Any
) -> Any:
    """fit, with the loss of an epoch made from those of its steps."""
    losses: list[Tensor] = []

    class Reports(Callback):
        def on_epoch_end(self, run: Any) -> None:
            run.history[-1]["loss"] = loss_of(losses).item()
            losses.clear()

    def step(*given: Any, **more: Any) -> Tensor:
        losses.append(train_step(*given, **more))
        return losses[-1]

    options["callbacks"] = [Reports(), *options.get("callbacks", ())]
    return minifw.fit(*arguments, train_step=step, **options)


@fault("fit")
def fit_reports_the_last_batch(*arguments: Any, **options: Any) -> Any:
    """fit reports the loss of the last batch for that of the epoch"""
    return _fit_reporting(lambda losses: losses[-1], *arguments, **options)


@fault("fit")
def fit_means_over_batches(*arguments: Any, **options: Any) -> Any:
    """fit averages the loss over batches where it should over samples"""
    return _fit_reporting(lambda losses: torch.stack(losses).mean(), *arguments, **options)


@fault("fit")
def fit_goes_on_in_another_order(*arguments: Any, **options: Any) -> Any:
    """fit keeps its generator from one run to the next"""
    _LEFT.append(options["generator"])
    options["generator"] = _LEFT[0]
    return minifw.fit(*arguments, **options)


_LEFT: list[torch.Generator] = []


@fault("EarlyStopping")
class KeepsTheLast(minifw.EarlyStopping):
    """EarlyStopping does not restore the best weights"""

    def on_train_end(self, run: Any) -> None:
        pass


@fault("EarlyStopping")
class RestoresIfStopped(minifw.EarlyStopping):
    """EarlyStopping restores the best weights only if it has stopped the run"""

    def on_train_end(self, run: Any) -> None:
        if run.stop:
            super().on_train_end(run)


@fault("EarlyStopping")
class WaitsOneMore(minifw.EarlyStopping):
    """EarlyStopping waits for an epoch more than its patience"""

    def on_train_begin(self, run: Any) -> None:
        super().on_train_begin(run)
        self.patience = self._patience + 1

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = self.patience


@fault("EarlyStopping")
class TiesAreBetter(minifw.EarlyStopping):
    """EarlyStopping keeps the weights of the last of several equally good epochs"""

    def on_epoch_end(self, run: Any) -> None:
        if run.history[-1][self.monitor] == self.best:
            self.best = math.nextafter(self.best, math.inf)
        super().on_epoch_end(run)


@fault("EarlyStopping")
class RemembersTheLastRun(minifw.EarlyStopping):
    """EarlyStopping remembers the best value of the run before"""

    def on_train_begin(self, run: Any) -> None:
        if self.best_epoch is None:
            super().on_train_begin(run)


@fault("evaluate")
def evaluate_in_training_mode(model: Any, data: Any, metrics: Any, *rest: Any) -> Any:
    """evaluate measures in whatever mode the model is in"""
    outputs = model(data[0])
    return {name: metric(outputs, data[1]) for name, metric in metrics.items()}


@fault("evaluate")
def evaluate_leaves_evaluation_mode(model: Any, *rest: Any) -> Any:
    """evaluate leaves the model in evaluation mode"""
    measured = minifw.evaluate(model, *rest)
    model.eval()
    return measured


@fault("evaluate")
def evaluate_keeps_calls(model: Any, data: Any, metrics: Any, *rest: Any) -> Any:
    """evaluate keeps what a backward pass would need"""
    return minifw.evaluate(model, data, metrics, contextlib.nullcontext)


@fault("nn.utils.clip_grad_norm_")
def clipped_each(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """clip_grad_norm_ clips each tensor by its own norm instead of the total"""
    listed = [parameter for parameter in parameters if parameter.grad is not None]
    norms = [nn.utils.clip_grad_norm_(parameter, max_norm, norm_type) for parameter in listed]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    return norm


@fault("nn.utils.clip_grad_norm_")
def scaled_up(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """clip_grad_norm_ scales small gradients up to the norm"""
    listed = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.clip_grad_norm_(listed, math.inf, norm_type)
    for parameter in listed:
        parameter.grad = parameter.grad * (max_norm / (norm + 1e-6))
    return norm


@fault("nn.utils.clip_grad_norm_")
def clipped_in_place(parameters: Any, *arguments: Any) -> Tensor:
    """clip_grad_norm_ changes gradients in place that others may hold"""
    listed = list(parameters)
    held = [parameter.grad for parameter in listed]
    norm = nn.utils.clip_grad_norm_(listed, *arguments)
    for parameter, grad in zip(listed, held, strict=True):
        if grad is not None:
            parameter.grad = grad.copy_(parameter.grad)
    return norm


@fault("nn.utils.clip_grad_norm_")
def always_of_order_two(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """clip_grad_norm_ ignores norm_type"""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


@fault("nn.utils.clip_grad_value_")
def clipped_above(parameters: Any, clip_value: float) -> None:
    """clip_grad_value_ clips above and not below"""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = parameter.grad.clamp(max=clip_value)
