"""Losses: how far an output is from its target, and the gradient in the output.

A loss is differentiated in its input alone; its target is a constant.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback

__all__ = ["BCELoss", "Loss", "MSELoss", "binary_cross_entropy", "mse_loss"]


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{reduction!r} is not a valid value for reduction; use 'mean', 'sum' or 'none'"
        )


def _reduce(
    loss: Tensor, derivative: Callable[[], Tensor], reduction: str, factor: float = 1.0
) -> tuple[Tensor, Pullback]:
    """Reduce elementwise losses whose derivative in the input is ``factor * derivative()``."""
    _check_reduction(reduction)
    if reduction == "mean":
        factor = factor / loss.numel() if loss.numel() else math.nan
        output = loss.mean()
    else:
        output = loss.sum() if reduction == "sum" else loss
    # The factors meet before they meet the tensor: one pass over it instead of three.
    return output, lambda grad_output: derivative() * (grad_output * factor)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> tuple[Tensor, Pullback]:
    """Squared error (x - t)^2, reduced; its derivative in x is 2 (x - t).

    With reduction "mean", both are divided by the number of entries.

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Raises:
        ValueError: reduction is unknown.
        RuntimeError: shapes cannot be broadcast. Shapes that can be give torch's UserWarning.
    """
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size "
            f"({input.size()}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=2,
        )
    if input.dtype != target.dtype:
        target = target.to(torch.result_type(input, target))  # bool cannot be subtracted
    difference = input - target
    output, pullback = _reduce(difference.square(), lambda: difference, reduction, factor=2.0)
    if input.shape == target.shape and input.dtype == difference.dtype:
        return output, pullback
    return output, lambda grad_output: pullback(grad_output).sum_to_size(input.shape).to(input)


def binary_cross_entropy(
    input: Tensor, target: Tensor, reduction: str = "mean"
) -> tuple[Tensor, Pullback]:
    """-(t log x + (1 - t) log(1 - x)), reduced; its derivative in x is (x - t) / (x (1 - x)).

    As in torch, each logarithm is at least -100 and the denominator at least 1e-12, so that both
    are finite for x of exactly 0 and 1.

    Shape: input and target (\\*), equal; output: scalar, or (\\*) for reduction "none".

    Raises:
        ValueError: shapes differ, or reduction is unknown.
        RuntimeError: dtypes differ, or an entry of input or target is not in [0, 1].
    """
    if input.shape != target.shape:
        raise ValueError(
            f"target shape {list(target.shape)} must be the same as input shape "
            f"{list(input.shape)}; reshape one of them"
        )
    if input.dtype != target.dtype:
        raise RuntimeError(
            f"expected target of {input.dtype}, as the input, got {target.dtype}; convert one of "
            "them with .to()"
        )
    for name, tensor in (("input", input), ("target", target)):
        if tensor.numel():
            low, high = (bound.item() for bound in torch.aminmax(tensor))
            if not (low >= 0 and high <= 1):  # so that NaN fails too
                raise RuntimeError(
                    f"all elements of {name} should be between 0 and 1, got {low} to {high}; "
                    + ("put a Sigmoid before the loss" if name == "input" else "use labels 0 and 1")
                )
    loss = (target - 1) * (-input).log1p().clamp(min=-100) - target * input.log().clamp(min=-100)
    return _reduce(
        loss, lambda: (input - target) / ((1 - input) * input).clamp(min=1e-12), reduction
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
        _check_reduction(reduction)
        self.reduction = reduction

    def loss(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        """Return the loss and its pullback, which maps to the gradient in input alone."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def rule(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        output, pullback = self.loss(input, target)
        return output, lambda grad_output: (pullback(grad_output), NOT_DIFFERENTIATED)

    def backward(self, *grad_outputs: Tensor, needs_input_grad: bool = True) -> Any:
        """Return the gradient of the latest loss in its input.

        Args:
            grad_outputs: gradient in the loss itself; may be left out for a scalar loss.
            needs_input_grad: must be True, since there is nothing else to compute.

        Raises:
            RuntimeError: as :meth:`Module.backward`.
        """
        return super().backward(*grad_outputs)[0]


class MSELoss(Loss):
    """Squared error (x - t)^2.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*); output: scalar, or (\\*) for reduction "none".

    Source: reports 000 to 004; :class:`torch.nn.MSELoss`.
    """

    def loss(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        return mse_loss(input, target, self.reduction)


class BCELoss(Loss):
    """Binary cross-entropy -(t log x + (1 - t) log(1 - x)) of probabilities x.

    Args:
        reduction: "mean" over all entries, "sum", or "none". Default: "mean".

    Shape: input and target (\\*), equal; output: scalar, or (\\*) for reduction "none".

    Source: report 000; :class:`torch.nn.BCELoss`.
    """

    def loss(self, input: Tensor, target: Tensor) -> tuple[Tensor, Pullback]:
        return binary_cross_entropy(input, target, self.reduction)
