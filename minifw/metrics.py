"""Metrics: how many samples a model gets right."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["Metric", "accuracy", "errors"]

Metric = Callable[[Tensor, Tensor], float]


def _right(output: Tensor, target: Tensor, threshold: float | None) -> Tensor:
    """Whether each sample is predicted as its target says."""
    if threshold is not None:
        return (output > threshold) == (target > threshold)
    if target.is_floating_point():
        target = target.argmax(1)
    return output.argmax(1) == target


def accuracy(threshold: float | None = None) -> Metric:
    """A metric: the share of outputs that are right, in [0, 1].

    Args:
        threshold: right is an output on its target's side of it. Default: none; then right is a
            largest output at the target's class, given by its index or by its probabilities.

    Shape: with a threshold, output and target (\\*); without, output (n, classes) and target (n)
        of int64 or (n, classes).
    """
    return lambda output, target: _right(output, target, threshold).double().mean().item()


def errors(threshold: float | None = None) -> Metric:
    """A metric: the number of outputs that are wrong; arguments and shapes of :func:`accuracy`.

    Source: reports 001 and 003 (compute_nb_errors).
    """
    return lambda output, target: int((~_right(output, target, threshold)).sum())
