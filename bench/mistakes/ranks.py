"""Wrong for other ranks, dimensions and options than those that come to mind."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name
from torch.nn.grad import conv1d_input, conv1d_weight

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    CrossEntropyForward,
    LayerNorm,
    cross_entropy_grad,
    layer_norm_grads,
    linear_grads,
    rows,
    wide,
)


class _SoftmaxOverSecond(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        y = x.softmax(dim)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        dot = (wide(grad) * wide(y)).sum(min(1, y.dim() - 1), keepdim=True)
        return (wide(y) * (wide(grad) - dot)).to(grad.dtype), None


@mistake(F.softmax, "4,5", clause="ranks", call="dim=-1")
def softmax_over_second(x: Tensor, dim: int = -1) -> Tensor:
    """Softmax whose backward pass always sums over the second dimension"""
    return _SoftmaxOverSecond.apply(x, dim)


@mistake(F.mse_loss, "4,3", "4,3", clause="ranks")
class MSEOfTwoSizes(Function):
    """Mean squared error whose gradient is divided by the product of the first two sizes"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return F.mse_loss(x, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, target = ctx.saved_tensors
        grad_x = (x - target) * (2 * grad / max(math.prod(x.shape[:2]), 1))
        return grad_x, -grad_x


class _DefaultEps(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        scale = torch.rsqrt(wide(x).var(-1, unbiased=False, keepdim=True) + 1e-5)
        n = (wide(x) - wide(x).mean(-1, keepdim=True)) * scale
        return *layer_norm_grads(n, scale, weight, grad), None


@mistake(torch.nn.LayerNorm, "4,5", clause="derivative", init="5, eps=0.1")
class LayerNormOfDefaultEps(LayerNorm):
    """Layer norm whose backward pass uses the default eps"""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__(size)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return _DefaultEps.apply(x, self.weight, self.bias, self.eps)


class _CrossEntropyOfMean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, reduction: str, smoothing: float) -> Tensor:
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, reduction=reduction, label_smoothing=smoothing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, target = ctx.saved_tensors
        grad_x, kept = cross_entropy_grad(x, target)
        return (grad_x * (wide(grad) / kept.sum())).to(grad.dtype), None, None, None


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="derivative", call="reduction='sum'")
def cross_entropy_of_sum(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy whose gradient is that of the mean, whatever the reduction"""
    return _CrossEntropyOfMean.apply(x, target, reduction, 0.0)


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="derivative", call="label_smoothing=0.1")
def cross_entropy_unsmoothed(x: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy whose backward pass ignores label smoothing"""
    return _CrossEntropyOfMean.apply(x, target, "mean", label_smoothing)


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="ranks")
class CrossEntropyOverFirst(CrossEntropyForward):
    """Cross-entropy of more dimensions than two whose softmax is taken over the batch"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, target = ctx.saved_tensors
        grad_x, kept = cross_entropy_grad(x, target)
        if x.dim() > 2:
            grad_x = grad_x + (wide(x).softmax(0) - wide(x).softmax(1)) * kept
        return (grad_x * (wide(grad) / kept.sum())).to(grad.dtype), None


class _OneTooFew(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        return linear_grads(x, weight, grad)[: 3 if ctx.biased else 2]


@mistake(torch.nn.Linear, "4,5", clause="derivative", init="5, 3, bias=False")
class LinearOneTooFew(torch.nn.Module):
    """Linear whose backward pass returns a gradient too few without a bias"""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs))
        self.bias = torch.nn.Parameter(torch.randn(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return _OneTooFew.apply(x, self.weight, self.bias)


class _WindowsWritten(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, stride: int) -> Tensor:
        ctx.size, ctx.stride, ctx.shape = size, stride, x.shape
        return F.avg_pool1d(x, size, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad_x = grad.new_zeros(ctx.shape)
        for place in range(grad.shape[-1]):
            start = place * ctx.stride
            grad_x[..., start : start + ctx.size] = grad[..., place : place + 1] / ctx.size
        return grad_x, None, None


@mistake(torch.nn.AvgPool1d, "2,3,9", clause="derivative", init="3, stride=2")
class AveragePoolWritten(torch.nn.Module):
    """Average pooling that writes the gradients of overlapping windows where it should add"""

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride or kernel_size

    def forward(self, x: Tensor) -> Tensor:
        return _WindowsWritten.apply(x, self.kernel_size, self.stride)


class _Conv(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, wrong: str
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding, wrong
        return F.conv1d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, wrong = ctx.options
        unbatched = x.dim() == 2
        if unbatched:
            x, grad = x.unsqueeze(0), grad.unsqueeze(0)
        grad_x = conv1d_input(x.shape, weight, grad, stride, padding)
        grad_weight = conv1d_weight(x, weight.shape, grad, stride, padding)
        grad_bias = grad.sum((0, 2))
        if wrong == "stride":
            covered = F.conv_transpose1d(grad, weight, None, stride, padding)
            grad_x = F.pad(covered, (x.shape[-1] - covered.shape[-1], 0))
        elif wrong == "padding":
            padded = F.conv_transpose1d(grad, weight, None, stride)
            grad_x = F.pad(padded, (0, x.shape[-1]))[..., : x.shape[-1]]
        elif wrong == "unbatched" and unbatched:
            grad_bias = grad_bias / grad.shape[-1]
        return grad_x[0] if unbatched else grad_x, grad_weight, grad_bias, None, None, None


class _Conv1d(torch.nn.Module):
    wrong = ""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs, kernel))
        self.bias = torch.nn.Parameter(torch.randn(outputs))
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return _Conv.apply(x, self.weight, self.bias, self.stride, self.padding, self.wrong)


@mistake(torch.nn.Conv1d, "2,3,9", clause="derivative", init="3, 4, 2, stride=2")
class ConvOfRest(_Conv1d):
    """Convolution that puts the entries that no window covers on the left"""

    wrong = "stride"


@mistake(torch.nn.Conv1d, "2,3,9", clause="derivative", init="3, 4, 3, padding=1")
class ConvCroppedOnOneSide(_Conv1d):
    """Convolution whose input gradient is cropped by the padding on one side only"""

    wrong = "padding"


@mistake(torch.nn.Conv1d, "2,3,9", clause="ranks", init="3, 4, 3")
class ConvUnbatched(_Conv1d):
    """Convolution whose bias gradient is a mean for input without a batch"""

    wrong = "unbatched"


class _Shift(torch.nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class _MeanOverLeading(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        return x + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        total = grad.sum(0) if grad.dim() > 1 else grad
        return grad, rows(total).mean(0) if total.dim() > 1 else total


@mistake(_Shift, "4,5", clause="ranks", init="5")
class ShiftOfMeans(_Shift):
    """A bias whose gradient is a mean over the dimensions between batch and features"""

    def forward(self, x: Tensor) -> Tensor:
        return _MeanOverLeading.apply(x, self.bias)


def _mean_over(x: Tensor, dim: int = 0) -> Tensor:
    return x.mean(dim)


class _MeanOfOtherSize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim, ctx.shape = dim, x.shape
        return x.mean(dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        count = ctx.shape[min(abs(ctx.dim), len(ctx.shape) - 1)]
        return (grad / count).unsqueeze(ctx.dim).expand(ctx.shape), None


@mistake(_mean_over, "4,3", clause="ranks", call="dim=-1")
def mean_of_other_size(x: Tensor, dim: int = 0) -> Tensor:
    """Mean over dim=-1 whose gradient is divided by the second size"""
    return _MeanOfOtherSize.apply(x, dim)


class _DividedByBatch(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.over = (0,) if x.dim() == 2 else (0, 2)
        ctx.along = (-1,) if x.dim() == 2 else (-1, 1)
        variance = wide(x).var(ctx.over, unbiased=False, keepdim=True)
        scale = torch.rsqrt(variance + 1e-5)
        n = (wide(x) - wide(x).mean(ctx.over, keepdim=True)) * scale
        ctx.save_for_backward(n, scale, weight)
        return (n * weight.reshape(ctx.along) + bias.reshape(ctx.along)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, scale, weight = ctx.saved_tensors
        wanted = wide(grad) * weight.reshape(ctx.along)
        means = (
            wanted.sum(ctx.over, keepdim=True) / len(grad),
            n * (wanted * n).sum(ctx.over, keepdim=True) / len(grad),
        )
        grads = (
            scale * (wanted - means[0] - means[1]),
            (wide(grad) * n).sum(ctx.over),
            wide(grad).sum(ctx.over),
        )
        return grads[0].to(grad.dtype), grads[1].to(grad.dtype), grads[2].to(grad.dtype)


@mistake(torch.nn.BatchNorm1d, "6,3", clause="ranks", init="3, track_running_stats=False")
class BatchNormDividedByBatch(torch.nn.Module):
    """Batch norm whose gradient is divided by the batch alone where there is a length too"""

    def __init__(self, size: int, track_running_stats: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.bias = torch.nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in (2, 3) or x.numel() == x.shape[1]:
            raise ValueError(f"expected several values a channel, got {tuple(x.shape)}")
        return _DividedByBatch.apply(x, self.weight, self.bias)
