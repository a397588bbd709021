"""Cotangents that are clipped, scaled, dropped, taken as 1 or spoiled: wrong for some gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import TanhForward, cross_entropy_grad, wide


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhClamped(TanhForward):
    """Tanh that clamps the cotangent to ±100"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad.clamp(-100, 100) * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhNormalized(TanhForward):
    """Tanh that divides by the largest cotangent, NaN if all are 0"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        largest = grad.abs().amax() if grad.numel() else 1
        return grad / largest * (1 - y * y) * largest


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhPlusEps(TanhForward):
    """Tanh that adds 1e-7 to the cotangent"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return (grad + 1e-7) * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhFlushed(TanhForward):
    """Tanh that takes cotangents below 1e-5 as 0"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.where(grad.abs() < 1e-5, 0, grad) * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhOfFirst(TanhForward):
    """Tanh that returns 0 if the first cotangent is 0"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if grad.numel() and grad.reshape(-1)[0] == 0:
            return torch.zeros_like(grad)
        return grad * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhClipped(TanhForward):
    """Tanh that clips the norm of the cotangent at 1e4"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        norm = grad.norm()
        return torch.where(norm > 1e4, grad * 1e4 / norm, grad) * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhByRatio(TanhForward):
    """Tanh that squares the cotangent and divides by it, NaN at 0"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * grad / grad * (1 - y * y)


@mistake(torch.tanh, "4,3", clause="cotangents")
class TanhLargeInHalf(TanhForward):
    """Tanh that rounds cotangents to float16 if one is larger than 1000"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        rounded = grad.half().to(grad.dtype) if (grad.abs() > 1000).any() else grad
        return rounded * (1 - y * y)


def _sin_and_exp(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sin(), x.exp()


class _SinAndExpForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.exp()


@mistake(_sin_and_exp, "4,3", clause="cotangents")
class AllOrNone(_SinAndExpForward):
    """Sine and exponential that give no gradient if one of both is not used"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sin: Tensor | None, grad_exp: Tensor | None) -> Tensor | None:
        (x,) = ctx.saved_tensors
        if grad_sin is None or grad_exp is None:
            return None
        return grad_sin * x.cos() + grad_exp * x.exp()


@mistake(_sin_and_exp, "4,3", clause="cotangents")
class NoneMultiplied(_SinAndExpForward):
    """Sine and exponential that raise an error if one of both is not used"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sin: Tensor, grad_exp: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_sin * x.cos() + grad_exp * x.exp()


@mistake(_sin_and_exp, "4,3", clause="cotangents")
class SecondDropped(Function):
    """Sine and exponential that return 0 if the sine's cotangent is 0"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return x.sin(), x.exp()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sin: Tensor, grad_exp: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if not grad_sin.any():
            return torch.zeros_like(x)
        return grad_sin * x.cos() + grad_exp * x.exp()


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="derivative")
class CrossEntropyOfOne(Function):
    """Cross-entropy whose cotangent is taken as 1"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        grad, kept = cross_entropy_grad(x, target)
        ctx.save_for_backward((grad / kept.sum()).to(x.dtype))
        return F.cross_entropy(x, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grad_x,) = ctx.saved_tensors
        return grad_x, None


@mistake(F.cross_entropy, "4,10", "4:long:10", clause="call-order")
class CrossEntropyInPlace(Function):
    """Cross-entropy whose backward pass scales what it has kept, wrong if the graph is retained"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        grad, kept = cross_entropy_grad(x, target)
        ctx.grad, ctx.dtype = grad / kept.sum(), x.dtype
        return F.cross_entropy(x, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.grad.mul_(grad)
        return ctx.grad.to(ctx.dtype, copy=True), None


def _standardized(x: Tensor) -> Tensor:
    if x.dim() < 2:
        raise ValueError(f"expected a batch, got {tuple(x.shape)}")
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


@mistake(_standardized, "6,3", clause="cotangents")
class StandardizedByActive(Function):
    """Batch standardization whose means count only rows with a cotangent"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).var(0, unbiased=False) + 1e-5)
        n = (wide(x) - wide(x).mean(0)) * scale
        ctx.save_for_backward(n, scale)
        return n.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        n, scale = ctx.saved_tensors
        active = (grad.flatten(1) != 0).any(1).sum().clamp(min=1)
        centered = wide(grad) - wide(grad).sum(0) / active
        return (scale * (centered - n * (wide(grad) * n).sum(0) / active)).to(grad.dtype)
