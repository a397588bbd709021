"""Training: one step, whole runs, and their measures."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.data import batches
from minifw.nn.rule import no_grad

__all__ = ["accuracy", "evaluate", "fit", "train_step"]

Data = tuple[Tensor, Tensor]
Metric = Callable[[Tensor, Tensor], float]


def train_step(model: Any, criterion: Any, optimizer: Any, input: Tensor, target: Tensor) -> Tensor:
    """Change ``model`` by the gradient of one batch; return the loss before the change."""
    optimizer.zero_grad()
    loss: Tensor = criterion(model(input), target)
    model.backward(criterion.backward(), needs_input_grad=False)
    optimizer.step()
    return loss


def accuracy(threshold: float) -> Metric:
    """A metric: the share of outputs on their target's side of ``threshold``, in [0, 1]."""
    return lambda output, target: (
        ((output > threshold) == (target > threshold)).double().mean().item()
    )


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
    finally:
        model.train(mode)
    return {name: metric(outputs, targets) for name, metric in metrics.items()}


def fit(
    model: Any,
    criterion: Any,
    optimizer: Any,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    scheduler: Any = None,
    validation_data: Data | None = None,
    metrics: Mapping[str, Metric] | None = None,
    generator: Generator | None = None,
    train_step: Callable[[Any, Any, Any, Tensor, Tensor], Tensor] = train_step,
    no_grad: Callable[[], contextlib.AbstractContextManager[None]] = no_grad,
) -> list[dict[str, float]]:
    """Train ``model`` on shuffled batches and return its history.

    Args:
        model, criterion, optimizer: what to train, by what, and how.
        data: inputs and targets.
        epochs: passes over the data.
        batch_size: samples a step; the last batch of an epoch may be shorter.
        scheduler: its ``step()`` is called after every epoch. Default: none.
        validation_data: inputs and targets to measure on beside the training data. Default: none.
        metrics: by name, functions of outputs and targets. Default: none.
        generator: source of the batch order. Default: torch's global generator.
        train_step, no_grad: minifw's; another framework that shares the surface passes its own.

    Returns:
        A row an epoch: "epoch" from 1, "seconds" spent in training steps, "loss" averaged over
        the samples as they were trained on, "train_NAME" and "validation_NAME" for each metric.

    Raises:
        ValueError: epochs or batch_size below 1; data that :func:`minifw.data.batches` refuses.
    """
    if epochs < 1:
        raise ValueError(f"expected a number of epochs of at least 1, got {epochs}")
    history = []
    model.train()
    for epoch in range(1, epochs + 1):
        losses, sizes = [], []
        start = time.perf_counter()
        for input, target in batches(data, batch_size, generator):
            losses.append(train_step(model, criterion, optimizer, input, target))
            sizes.append(len(input))
        seconds = time.perf_counter() - start
        weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        loss = (torch.stack(losses).cpu().double() * weights).sum().item()
        row: dict[str, float] = {"epoch": epoch, "seconds": seconds, "loss": loss}
        for part, part_data in (("train", data), ("validation", validation_data)):
            if part_data is not None and metrics:
                measured = evaluate(model, part_data, metrics, no_grad)
                row |= {f"{part}_{name}": value for name, value in measured.items()}
        history.append(row)
        if scheduler is not None:
            scheduler.step()
    return history
