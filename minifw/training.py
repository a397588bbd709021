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
from minifw.plans import differentiate
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
        loss = differentiate(model, criterion, input, target)
    else:
        losses = []
        dim = _samples_dim(model)
        for part, part_target in zip(
            torch.split(input, micro_batch_size, dim),
            torch.split(target, micro_batch_size, dim),
            strict=True,
        ):
            # Not 1 / parts: the last one may be shorter.
            is_sum = getattr(criterion, "reduction", "mean") == "sum"
            share = 1.0 if is_sum else part.shape[dim] / input.shape[dim]
            part_loss = criterion(model(part), part_target)
            grad_loss = torch.full_like(part_loss, share)
            model.backward(criterion.backward(grad_loss), needs_input_grad=False)
            losses.append(part_loss * share)
        loss = torch.stack(losses).sum(0)
    optimizer.step()
    return loss


def _samples_dim(model: Any) -> int:
    """The dimension of the samples: that of the members of a stack comes before it."""
    return int(getattr(model, "members", None) is not None)


def evaluate(
    model: Any,
    data: Data,
    metrics: Mapping[str, Metric],
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
    criterion: Any = None,
) -> dict[str, Any]:
    """Return each metric of ``model`` on ``data``, in evaluation mode; the mode is put back.

    Args:
        model: what to measure; of a stack, each metric is a list of one value a member.
        data: inputs and targets.
        metrics: by name, functions of outputs and targets.
        no_grad: of minifw, or of another framework. Default: minifw's.
        criterion: a loss to measure too, as "loss". Default: none.
    """
    inputs, targets = data
    mode = model.training
    model.eval()
    try:
        with no_grad():
            outputs = model(inputs)
            measured = {} if criterion is None else {"loss": criterion(outputs, targets).tolist()}
            for name, metric in metrics.items():
                each = zip(outputs, targets, strict=True) if _samples_dim(model) else None
                measured[name] = [metric(*of) for of in each] if each else metric(outputs, targets)
            return measured
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
    generator: Generator | Sequence[Generator] | None = None,
    progress: bool | None = None,
    train_step: Callable[..., Tensor] = train_step,
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
) -> History:
    """Train ``model`` on shuffled batches and return its history.

    A stack (:func:`minifw.stack`) is trained by the stack of a criterion, on data (members,
    samples, \\*) and with a generator a member; each member goes as it would have gone alone. What
    depends on the member is a list of one value a member in the history.

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
            optimizer and the like are to be made as they were the first time. Default: none.
        generator: source of the batch order, or for a stack one a member. Default: torch's global
            generator.
        progress: whether to draw a progress bar, if the standard error stream is a terminal.
            Default: once the run has taken two seconds.
        train_step, no_grad: another framework that shares the surface passes its own. Default:
            minifw's.

    Returns:
        A row an epoch, with "epoch" from 1, "seconds" that its training steps took, "loss" averaged
        over the samples as they were trained on, "validation_loss" if there are validation data,
        "train_NAME" and "validation_NAME" for each metric.

    Raises:
        ValueError: epochs, batch_size or accumulate below 1; data that
            :func:`minifw.data.batches` refuses; a column to monitor that the history has not; a
            checkpoint of another run; a stack whose criterion is no stack of as many members, that
            has not a generator for each, or whose one learning rate is to follow a value a member.
        RuntimeError: the checkpoint is damaged.
    """
    if epochs < 1:
        raise ValueError(f"expected a number of epochs of at least 1, got {epochs}")
    if accumulate < 1:
        raise ValueError(f"expected to accumulate at least 1 batch a step, got {accumulate}")
    options = {} if accumulate == 1 else {"micro_batch_size": batch_size}
    metrics = metrics or {}
    members, of_criterion = (getattr(part, "members", None) for part in (model, criterion))
    if members != of_criterion:
        raise ValueError(
            f"expected a criterion of {members} members, as the model, got {of_criterion}; stack "
            "it too: minifw.stack([criterion] * n)"
        )
    if members and (scheduler_monitor or not isinstance(generator, Sequence)):
        raise ValueError(
            "expected a generator for each member of the stack, and a scheduler that needs no "
            f"value to monitor, got {generator} and {scheduler_monitor}"
        )
    dim = _samples_dim(model)
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
                sizes.append(input.shape[dim])
                run.done += sizes[-1] / data[0].shape[dim]
                for callback in callbacks:
                    callback.on_step_end(run)
            weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            loss = (weights @ torch.stack(losses).cpu().double()).tolist()
            seconds = time.perf_counter() - start  # a device has finished once its losses are read
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
