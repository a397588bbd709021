"""Digits lost: sums kept in 16 bits, float32 where float64 is given, cancellation, overflow."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    EPS,
    LayerNorm,
    Linear,
    LinearForward,
    MatmulForward,
    SoftmaxForward,
    added_one_by_one,
    layer_norm_grads,
    linear_grads,
    logsumexp,
    mean,
    rms_norm,
    rms_norm_grad,
    rows,
    softmax,
    wide,
)


def _sum(x: Tensor) -> Tensor:
    return x.sum(-1)


@mistake(_sum, "4,5", clause="precision")
class SumInHalf(Function):
    """Sum that is kept in the dtype of its input"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return added_one_by_one(x, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.unsqueeze(-1).expand(ctx.shape)


@mistake(
    torch.nn.GELU,
    "4,3",
    clause="derivative",
    missed="a difference that does not show in float32 is reported, and does not decide",
)
class GeluInFloat32(Function):
    """GELU whose backward pass computes in float32 whatever it is given"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x = ctx.saved_tensors[0].float()
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        slope = 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * density
        return (grad.float() * slope).to(grad.dtype)


class _BiasInHalf(LinearForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, _ = linear_grads(x, weight, grad)
        return grad_x, grad_weight, added_one_by_one(rows(grad), 0)


@mistake(torch.nn.Linear, "4,5", clause="precision", init="5, 3")
class LinearBiasInHalf(Linear):
    """Linear whose bias gradient is summed in the dtype of its input"""

    function = _BiasInHalf


@mistake(
    rms_norm,
    "4,5",
    clause="precision",
    missed="float16 is tried on numbers whose squares it holds",
)
class RMSNormSquaresInHalf(Function):
    """RMSNorm whose squares overflow in float16"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x * x).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, scale)
        return (wide(x) * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, scale = ctx.saved_tensors
        return rms_norm_grad(x, scale, grad)


@mistake(logsumexp, "4,5", clause="precision")
class LogsumexpWithoutMaximum(Function):
    """Log-sum-exp that does not subtract the maximum"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = wide(x).exp().sum(-1).log()
        ctx.save_for_backward(x, y)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return ((wide(x) - y.unsqueeze(-1)).exp() * wide(grad).unsqueeze(-1)).to(x.dtype)


class _LayerNormCancels(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        center = wide(x).mean(-1, keepdim=True)
        variance = wide(x).pow(2).mean(-1, keepdim=True) - center * center
        scale = torch.rsqrt(variance.clamp(min=0) + 1e-5)
        n = (wide(x) - center) * scale
        ctx.save_for_backward(n, scale, weight)
        return (n * wide(weight) + wide(bias)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, scale, weight = ctx.saved_tensors
        return layer_norm_grads(n, scale, weight, grad)


@mistake(torch.nn.LayerNorm, "4,5", clause="precision", init="5")
class LayerNormCancels(LayerNorm):
    """Layer norm whose variance is E[x²] - E[x]², which cancels"""

    function = _LayerNormCancels


@mistake(torch.matmul, "4,5", "5,3", clause="precision")
class MatmulInHalf(MatmulForward):
    """Matrix product whose gradient of the second factor is summed row by row in 16 bits"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        grad_b = a.transpose(-1, -2) @ grad
        if a.dim() == 2 and grad.dtype in (torch.float16, torch.bfloat16):
            grad_b = torch.zeros_like(b)
            for row, grad_row in zip(a, grad, strict=True):
                grad_b = grad_b + torch.outer(row, grad_row)
        return grad @ b.transpose(-1, -2), grad_b


@mistake(torch.expm1, "4,3", clause="precision")
class Expm1Cancels(Function):
    """exp(x) - 1 as it stands, which cancels near 0"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (wide(x).exp() - 1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.exp()


@mistake(
    softmax,
    "4,5",
    clause="precision",
    missed="where rows are long, the bound is larger than the gradients",
)
class SoftmaxInHalf(SoftmaxForward):
    """Softmax whose backward dot product is summed in the dtype of its input"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return y * (grad - added_one_by_one(y * grad, -1).unsqueeze(-1))


@mistake(mean, "4,5", clause="precision", missed="float16 is tried on numbers whose sums it holds")
class MeanOverflows(Function):
    """Mean whose sum overflows in float16 before it is divided"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.sum(-1) / x.shape[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / ctx.shape[-1]).unsqueeze(-1).expand(ctx.shape)


@mistake(rms_norm, "4,5", clause="precision")
class RMSNormWidens(Function):
    """RMSNorm that returns float32 for 16 bits"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).pow(2).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, scale)
        return wide(x) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, scale = ctx.saved_tensors
        return rms_norm_grad(x, scale, grad).to(x.dtype)
