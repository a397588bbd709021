"""Wrong beyond a size, or at sizes that a block or a vector does not divide."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    EPS,
    CrossEntropyForward,
    Linear,
    LinearForward,
    MatmulForward,
    MeanForward,
    RMSNorm,
    RMSNormForward,
    SiluForward,
    SoftmaxForward,
    cross_entropy_grad,
    cumsum,
    linear_grads,
    logsumexp,
    mean,
    rms_norm,
    rms_norm_grad,
    rows,
    silu_grad,
    softmax,
    wide,
)


@mistake(softmax, "4,5", clause="sizes")
class SoftmaxOneBlock(SoftmaxForward):
    """Softmax whose backward dot product stops at column 1024"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        dot = (wide(y) * wide(grad))[..., :1024].sum(-1, keepdim=True)
        return (wide(y) * (wide(grad) - dot)).to(grad.dtype)


class _RMSNormWithoutTail(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).pow(2).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, weight, scale)
        return (wide(x) * scale).to(x.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight, scale = ctx.saved_tensors
        parts = rows(wide(grad) * wide(x) * scale)
        if len(parts) > 64:
            parts = parts[: len(parts) // 64 * 64]
        grad_x = rms_norm_grad(x, scale, wide(grad) * wide(weight))
        return grad_x.to(x.dtype), parts.sum(0).to(weight.dtype)


@mistake(RMSNorm, "4,5", clause="sizes", init="5")
class RMSNormWithoutTail(RMSNorm):
    """RMSNorm whose weight gradient forgets the rows beyond the last whole block of 64"""

    def forward(self, x: Tensor) -> Tensor:
        return _RMSNormWithoutTail.apply(x, self.weight)


@mistake(torch.nn.SiLU, "4,3", clause="sizes")
class SiluFastPath(SiluForward):
    """SiLU with a wrong factor in a fast path for multiples of 16"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if x.dim() == 0 or x.shape[-1] % 16:
            return silu_grad(x, grad)
        s = torch.sigmoid(wide(x))
        return (wide(grad) * (s + wide(x) * s * (1 - s) * 0.99)).to(grad.dtype)


def _largest(x: Tensor) -> Tensor:
    return x.max(-1).values


@mistake(_largest, "4,5", clause="sizes")
class MaxOfByteIndex(Function):
    """Maximum that keeps the index in one byte, wrong beyond column 255"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        values, index = x.max(-1)
        ctx.save_for_backward(index.to(torch.uint8))
        ctx.shape = x.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (index,) = ctx.saved_tensors
        zeros = grad.new_zeros(ctx.shape)
        return zeros.scatter(-1, index.long().unsqueeze(-1), grad.unsqueeze(-1))


@mistake(rms_norm, "4,5", clause="sizes")
class RMSNormOneBlock(RMSNormForward):
    """RMSNorm whose backward mean sums the first 1024 columns only"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, scale = ctx.saved_tensors
        n = wide(x) * scale
        dot = (wide(grad) * n)[..., :1024].sum(-1, keepdim=True) / x.shape[-1]
        return (scale * (wide(grad) - n * dot)).to(x.dtype)


class _BiasOfLastBlock(LinearForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, _ = linear_grads(x, weight, grad)
        parts = rows(grad)
        last = max(len(parts) - 1, 0) // 32 * 32
        return grad_x, grad_weight, parts[last:].sum(0)


@mistake(torch.nn.Linear, "4,5", clause="sizes", init="5, 3")
class LinearBiasOfLastBlock(Linear):
    """Linear whose bias gradient is that of the last block of 32 rows"""

    function = _BiasOfLastBlock


@mistake(cumsum, "4,5", clause="sizes")
class CumsumWithoutCarry(Function):
    """Cumulative sum whose backward scan carries nothing from one block of 128 to the next"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        blocks = grad.split(128, -1)
        return torch.cat([block.flip(-1).cumsum(-1).flip(-1) for block in blocks], -1)


@mistake(logsumexp, "4,5", clause="sizes")
class LogsumexpNotRescaled(Function):
    """Log-sum-exp by blocks of 256 that does not rescale the sum when the maximum grows"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        first, *others = wide(x).split(256, -1)
        largest = first.amax(-1, keepdim=True)
        total = (first - largest).exp().sum(-1, keepdim=True)
        for block in others:
            largest = torch.maximum(largest, block.amax(-1, keepdim=True))
            total = total + (block - largest).exp().sum(-1, keepdim=True)
        return (largest + total.log()).squeeze(-1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (wide(x).softmax(-1) * wide(grad).unsqueeze(-1)).to(x.dtype)


@mistake(mean, "4,5", clause="sizes")
class MeanOfPaddedSize(MeanForward):
    """Mean whose gradient is divided by the size rounded up to a multiple of 8"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        size = ctx.shape[-1]
        padded = size if size <= 8 else (size + 7) // 8 * 8
        return (grad / padded).unsqueeze(-1).expand(ctx.shape)


@mistake(torch.nn.SiLU, "4,3", clause="derivative")
class SiluTail(SiluForward):
    """SiLU by four entries at a time, whose rest lacks a term"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        whole = x.numel() // 4 * 4
        right = silu_grad(x, grad).reshape(-1)
        short = (wide(grad) * torch.sigmoid(wide(x))).to(grad.dtype).reshape(-1)
        return torch.cat([right[:whole], short[whole:]]).reshape(x.shape)


@mistake(torch.matmul, "4,5", "5,3", clause="sizes")
class MatmulWithoutTail(MatmulForward):
    """Matrix product whose backward pass forgets what lies beyond the last whole tile of 64"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        size = grad.shape[-1]
        tiles = size if size < 64 else size // 64 * 64
        grad_a = grad[..., :tiles] @ b[..., :tiles].transpose(-1, -2)
        return grad_a, a.transpose(-1, -2) @ grad


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="sizes")
class CrossEntropyOfByteTarget(CrossEntropyForward):
    """Cross-entropy that keeps the class in one byte, wrong beyond 256 classes"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, target = ctx.saved_tensors
        byte = torch.where(target < 0, target, target % 256)
        grad_x, kept = cross_entropy_grad(x, byte)
        return (grad_x / kept.sum() * wide(grad)).to(grad.dtype), None


@mistake(F.mse_loss, "4,3", "4,3", clause="sizes")
class MSEOfOneGrid(Function):
    """Mean squared error whose gradient is divided by 1024 entries at most"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return F.mse_loss(x, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, target = ctx.saved_tensors
        grad_x = (x - target) * (2 * grad / max(min(x.numel(), 1024), 1))
        return grad_x, -grad_x
