"""Normalisation: LayerNorm over the features of a sample, BatchNorm1d over a batch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.parameter import Parameter
from minifw.nn.rule import Pullback, parametric_rule

__all__ = ["BatchNorm1d", "LayerNorm", "batch_norm", "layer_norm"]


def _moments(input: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Variance and mean over dimensions, kept with size 1; 0 where there are no values."""
    if input.numel():
        # Not var_mean, whose mean of infinity is NaN.
        return torch.var(input, over, correction=0, keepdim=True), input.mean(over, keepdim=True)
    zeros = input.sum(over, keepdim=True)
    return zeros, zeros


def _normalize(
    input: Tensor,
    moments: tuple[Tensor, Tensor],
    over: tuple[int, ...] | None,
    weight: Tensor | None,
    bias: Tensor | None,
    sum_over: tuple[int, ...],
    eps: float,
) -> tuple[Tensor, Pullback]:
    """z weight + bias, with z = (input - mean) / sqrt(variance + eps).

    ``over`` are the dimensions of ``input`` that the moments were taken over; None says that they
    are constants. ``sum_over`` are those over which weight and bias are broadcast. With G the
    gradient of the output and mean() over ``over``::

        grad_z      = G weight
        grad_input  = (grad_z - mean(grad_z) - z mean(grad_z z)) / sqrt(variance + eps)
        grad_weight = sum G z
        grad_bias   = sum G

    where the two means are the derivatives of mean and variance; for constants they are left out.
    """
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(
            f"expected input of {weight.dtype}, as the weight, got {input.dtype}; convert one of "
            "them with .to()"
        )
    variance, mean = moments
    scale = torch.rsqrt(variance + eps)
    normalized = (input - mean) * scale
    output = normalized if weight is None else normalized * weight
    if bias is not None:
        output = output + bias

    def pullback(
        grad_output: Tensor, needs_input_grad: Sequence[bool] = (True, True, True)
    ) -> tuple[Tensor | None, ...]:
        grad_input = grad_weight = grad_bias = None
        if needs_input_grad[0]:
            grad = grad_output if weight is None else grad_output * weight
            if over is not None:
                through_variance = normalized * (grad * normalized).mean(over, keepdim=True)
                grad = grad - grad.mean(over, keepdim=True) - through_variance
            grad_input = grad * scale
        if weight is not None and needs_input_grad[1]:
            grad_weight = (grad_output * normalized).sum(sum_over)
        if bias is not None and needs_input_grad[2]:
            grad_bias = grad_output.sum(sum_over)
        return grad_input, grad_weight, grad_bias

    return output, pullback


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Pullback]:
    """(input - mean) / sqrt(variance + eps) weight + bias, moments over the last dimensions.

    The pullback returns the gradients of input, weight and bias (:func:`_normalize`).

    Shape:
        - input and output: (\\*, normalized_shape).
        - weight and bias: normalized_shape.

    Raises:
        RuntimeError: normalized_shape is empty or not the end of the input's shape; dtypes differ.
    """
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise RuntimeError(
            f"expected input of shape (*, {', '.join(map(str, shape))}), got {list(input.shape)}; "
            "normalized_shape must be the input's last dimensions, at least one"
        )
    size = math.prod(shape)
    rows = input.reshape(math.prod(input.shape[: -len(shape)]), size)
    output, pullback_rows = _normalize(
        rows,
        _moments(rows, (1,)),
        (1,),
        None if weight is None else weight.reshape(size),
        None if bias is None else bias.reshape(size),
        (0,),
        eps,
    )

    def pullback(
        grad_output: Tensor, needs_input_grad: Sequence[bool] = (True, True, True)
    ) -> tuple[Tensor | None, ...]:
        grads = pullback_rows(grad_output.reshape(rows.shape), needs_input_grad)
        shapes = (input.shape, shape, shape)
        return tuple(
            None if grad is None else grad.view(of) for grad, of in zip(grads, shapes, strict=True)
        )

    return output.view(input.shape), pullback


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Pullback]:
    """(input - mean) / sqrt(variance + eps) weight + bias, moments for each channel (dimension 1).

    In training the moments are those of the batch, and the running ones are changed in place::

        running <- (1 - momentum) running + momentum moment

    with the variance divided by n - 1. Otherwise the running moments are used, as constants. The
    pullback returns the gradients of input, weight and bias (:func:`_normalize`).

    Shape:
        - input and output: (N, C, \\*).
        - running_mean, running_var, weight and bias: (C).

    Raises:
        ValueError: one value a channel in training; eps is not positive in training, or negative.
        RuntimeError: not C channels; no running moments although not in training; dtypes differ.
    """
    count = input.numel() // input.shape[1] if input.shape[1] else 0
    if training and count == 1:
        raise ValueError(
            "expected more than 1 value per channel when training, got input of shape "
            f"{list(input.shape)}; use a larger batch, or eval() for single samples"
        )
    if not eps >= 0 or (training and not eps > 0):
        raise ValueError(
            f"batch_norm eps must be positive during training and never negative, got {eps}"
        )
    for name, tensor in (("running_mean", running_mean), ("weight", weight)):
        if tensor is not None and tensor.shape != input.shape[1:2]:
            raise RuntimeError(
                f"expected input of shape (N, {tensor.numel()}) or (N, {tensor.numel()}, L), as "
                f"{name} has {tensor.numel()} channels, got {list(input.shape)}"
            )
    over = tuple(dim for dim in range(input.dim()) if dim != 1)
    channels = (1, -1, *[1] * (input.dim() - 2))
    if training:
        moments = _moments(input, over)
        if running_mean is not None and running_var is not None and count:
            variance, mean = (moment.view(-1) for moment in moments)
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(variance, alpha=momentum * count / (count - 1))
    elif running_mean is None or running_var is None:
        raise RuntimeError("expected running_mean and running_var when not training, got None")
    else:
        moments = running_var.view(channels), running_mean.view(channels)
    weight, bias = (None if it is None else it.view(channels) for it in (weight, bias))
    return _normalize(input, moments, over if training else None, weight, bias, over, eps)


class LayerNorm(Module):
    """(input - mean) / sqrt(variance + eps) weight + bias, the moments those of each sample.

    Args:
        normalized_shape: the last dimensions of the input, over which the moments are taken.
        eps: added to the variance. Default: 1e-5.
        elementwise_affine: whether there are weight and bias. Default: True.
        bias: whether there is a bias beside the weight. Default: True.
        device: device of the parameters. Default: torch's.
        dtype: dtype of the parameters. Default: torch's.

    Shape: input and output (\\*, normalized_shape).

    Attributes:
        weight (Parameter | None): normalized_shape, from 1.
        bias (Parameter | None): normalized_shape, from 0.

    Source: Ba et al. (2016), Layer normalization; :class:`torch.nn.LayerNorm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(normalized_shape, int):
            normalized_shape = (normalized_shape,)
        self.normalized_shape = tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(torch.ones(self.normalized_shape, device=device, dtype=dtype))
        if elementwise_affine and bias:
            self.bias = Parameter(torch.zeros(self.normalized_shape, device=device, dtype=dtype))

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return parametric_rule(
            layer_norm,
            input,
            self.weight,
            self.bias,
            normalized_shape=self.normalized_shape,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class BatchNorm1d(Module):
    """(input - mean) / sqrt(variance + eps) weight + bias, the moments those of each channel.

    In training the moments are those of the batch, which the gradient takes into account, and
    running averages are kept of them; in evaluation these are used, as constants.

    Args:
        num_features: number of channels C.
        eps: added to the variance. Default: 1e-5.
        momentum: share of the latest batch in the running averages; None for the average of all
            batches. Default: 0.1.
        affine: whether there are weight and bias. Default: True.
        track_running_stats: whether there are running averages; without them evaluation uses the
            moments of the batch too. Default: True.
        device: device of the parameters. Default: torch's.
        dtype: dtype of the parameters. Default: torch's.
        bias: whether there is a bias beside the weight. Default: True.

    Shape: input and output (N, C) or (N, C, L).

    Attributes:
        weight (Parameter | None): (C), from 1.
        bias (Parameter | None): (C), from 0.
        running_mean, running_var (Tensor | None): (C), buffers, from 0 and 1.
        num_batches_tracked (Tensor | None): scalar buffer, the batches seen in training.

    Raises:
        ValueError: the input has not 2 or 3 dimensions; what :func:`batch_norm` refuses.

    Source: Ioffe and Szegedy (2015), Batch normalization; :class:`torch.nn.BatchNorm1d`.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        zeros = torch.zeros(num_features, device=device, dtype=dtype)
        self.weight = Parameter(torch.ones_like(zeros)) if affine else None
        self.bias = Parameter(zeros.clone()) if affine and bias else None
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros if tracked else None)
        self.register_buffer("running_var", torch.ones_like(zeros) if tracked else None)
        self.register_buffer(
            "num_batches_tracked", torch.tensor(0, device=device) if tracked else None
        )

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        if input.dim() not in (2, 3):
            raise ValueError(
                f"expected 2D or 3D input, (N, {self.num_features}) or "
                f"(N, {self.num_features}, L), got shape {list(input.shape)}"
            )
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        return parametric_rule(
            batch_norm,
            input,
            self.weight,
            self.bias,
            running_mean=self.running_mean,
            running_var=self.running_var,
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
