"""Loss, the base class, and the losses of regression, each beside its derivative.

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
    loss: Tensor, derivative: Callable[[], Tensor], reduction: str, factor: float = 1.0
) -> tuple[Tensor, Pullback]:
    """Reduce elementwise losses whose derivative in the input is ``factor * derivative()``."""
    check_reduction(reduction)
    if reduction == "mean":
        count = constant(loss.numel(), loss.dtype, loss.device)
        output = loss.sum(None) / count
        factor = factor / loss.numel() if loss.numel() else math.nan
    else:
        output = loss.sum() if reduction == "sum" else loss
    scale = constant(factor, loss.dtype, loss.device)
    # The factors meet before they meet the tensor: one pass over it instead of three.
    return output, lambda grad_output: derivative() * (grad_output * scale)


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
    output, pullback = reduce(
        function(difference), lambda: derivative(difference), reduction, factor
    )
    if difference.shape == input.shape and difference.dtype == input.dtype:
        return output, pullback
    return output, lambda grad: pullback(grad).sum_to_size(input.shape).to(input)


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

    Its derivative in x is d / beta, held between -1 and 1. For beta = 0 it is :func:`l1_loss`.

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

    Its derivative in x is d, held between -delta and delta.

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


class Loss(Module):
    """Base class of the losses; a subclass defines ``loss``.

    ``criterion(input, target)`` returns the loss, ``criterion.backward()`` its gradient in input.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Raises:
        ValueError: reduction is unknown.
    """

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction(reduction)
        self.reduction = reduction

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        """Return the loss and its pullback, which maps to the gradient in input alone."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def count(self, target: Tensor, losses: Tensor) -> Tensor | int:
        """What each member of a stack divides the sum of its ``losses`` by to get their mean."""
        return losses.shape[1]

    def rule(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        of_all = self._loss_of_members if self.members else self.loss
        output, pullback = of_all(input, target, self.reduction)
        return output, lambda grad_output: (pullback(grad_output), NOT_DIFFERENTIATED)

    def _loss_of_members(
        self, input: Tensor, target: Tensor, reduction: str
    ) -> tuple[Tensor, Pullback]:
        """The loss of each member, from the losses of all their samples."""
        each, pullback = self.loss(input.flatten(0, 1), target.flatten(0, 1), "none")
        if reduction == "none":
            shape = (len(input), -1, *each.shape[1:])
            return each.view(shape), lambda grad: pullback(grad.flatten(0, 1)).view(input.shape)
        losses = each.view(len(input), -1)
        count = self.count(target, losses) if reduction == "mean" else 1

        def pullback_members(grad_output: Tensor) -> Tensor:
            grad = (grad_output / count).unsqueeze(1).expand(losses.shape)
            return pullback(grad.reshape(each.shape)).view(input.shape)  # type: ignore[no-any-return]

        return losses.sum(1) / count, pullback_members

    def backward(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """Return the gradient of the latest loss in its input.

        Args:
            grad_outputs: gradient in the loss itself; may be left out for a scalar loss, and for
                one scalar a member.
            needs_input_grad: must be True, since there is nothing else to compute.

        Raises:
            RuntimeError: as :meth:`minifw.nn.Module.backward`.
        """
        if self.members and self._calls and not grad_outputs and self.reduction != "none":
            grad_outputs = tuple(map(torch.ones_like, self._calls[-1][0]))
        return super().backward(*grad_outputs)[0]


class MSELoss(Loss):
    """Squared error (x - t)^2.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: reports 000 to 004; :class:`torch.nn.MSELoss`.
    """

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return mse_loss(input, target, reduction)


class L1Loss(Loss):
    """Absolute error abs(x - t).

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: :class:`torch.nn.L1Loss`.
    """

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return l1_loss(input, target, reduction)


class SmoothL1Loss(Loss):
    """d^2 / (2 beta) where abs(d) < beta, else abs(d) - beta / 2, with d = x - t.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".
        beta: distance from which it is linear. Default: 1.0.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: Girshick (2015), Fast R-CNN; :class:`torch.nn.SmoothL1Loss`.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return smooth_l1_loss(input, target, reduction, self.beta)


class HuberLoss(Loss):
    """d^2 / 2 where abs(d) < delta, else delta (abs(d) - delta / 2), with d = x - t.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".
        delta: distance from which it is linear. Default: 1.0.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: Huber (1964), Robust estimation of a location parameter; :class:`torch.nn.HuberLoss`.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Pullback]:
        return huber_loss(input, target, reduction, self.delta)
