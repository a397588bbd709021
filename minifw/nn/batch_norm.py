"""BatchNorm1d: normalization of each channel over a batch, with running statistics."""

from collections.abc import Callable

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.normalization import moments_over, normalize
from minifw.nn.parameter import Parameter
from minifw.nn.rule import Pullback, parametric_rule

__all__ = ["BatchNorm1d", "batch_norm"]


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
    """(input - mean) / sqrt(variance + eps) weight + bias, with moments of each channel (dim 1).

    Training uses the moments of the batch, and updates the running moments in place::

        running <- (1 - momentum) running + momentum moment

    with the variance divided by n - 1. Evaluation uses the running moments, as constants. The
    pullback returns the gradients of input, weight and bias: see
    :func:`~minifw.nn.normalization.normalize`.

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
        moments = moments_over(input, over)
        if running_mean is not None and running_var is not None and count:
            variance, mean = (moment.view(-1) for moment in moments)
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(variance, alpha=momentum * count / (count - 1))
    elif running_mean is None or running_var is None:
        raise RuntimeError("expected running_mean and running_var when not training, got None")
    else:
        moments = running_var.view(channels), running_mean.view(channels)
    weight, bias = (None if it is None else it.view(channels) for it in (weight, bias))
    return normalize(input, moments, over if training else None, weight, bias, over, eps)


class BatchNorm1d(Module, capturable=True):
    """(input - mean) / sqrt(variance + eps) weight + bias, with moments of each channel.

    Training uses the moments of the batch, differentiates through them, and updates their running
    averages. Evaluation uses the running averages, as constants.

    Args:
        num_features: number of channels C.
        eps: added to the variance. Default: 1e-5.
        momentum: weight of the last batch in the running averages; None for the mean of all
            batches. Default: 0.1.
        affine: whether there are weight and bias. Default: True.
        track_running_stats: whether there are running averages; otherwise evaluation uses the
            moments of the batch. Default: True.
        device: device of the parameters. Default: torch's.
        dtype: dtype of the parameters. Default: torch's.
        bias: whether there is a bias beside the weight. Default: True.

    Shape: input and output (N, C) or (N, C, L).

    Attributes:
        weight (Parameter | None): (C), from 1.
        bias (Parameter | None): (C), from 0.
        running_mean (Tensor | None): (C), buffer, from 0.
        running_var (Tensor | None): (C), buffer, from 1.
        num_batches_tracked (Tensor | None): scalar buffer, the batches seen in training.

    Raises:
        ValueError: the input has not 2 or 3 dimensions; what
            :func:`~minifw.nn.functional.batch_norm` refuses.

    Source: Ioffe and Szegedy (2015), Batch normalization; :class:`torch.nn.BatchNorm1d`.
    """

    function: Callable[..., tuple[Tensor, Pullback]] = staticmethod(batch_norm)
    dims: tuple[int, ...] = (2, 3)  # that an input may have
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
        if input.dim() not in self.dims:
            raise ValueError(
                f"expected 2D or 3D input, (N, {self.num_features}) or "
                f"(N, {self.num_features}, L), got shape {list(input.shape)}"
            )
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.max().item()
        return parametric_rule(
            self.function,
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
