"""Losses: their base class, and those of regression, each beside its derivative.

A loss is differentiated in its input alone; its target is a constant.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback, constant

__all__ = [
    "HuberLoss", "L1Loss", "Loss", "MSELoss", "SmoothL1Loss", "huber_loss", "l1_loss", "mse_loss",
    "smooth_l1_loss",
]  # fmt: skip


def check_reduction(reduction: str) -> None:
    """Raise ValueError for an unknown reduction."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{reduction!r} is not a valid value for reduction; use 'mean', 'sum' or 'none'"
        )


def reduce(
    loss: Tensor,
    reduction: str,
    count: Tensor | float | None = None,
    factor: float = 1.0,
    dim: int | None = None,
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Reduce losses by "mean", "sum" or "none".

    Args:
        loss: the losses.
        reduction: "mean" for their sum divided by ``count``, "sum", or "none".
        count: divisor of the mean. Default: the number of losses.
        factor: factor of the pullback, unless count is a tensor. Default: 1.
        dim: dimension to reduce. Default: all.

    Returns:
        The reduced loss, and a pullback that maps its gradient to that of a single loss.

    Raises:
        ValueError: reduction is unknown.
    """
    check_reduction(reduction)
    output = loss if reduction == "none" else loss.sum(dim)
    if reduction != "mean":
        count = 1
    elif isinstance(count, Tensor):
        return output / count, lambda grad_output: grad_output / count
    else:
        if count is None:
            count = loss.numel() if dim is None else loss.shape[dim]
        output = output / constant(count, loss.dtype, loss.device)
    scale = constant(factor / count if count else math.nan, loss.dtype, loss.device)
    return output, lambda grad_output: grad_output * scale


def _regression_loss(
    input: Tensor,
    target: Tensor,
    reduction: str,
    function: Callable[[Tensor], Tensor],
    derivative: Callable[[Tensor], Tensor],
    factor: float = 1.0,
) -> tuple[Tensor, Pullback]:
    """function(x - t), reduced; its derivative in x is factor * derivative(x - t)."""
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size "
            f"({input.size()}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )
    if input.dtype != target.dtype:
        target = target.to(torch.result_type(input, target))  # bool cannot be subtracted
    difference = input - target
    output, pullback_reduce = reduce(function(difference), reduction, factor=factor)

    def pullback(grad_output: Tensor) -> Tensor:
        grad = derivative(difference) * pullback_reduce(grad_output)
        if grad.shape == input.shape and grad.dtype == input.dtype:
            return grad
        return grad.sum_to_size(input.shape).to(input)

    return output, pullback


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> tuple[Tensor, Pullback]:
    """Squared error (x - t)^2, reduced; its derivative in x is 2 (x - t).

    With reduction "mean", both are divided by the number of entries.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Raises:
        ValueError: reduction is unknown.
        RuntimeError: shapes cannot be broadcast. Shapes that can be give torch's UserWarning.
    """
    return _regression_loss(input, target, reduction, lambda x: x * x, lambda x: x, factor=2.0)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> tuple[Tensor, Pullback]:
    """Absolute error abs(x - t), reduced; its derivative in x is sign(x - t), 0 at 0.

    Shape and Raises: as :func:`mse_loss`.
    """
    return _regression_loss(input, target, reduction, torch.abs, torch.sign)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> tuple[Tensor, Pullback]:
    """d^2 / (2 beta) where abs(d) < beta, else abs(d) - beta / 2, with d = x - t; reduced.

    Its derivative in x is d / beta, clamped to [-1, 1]. For beta = 0 it is :func:`l1_loss`.

    Shape and Raises: as :func:`mse_loss`; also RuntimeError for a negative beta.
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss expects a beta of at least 0, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)

    def function(difference: Tensor) -> Tensor:
        distance = difference.abs()
        near = distance * distance * (0.5 / beta)
        return torch.where(distance < beta, near, distance - 0.5 * beta)

    return _regression_loss(
        input, target, reduction, function, lambda difference: (difference / beta).clamp(-1, 1)
    )


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> tuple[Tensor, Pullback]:
    """d^2 / 2 where abs(d) < delta, else delta (abs(d) - delta / 2), with d = x - t; reduced.

    Its derivative in x is d, clamped to [-delta, delta].

    Shape and Raises: as :func:`mse_loss`; also RuntimeError for a delta of 0 or less.
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss expects a delta above 0, got {delta}")

    def function(difference: Tensor) -> Tensor:
        distance = difference.abs()
        far = (distance - 0.5 * delta) * delta
        return torch.where(distance < delta, distance * distance * 0.5, far)

    return _regression_loss(
        input, target, reduction, function, lambda difference: difference.clamp(-delta, delta)
    )


class Loss(Module, capturable=True):
    """Base class of the losses; a subclass defines :meth:`loss`.

    ``criterion(input, target)`` returns the loss, ``criterion.backward()`` its gradient in input.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Raises:
        ValueError: reduction is unknown.
    """

    _notes_origin = True

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction(reduction)
        self.reduction = reduction

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        """Return the loss and its pullback, which maps to the gradient in input alone."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def rule(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        output, pullback = self.loss(input, target, self.reduction)
        return output, lambda grad_output: (pullback(grad_output), NOT_DIFFERENTIATED)

    def backward(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """Return the gradient of the most recent loss in its input.

        Args:
            grad_outputs: gradient in the loss itself. Default: 1, for a scalar loss.
            needs_input_grad: must be True, since there is nothing else to compute.

        Raises:
            RuntimeError: as :meth:`minifw.nn.Module.backward`.
        """
        return super().backward(*grad_outputs)[0]


class MSELoss(Loss, capturable=True):
    """Squared error (x - t)^2.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: reports 000 to 004; :class:`torch.nn.MSELoss`.
    """

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return mse_loss(input, target, reduction)


class L1Loss(Loss, capturable=True):
    """Absolute error abs(x - t).

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: :class:`torch.nn.L1Loss`.
    """

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return l1_loss(input, target, reduction)


class SmoothL1Loss(Loss, capturable=True):
    """d^2 / (2 beta) where abs(d) < beta, else abs(d) - beta / 2, with d = x - t.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".
        beta: distance above which it is linear. Default: 1.0.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: Girshick (2015), Fast R-CNN; :class:`torch.nn.SmoothL1Loss`.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return smooth_l1_loss(input, target, reduction, self.beta)


class HuberLoss(Loss, capturable=True):
    """d^2 / 2 where abs(d) < delta, else delta (abs(d) - delta / 2), with d = x - t.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".
        delta: distance above which it is linear. Default: 1.0.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: Huber (1964), Robust estimation of a location parameter; :class:`torch.nn.HuberLoss`.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return huber_loss(input, target, reduction, self.delta)
