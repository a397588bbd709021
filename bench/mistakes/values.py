"""Wrong at certain values: kinks, edges of the domain, zeros, ignored and repeated indices."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    CrossEntropyForward,
    LayerNorm,
    cross_entropy_grad,
    layer_norm_grads,
    rows,
    wide,
)


@mistake(torch.nn.Hardswish, "4,3", clause="kinks")
class HardswishGap(Function):
    """Hardswish with derivative 0 at 3, which lies in none of its branches"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.hardswish(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.where((x > -3) & (x < 3), x / 3 + 0.5, (x > 3).to(x.dtype))


@mistake(F.huber_loss, "4,3", "4,3", clause="kinks")
class HuberGap(Function):
    """Huber loss with derivative 0 where a difference equals delta"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return F.huber_loss(x, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, target = ctx.saved_tensors
        d = x - target
        slope = torch.where(d.abs() < 1, d, torch.where(d.abs() > 1, d.sign(), 0))
        grad_x = slope * grad / max(d.numel(), 1)
        return grad_x, -grad_x


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="domain-edges")
class CrossEntropyOfIgnored(CrossEntropyForward):
    """Cross-entropy whose gradient is divided by all targets, the ignored ones too"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, target = ctx.saved_tensors
        grad_x, _ = cross_entropy_grad(x, target)
        return (grad_x * (wide(grad) / max(target.numel(), 1))).to(x.dtype), None


@mistake(
    F.binary_cross_entropy,
    "4,3:probability",
    "4,3:binary:constant",
    clause="domain-edges",
    missed="beside a jump, any value between both sides is right",
)
class BinaryCrossEntropyClamped(Function):
    """Binary cross-entropy that clamps probabilities at 1e-12, not the logarithm at -100"""

    @staticmethod
    def forward(ctx: Any, p: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(p, target)
        one, zero = p.clamp(min=1e-12).log(), (1 - p).clamp(min=1e-12).log()
        return -(target * one + (1 - target) * zero).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        p, target = ctx.saved_tensors
        slope = (p - target) / (p * (1 - p)).clamp(min=1e-12)
        return slope * grad / max(p.numel(), 1), None


class _LastIndexWins(Function):
    @staticmethod
    def forward(ctx: Any, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (index,) = ctx.saved_tensors
        grad_weight = grad.new_zeros(ctx.shape)
        grad_weight[index.reshape(-1)] = rows(grad)
        return None, grad_weight


@mistake(torch.nn.Embedding, "6:long:10", clause="derivative", init="10, 3")
class EmbeddingOfLastIndex(torch.nn.Module):
    """Embedding in which the last of several equal indices wins"""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(count, size))

    def forward(self, index: Tensor) -> Tensor:
        return _LastIndexWins.apply(index, self.weight)


class _PReluFromOutput(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        y = torch.where(x > 0, x, weight * x)
        ctx.save_for_backward(y, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        y, weight = ctx.saved_tensors
        grad_weight = torch.where(y > 0, 0, grad * y / weight).sum().reshape(1)
        return torch.where(y > 0, grad, grad * weight), grad_weight


@mistake(torch.nn.PReLU, "4,3", clause="derivative")
class PReluFromOutput(torch.nn.Module):
    """PReLU that gets its input back from its output, wrong for weights below 0, NaN at 0"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return _PReluFromOutput.apply(x, self.weight)


class _LayerNormFromOutput(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).var(-1, unbiased=False, keepdim=True) + 1e-5)
        n = (wide(x) - wide(x).mean(-1, keepdim=True)) * scale
        y = n * wide(weight) + wide(bias)
        ctx.save_for_backward(y, scale, weight, bias)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, scale, weight, bias = ctx.saved_tensors
        return layer_norm_grads((y - wide(bias)) / wide(weight), scale, weight, grad)


@mistake(torch.nn.LayerNorm, "4,5", clause="domain-edges", init="5")
class LayerNormFromOutput(LayerNorm):
    """Layer norm that divides its output by the weight, NaN if that is 0"""

    function = _LayerNormFromOutput


def _largest(x: Tensor) -> Tensor:
    return x.amax(-1)


@mistake(_largest, "4,5", clause="kinks")
class MaximumOfTies(Function):
    """Maximum whose equal entries get the whole gradient each"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.amax(-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return (x == y.unsqueeze(-1)) * grad.unsqueeze(-1)


@mistake(torch.nn.Softplus, "4,3", clause="precision")
class SoftplusOverflows(Function):
    """Softplus whose derivative is inf / inf for large inputs"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        e = wide(x).exp()
        return (wide(grad) * e / (1 + e)).to(grad.dtype)


def _product(x: Tensor) -> Tensor:
    return x.prod(-1)


@mistake(_product, "4,5", clause="kinks")
class ProductDivided(Function):
    """Product of a row whose gradient divides by the entry, NaN at 0"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.prod(-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return (grad * y).unsqueeze(-1) / x


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


@mistake(
    _norm,
    "4,5",
    clause="kinks",
    missed="a whole row of zeros is hardly ever drawn",
)
class NormOfZeros(Function):
    """Norm of a row whose gradient is 0 / 0 for a row of zeros"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.linalg.vector_norm(x, dim=-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return (grad / y).unsqueeze(-1) * x


@mistake(F.kl_div, "4,3", "4,3:probability:constant", clause="domain-edges")
class DivergenceOfZero(Function):
    """Kullback-Leibler divergence that is 0 log 0 for a target of 0"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(target)
        return (target * (target.log() - x)).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (target,) = ctx.saved_tensors
        return -target * grad / max(target.numel(), 1), None


@mistake(torch.nn.CELU, "4,3", clause="kinks", init="2.0")
class CeluGap(Function):
    """CELU with derivative 0 at 0, which lies in none of its branches"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.celu(x, 2.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.where(x < 0, (x / 2).exp(), (x > 0).to(x.dtype))
