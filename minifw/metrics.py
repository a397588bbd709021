"""Metrics: how many samples a model gets right."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["Metric", "accuracy", "errors"]

Metric = Callable[[Tensor, Tensor], float]


def _right(output: Tensor, target: Tensor, threshold: float | None) -> Tensor:
    """Return whether each prediction is right."""
    if threshold is not None:
        return (output > threshold) == (target > threshold)
    if target.is_floating_point():
        target = target.argmax(1)
    return output.argmax(1) == target


def accuracy(threshold: float | None = None) -> Metric:
    """Return a metric: the fraction of right predictions.

    Args:
        threshold: an output is right if it and its target are on the same side of the threshold.
            Default: none. Then a sample is right if its largest output is that of the target's
            class, given as an index or by probabilities.

    Shape: with a threshold, output and target (\\*); without, output (n, classes) and target (n)
        of int64 or (n, classes).
    """
    return lambda output, target: _right(output, target, threshold).double().mean().item()


def errors(threshold: float | None = None) -> Metric:
    """Return a metric: the number of wrong predictions; arguments as :func:`accuracy`.

    Source: reports 001 and 003 (compute_nb_errors).
    """
    return lambda output, target: int((~_right(output, target, threshold)).sum())
