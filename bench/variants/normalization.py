"""Normalization by other ways to a mean and a variance."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant


def widened(input: Tensor) -> Tensor:
    """At least in float32: squares of a thousand overflow in half precision."""
    return input.to(torch.promote_types(input.dtype, torch.float32))


class _LayerNorm(torch.nn.LayerNorm):
    """LayerNorm over the last dimension, whose moments are computed otherwise."""

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of the last dimension, which is kept."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        wide = widened(input)
        mean, variance = self.moments(wide)
        normal = (wide - mean) * (variance + self.eps).rsqrt()
        return (normal * self.weight + self.bias).to(input.dtype)


@variant(torch.nn.LayerNorm, "4,6", init="6")
class TwoPasses(_LayerNorm):
    """LayerNorm with the mean first and the squared deviations second"""

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        mean = input.mean(-1, keepdim=True)
        return mean, ((input - mean) ** 2).mean(-1, keepdim=True)


@variant(torch.nn.LayerNorm, "4,6", init="6")
class Welford(_LayerNorm):
    """LayerNorm by Welford's running moments, an entry at a time"""

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        mean = squares = torch.zeros_like(input[..., :1])
        for count, entry in enumerate(input.split(1, -1), start=1):
            deviation = entry - mean
            mean = mean + deviation / count
            squares = squares + deviation * (entry - mean)
        return mean, squares / input.shape[-1]


@variant(torch.nn.LayerNorm, "4,6", init="6")
class Shifted(_LayerNorm):
    """LayerNorm by a sum of squares, shifted by the first entry"""

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        shift = input[..., :1].detach()
        mean = (input - shift).mean(-1, keepdim=True)
        squares = ((input - shift) ** 2).mean(-1, keepdim=True)
        return mean + shift, (squares - mean**2).clamp(min=0)


@variant(torch.nn.LayerNorm, "4,8", init="8")
class MergedHalves(_LayerNorm):
    """LayerNorm whose moments are merged from two halves, as parallel threads do"""

    def moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        size = input.shape[-1]
        if size < 2:
            return input, torch.zeros_like(input)
        left, right = input.tensor_split(2, -1)
        n, m = left.shape[-1], right.shape[-1]
        a, b = left.mean(-1, keepdim=True), right.mean(-1, keepdim=True)
        within = ((left - a) ** 2).sum(-1, keepdim=True) + ((right - b) ** 2).sum(-1, keepdim=True)
        return a + (b - a) * (m / size), (within + (a - b) ** 2 * (n * m / size)) / size


@variant(torch.nn.LayerNorm, "4,6", init="6", kind="Function")
class FusedLayerNorm(torch.autograd.Function):
    """LayerNorm whose backward pass is one formula over rows"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        wide = widened(input)
        mean = wide.mean(-1, keepdim=True)
        scale = ((wide - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        normal = (wide - mean) * scale
        ctx.save_for_backward(normal, scale, weight)
        return (normal * weight + bias).to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        normal, scale, weight = ctx.saved_tensors
        wide = grad.to(normal.dtype)
        g = wide * weight
        along = g.mean(-1, keepdim=True) + normal * (g * normal).mean(-1, keepdim=True)
        rows = tuple(range(grad.dim() - 1))
        grad_weight, grad_bias = wide * normal, wide
        if rows:
            grad_weight, grad_bias = grad_weight.sum(rows), grad_bias.sum(rows)
        return tuple(t.to(grad.dtype) for t in ((g - along) * scale, grad_weight, grad_bias))


@variant(torch.nn.LayerNorm, "4,6", init="6", reference_init="6, elementwise_affine=False")
class AsGroupNorm(torch.nn.Module):
    """LayerNorm without parameters as a group norm of one group"""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(math.prod(input.shape[:-1]), self.size)
        return F.group_norm(rows, 1).reshape(input.shape)


@variant(torch.nn.GroupNorm, "4,6,5", init="2, 6")
class Regrouped(torch.nn.GroupNorm):
    """GroupNorm of channels brought together by a reshape"""

    def forward(self, input: Tensor) -> Tensor:
        groups = widened(input).unflatten(1, (self.num_groups, -1)).flatten(2)
        variance, mean = torch.var_mean(groups, -1, correction=0, keepdim=True)
        normal = ((groups - mean) / torch.sqrt(variance + self.eps)).reshape(input.shape)
        spatial = [1] * (input.dim() - 2)
        output = normal * self.weight.reshape(-1, *spatial) + self.bias.reshape(-1, *spatial)
        return output.to(input.dtype)


@variant(torch.nn.RMSNorm, "4,6", init="6, eps=1e-6")
class RootMeanSquare(torch.nn.RMSNorm):
    """RMSNorm by the norm of a row over the root of its size"""

    def forward(self, input: Tensor) -> Tensor:
        wide = widened(input)
        mean = (wide * wide).sum(-1, keepdim=True) / input.shape[-1]
        return (wide / (mean + (self.eps or 0)) ** 0.5).to(input.dtype) * self.weight


@variant(torch.nn.RMSNorm, "4,6", init="6, eps=1e-6", kind="Function")
class FusedRMSNorm(torch.autograd.Function):
    """RMSNorm whose backward pass is written out"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        wide = widened(input)
        scale = (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(input, scale, weight)
        return (wide * scale * weight).to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        input, scale, weight = ctx.saved_tensors
        normal, wide = input.to(scale.dtype) * scale, grad.to(scale.dtype)
        g = wide * weight
        grad_input = scale * (g - normal * (g * normal).mean(-1, keepdim=True))
        rows = tuple(range(grad.dim() - 1))
        grad_weight = (wide * normal).sum(rows) if rows else wide * normal
        return grad_input.to(input.dtype), grad_weight.to(weight.dtype)


@variant(torch.nn.InstanceNorm2d, "4,3,5,6", init="3, affine=True")
class SamplesAsChannels(torch.nn.InstanceNorm2d):
    """InstanceNorm2d as a batch norm of all samples' channels in one sample"""

    def forward(self, input: Tensor) -> Tensor:
        copies = math.prod(input.shape[:-3])
        channels = input.reshape(1, copies * self.num_features, *input.shape[-2:])
        normal = F.batch_norm(
            channels, None, None, self.weight.repeat(copies), self.bias.repeat(copies),
            training=True, eps=self.eps,
        )  # fmt: skip
        return normal.reshape(input.shape)


@variant(torch.nn.InstanceNorm1d, "4,3,7", init="3")
class InstanceByHand(torch.nn.Module):
    """InstanceNorm1d by torch.std, whose correction is taken back"""

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        wide, size = widened(input), input.shape[-1]
        variance = wide.var(-1, keepdim=True) * ((size - 1) / max(size, 1))
        normal = (wide - wide.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()
        return normal.to(input.dtype)


class _BatchNorm(torch.nn.BatchNorm1d):
    """BatchNorm1d of (N, C) or (N, C, L), by hand, with running statistics."""

    def normalize(self, input: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalize and scale channels, which come last."""
        return (input - mean) / (variance + self.eps).sqrt() * self.weight + self.bias

    def forward(self, input: Tensor) -> Tensor:
        last = widened(input).movedim(1, -1)
        samples = last.reshape(-1, last.shape[-1])
        if self.training:
            if len(samples) == 1:
                raise ValueError("expected more than one value a channel in training")
            mean = samples.mean(0)
            variance = ((samples - mean) ** 2).mean(0)
            if len(samples):  # else the statistics stay
                unbiased = variance.detach() * (len(samples) / (len(samples) - 1))
                self.update(mean.detach(), unbiased)
        else:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, variance = self.running_mean, self.running_var
        return self.normalize(last, mean, variance).movedim(-1, 1).to(input.dtype)

    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics toward those of the batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1  # type: ignore[operator, assignment]
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(1 - self.momentum).add_(new.to(running.dtype), alpha=self.momentum)


@variant(torch.nn.BatchNorm1d, "5,4", init="4")
class BatchNormByHand(_BatchNorm):
    """BatchNorm1d by hand, with running statistics by mul_ and add_"""


@variant(torch.nn.BatchNorm1d, "5,4", init="4")
class RunningByLerp(_BatchNorm):
    """BatchNorm1d whose running statistics are interpolated"""

    def update(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1  # type: ignore[operator, assignment]
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)


@variant(torch.nn.BatchNorm1d, "5,4,3", init="4")
class ScaleAndShift(_BatchNorm):
    """BatchNorm1d folded into one scale and one shift a channel"""

    def normalize(self, input: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        scale = self.weight * (variance + self.eps).rsqrt()
        return input * scale + (self.bias - mean * scale)


@variant(torch.nn.BatchNorm2d, "4,3,5,6", init="3")
class FlattenedImage(torch.nn.BatchNorm2d):
    """BatchNorm2d as a BatchNorm1d of flattened images"""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        assert self.momentum is not None
        normal = F.batch_norm(
            input.flatten(2), self.running_mean, self.running_var, self.weight, self.bias,
            self.training, self.momentum, self.eps,
        )  # fmt: skip
        return normal.reshape(input.shape)


@variant(torch.nn.LayerNorm, "4,6", init="6")
class CountsItsCalls(torch.nn.LayerNorm):
    """LayerNorm with a buffer that counts its calls"""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator, assignment]
        return super().forward(input)
