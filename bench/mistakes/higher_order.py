"""First derivatives that are right, and a second one that is silently wrong."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import EPS, SiluForward, SoftmaxForward, cube, rms_norm, softmax, wide


@mistake(torch.tanh, "4,3", clause="higher-order")
class TanhDetached(Function):
    """Tanh that keeps its output without its graph"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (1 - ctx.y * ctx.y)


@mistake(cube, "4,3", clause="higher-order")
class CubeDetached(Function):
    """Cube that keeps its input without its graph"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x.detach()
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * ctx.x * ctx.x * grad


@mistake(torch.nn.SiLU, "4,3", clause="higher-order")
class SiluOfSavedSigmoid(Function):
    """SiLU that saves its sigmoid, which is neither input nor output"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = x.sigmoid()
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, s = ctx.saved_tensors
        return grad * (s + x * s * (1 - s))


@mistake(rms_norm, "4,5", clause="higher-order")
class RMSNormOfSavedScale(Function):
    """RMSNorm that saves 1 / the root mean square, which is neither input nor output"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).pow(2).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, scale)
        return (wide(x) * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, scale = ctx.saved_tensors
        n = wide(x) * scale
        dot = (wide(grad) * n).mean(-1, keepdim=True)
        return (scale * (wide(grad) - n * dot)).to(x.dtype)


@mistake(torch.mul, "4,3", "4,3", clause="higher-order")
class ProductHalfDetached(Function):
    """Product that keeps one of its factors without its graph"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        ctx.x = x.detach()
        return x * y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        return grad * y, grad * ctx.x


def _x_sin_x(x: Tensor) -> Tensor:
    return x * x.sin()


@mistake(_x_sin_x, "4,3", clause="higher-order")
class CosineWithoutGrad(Function):
    """x sin x with a part of its derivative under no_grad"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            cosine = x.cos()
        return grad * (x.sin() + x * cosine)


class _CosineOfWrongSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.cos()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.sin()


@mistake(torch.sin, "4,3", clause="higher-order")
class SineOfNested(Function):
    """Sine whose derivative is a function of its own, and its derivative of the wrong sign"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * _CosineOfWrongSign.apply(x)


@mistake(torch.nn.SiLU, "4,3", clause="higher-order")
class SiluOfDetachedCotangent(SiluForward):
    """SiLU that detaches the cotangent"""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return grad.detach() * (s * (1 + x * (1 - s)))


@mistake(torch.nn.SiLU, "4,3", clause="higher-order")
def silu_surrogate(x: Tensor) -> Tensor:
    """SiLU as a value and a slope, both detached, whose second derivative is 0"""
    s = torch.sigmoid(x)
    slope = (s * (1 + x * (1 - s))).detach()
    return F.silu(x).detach() + slope * (x - x.detach())


@mistake(softmax, "4,5", clause="higher-order")
class SoftmaxOfDetachedOutput(SoftmaxForward):
    """Softmax that detaches its saved output in the backward pass"""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y = ctx.saved_tensors[0].detach()
        return y * (grad - (grad * y).sum(-1, keepdim=True))
