"""Training: one step, whole runs, and their measures."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.callbacks import Callback, ProgressBar
from minifw.data import batches
from minifw.metrics import Metric
from minifw.nn.rule import no_grad
from minifw.run import History, Run

__all__ = ["evaluate", "fit", "train_step"]

Data = tuple[Tensor, Tensor]


def train_step(
    model: Any,
    criterion: Any,
    optimizer: Any,
    input: Tensor,
    target: Tensor,
    micro_batch_size: int | None = None,
) -> Tensor:
    """Change ``model`` by the gradient of one batch; return the loss before the change.

    Args:
        model, criterion, optimizer: what to train, by what, and how.
        input, target: the batch.
        micro_batch_size: samples to go forward and back with at a time. Their gradients add up to
            that of the whole batch, and only their share of what a backward pass needs is kept in
            memory. A loss is taken for a mean over samples, unless its ``reduction`` is "sum"; one
            with another denominator (weights of classes, targets to ignore) has to be a sum.
            Default: all.
    """
    optimizer.zero_grad()
    if micro_batch_size is None:
        loss: Tensor = criterion(model(input), target)
        model.backward(criterion.backward(), needs_input_grad=False)
    else:
        losses = []
        for part, part_target in zip(
            torch.split(input, micro_batch_size),
            torch.split(target, micro_batch_size),
            strict=True,
        ):
            # Not 1 / parts: the last one may be shorter.
            is_sum = getattr(criterion, "reduction", "mean") == "sum"
            share = 1.0 if is_sum else len(part) / len(input)
            part_loss = criterion(model(part), part_target)
            grad_loss = torch.full_like(part_loss, share)
            model.backward(criterion.backward(grad_loss), needs_input_grad=False)
            losses.append(part_loss * share)
        loss = torch.stack(losses).sum()
    optimizer.step()
    return loss


def evaluate(
    model: Any,
    data: Data,
    metrics: Mapping[str, Metric],
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
) -> dict[str, float]:
    """Return each metric of ``model`` on ``data``, in evaluation mode; the mode is put back."""
    inputs, targets = data
    mode = model.training
    model.eval()
    try:
        with no_grad():
            outputs = model(inputs)
            return {name: metric(outputs, targets) for name, metric in metrics.items()}
    finally:
        model.train(mode)


def fit(
    model: Any,
    criterion: Any,
    optimizer: Any,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    accumulate: int = 1,
    scheduler: Any = None,
    scheduler_monitor: str | None = None,
    validation_data: Data | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    generator: Generator | None = None,
    progress: bool | None = None,
    train_step: Callable[..., Tensor] = train_step,
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
) -> History:
    """Train ``model`` on shuffled batches and return its history.

    Args:
        model, criterion, optimizer: what to train, by what, and how.
        data: inputs and targets.
        epochs: passes over the data.
        batch_size: samples a batch; the last batch of an epoch may be shorter.
        accumulate: batches a step: a step is as on one batch of ``accumulate * batch_size``, but
            takes the memory of one (see :func:`train_step`). Default: 1.
        scheduler: its ``step()`` is called after every epoch. Default: none.
        scheduler_monitor: column of the history to call ``scheduler.step(value)`` with, as
            :class:`~minifw.optim.lr_scheduler.ReduceLROnPlateau` needs it. Default: none.
        validation_data: inputs and targets to measure on beside the training data. Default: none.
        metrics: by name, functions of outputs and targets. Default: none.
        callbacks: such as :class:`~minifw.callbacks.EarlyStopping`. Default: none.
        checkpoint: a file that the run is written to after every epoch, and goes on from if it is
            there: killed and called again, it ends bit for bit where it would have ended. Model,
            optimiser and the like are to be made as they were the first time. Default: none.
        generator: source of the batch order. Default: torch's global generator.
        progress: whether to draw a progress bar, if the standard error stream is a terminal.
            Default: once the run has taken two seconds.
        train_step, no_grad: minifw's; another framework that shares the surface passes its own.

    Returns:
        A row an epoch: "epoch" from 1, "seconds" spent in training steps, "loss" averaged over
        the samples as they were trained on, "validation_loss" if there are validation data,
        "train_NAME" and "validation_NAME" for each metric.

    Raises:
        ValueError: epochs, batch_size or accumulate below 1; data that
            :func:`minifw.data.batches` refuses; a column to monitor that the history has not; a
            checkpoint of another run.
        RuntimeError: the checkpoint is damaged.
    """
    if epochs < 1:
        raise ValueError(f"expected a number of epochs of at least 1, got {epochs}")
    if accumulate < 1:
        raise ValueError(f"expected to accumulate at least 1 batch a step, got {accumulate}")
    options = {} if accumulate == 1 else {"micro_batch_size": batch_size}
    metrics = metrics or {}
    with_loss = {"loss": lambda output, target: criterion(output, target).item(), **metrics}
    callbacks = list(callbacks)
    run = Run(model, optimizer, scheduler, generator, callbacks, epochs)
    if progress is not False and sys.stderr.isatty():
        callbacks = [*callbacks, ProgressBar(0.0 if progress else 2.0)]
    model.train()
    for callback in callbacks:
        callback.on_train_begin(run)
    if checkpoint is not None and Path(checkpoint).exists():
        run.resume(checkpoint)
    try:
        while len(run.history) < epochs and not run.stop:
            losses, sizes = [], []
            start = time.perf_counter()
            for input, target in batches(data, batch_size * accumulate, generator):
                losses.append(train_step(model, criterion, optimizer, input, target, **options))
                sizes.append(len(input))
                run.done += len(input) / len(data[0])
                for callback in callbacks:
                    callback.on_step_end(run)
            seconds = time.perf_counter() - start
            weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            loss = (torch.stack(losses).cpu().double() * weights).sum().item()
            row = {"epoch": len(run.history) + 1, "seconds": seconds, "loss": loss}
            for part, part_data, measures in (
                ("train", data, metrics),
                ("validation", validation_data, with_loss),
            ):
                if part_data is not None and measures:
                    measured = evaluate(model, part_data, measures, no_grad)
                    row |= {f"{part}_{name}": value for name, value in measured.items()}
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
