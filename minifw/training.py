"""Training: a step, an evaluation, a whole run."""

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.callbacks import ProgressBar
from minifw.data import Data, split
from minifw.layout import layout_of
from minifw.metrics import Metric
from minifw.nn.tape import no_grad
from minifw.plans import differentiate
from minifw.protocols import Criterion, Model, Optimizer, Scheduler
from minifw.run import Callback, History, Run

__all__ = ["evaluate", "fit", "train_step"]


def train_step(
    model: Model,
    criterion: Criterion,
    optimizer: Optimizer,
    input: Tensor,
    target: Tensor,
    micro_batch_size: int | None = None,
) -> Tensor:
    """Change ``model`` by the gradient of one batch; return the loss before the change.

    Args:
        model, criterion, optimizer: the model to train, its loss and its optimizer.
        input, target: the batch.
        micro_batch_size: samples in each forward and backward pass. The gradients add up to that of
            the whole batch, and a backward pass keeps only its own samples in memory. The loss must
            be a mean over samples, or have ``reduction`` "sum": a loss with another denominator
            (class weights, ignored targets) must be a sum. Default: all samples.
    """
    optimizer.zero_grad()
    if micro_batch_size is None:
        loss = differentiate(model, criterion, input, target)
    else:
        losses = []
        dim = layout_of(model).dim
        is_sum = getattr(criterion, "reduction", "mean") == "sum"
        for part, part_target in split((input, target), micro_batch_size, dim):
            # Not 1 / number of parts: the last part may be shorter.
            share = 1.0 if is_sum else part.shape[dim] / input.shape[dim]
            part_loss = criterion(model(part), part_target)
            grad_loss = torch.full_like(part_loss, share)
            model.backward(criterion.backward(grad_loss), needs_input_grad=False)
            losses.append(part_loss * share)
        loss = torch.stack(losses).sum(0)
    optimizer.step()
    return loss


def evaluate(
    model: Model,
    data: Data,
    metrics: Mapping[str, Metric],
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
    criterion: Criterion | None = None,
) -> dict[str, Any]:
    """Return each metric of ``model`` on ``data`` in evaluation mode, and restore the mode.

    Args:
        model: the model to measure.
        data: inputs and targets.
        metrics: functions of outputs and targets, by name.
        no_grad: the context of minifw, or of another framework. Default: minifw's.
        criterion: a loss to measure too, as "loss". Default: none.
    """
    inputs, targets = data
    mode, layout = model.training, layout_of(model)
    model.eval()
    try:
        with no_grad():
            outputs = model(inputs)
            measured = {} if criterion is None else {"loss": criterion(outputs, targets).tolist()}
            for name, metric in metrics.items():
                measured[name] = layout.measure(metric, outputs, targets)
            return measured
    finally:
        model.train(mode)


def fit(
    model: Model,
    criterion: Criterion,
    optimizer: Optimizer,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    accumulate: int = 1,
    scheduler: Scheduler | None = None,
    scheduler_monitor: str | None = None,
    validation_data: Data | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    allow_changes: bool = False,
    generator: Generator | Sequence[Generator] | None = None,
    progress: bool | None = None,
    train_step: Callable[..., Tensor] = train_step,
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
) -> History:
    """Train ``model`` on shuffled batches and return its history.

    For many models at once see :func:`minifw.stack`.

    Args:
        model, criterion, optimizer: the model to train, its loss and its optimizer.
        data: inputs and targets.
        epochs: passes over the data.
        batch_size: samples a batch; the last batch of an epoch may be shorter.
        accumulate: batches a step. A step is that of one batch of ``accumulate * batch_size``, with
            the memory of a batch of ``batch_size`` (see :func:`train_step`). Default: 1.
        scheduler: schedule whose ``step()`` is called after every epoch. Default: none.
        scheduler_monitor: column of the history to call ``scheduler.step(value)`` with, for
            :class:`~minifw.optim.lr_scheduler.ReduceLROnPlateau`. Default: none.
        validation_data: further inputs and targets to measure on. Default: none.
        metrics: functions of outputs and targets, by name. Default: none.
        callbacks: such as :class:`~minifw.callbacks.EarlyStopping`. Default: none.
        checkpoint: file to save the run to after every epoch. If it exists, the run resumes from
            it: a run that was killed ends bit for bit as if it had not been. Pass the same
            arguments as the first time; only ``epochs`` may differ. Default: none.
        allow_changes: whether a run may resume with another learning rate, data, batch size or
            other settings, which hold from there on. Default: False.
        generator: source of the batch order. Default: torch's global generator.
        progress: True draws a progress bar at once, False never; only on a terminal. Default: after
            two seconds.
        train_step, no_grad: those of another framework with the same surface. Default: minifw's.

    Returns:
        A row an epoch, with "epoch" from 1, "seconds" of its training steps, "loss" averaged over
        the samples during training, "validation_loss" with validation data, and "train_NAME" and
        "validation_NAME" for each metric.

    Raises:
        ValueError: epochs, batch_size or accumulate is below 1; :func:`minifw.data.batches` refuses
            the data; the history has no column to monitor; the checkpoint is of another run, or of
            one with other settings (the message names them; nothing has been changed); model
            and criterion are not both stacks of one size, or one is trained with other arguments
            than :func:`minifw.stack` names.
        RuntimeError: the checkpoint is damaged.

    Warns:
        RuntimeWarning: a loss is NaN; once a run, with its epoch and step.
    """
    if epochs < 1:
        raise ValueError(f"expected a number of epochs of at least 1, got {epochs}")
    if accumulate < 1:
        raise ValueError(f"expected to accumulate at least 1 batch a step, got {accumulate}")
    options = {} if accumulate == 1 else {"micro_batch_size": batch_size}
    metrics = metrics or {}
    layout = layout_of(model)
    if layout_of(criterion) != layout:
        raise ValueError(
            f"expected a criterion that is {layout}, as the model, got {layout_of(criterion)}; "
            "stack both or none: minifw.stack([criterion] * n)"
        )
    layout.check(generator, scheduler_monitor, callbacks)
    callbacks = list(callbacks)
    arguments = {
        "criterion": criterion,
        "data": data,
        "validation_data": validation_data,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "scheduler_monitor": scheduler_monitor,
        "metrics": list(metrics),
    }
    run = Run(model, optimizer, scheduler, generator, callbacks, epochs, arguments=arguments)
    if checkpoint is not None:
        run.begin()
    if progress is not False and sys.stderr.isatty():
        callbacks = [*callbacks, ProgressBar(0.0 if progress else 2.0)]
    model.train()
    for callback in callbacks:
        callback.on_train_begin(run)
    if checkpoint is not None and Path(checkpoint).exists():
        run.resume(checkpoint, allow_changes)
    warned = False
    try:
        while len(run.history) < epochs and not run.stop:
            losses, sizes = [], []
            start = time.perf_counter()
            for input, target in layout.batches(data, batch_size * accumulate, generator):
                losses.append(train_step(model, criterion, optimizer, input, target, **options))
                sizes.append(input.shape[layout.dim])
                run.done += sizes[-1] / data[0].shape[layout.dim]
                for callback in callbacks:
                    callback.on_step_end(run)
            weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            stacked = torch.stack(losses).cpu().double()
            loss = (weights @ stacked).tolist()
            seconds = time.perf_counter() - start  # reading the losses waits for the device
            nan = stacked.isnan().reshape(len(losses), -1).any(1)
            if nan.any() and not warned:
                warned = True
                step = int(nan.to(torch.uint8).argmax()) + 1
                warnings.warn(
                    f"the loss is NaN from epoch {len(run.history) + 1}, step {step} on; try a "
                    "smaller learning rate, or look for NaN in the data",
                    RuntimeWarning,
                    stacklevel=2,
                )
            row = {"epoch": len(run.history) + 1, "seconds": seconds, "loss": loss}
            if metrics:
                measured = evaluate(model, data, metrics, no_grad)
                row |= {f"train_{name}": value for name, value in measured.items()}
            if validation_data is not None:
                measured = evaluate(model, validation_data, metrics, no_grad, criterion)
                row |= {f"validation_{name}": value for name, value in measured.items()}
            run.history.append(row)
            if scheduler is not None:
                scheduler.step(
                    *([run.history.latest(scheduler_monitor)] if scheduler_monitor else [])
                )
            for callback in callbacks:
                callback.on_epoch_end(run)
            if checkpoint is not None:
                run.save(checkpoint)
    finally:
        for callback in callbacks:
            callback.on_train_end(run)
    return run.history
