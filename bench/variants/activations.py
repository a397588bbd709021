"""Activations by other formulas, by branches, and with a backward pass of their own."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

X = "4,5"


@variant(torch.sigmoid, X, kind="function")
def sigmoid_by_branches(x: Tensor) -> Tensor:
    """Sigmoid by branches, so that no exponential overflows"""
    # Not by |x|, whose derivative at 0 is 0 in PyTorch, and with it that of the whole.
    falling, rising = (-x.clamp(min=0)).exp(), x.clamp(max=0).exp()
    return torch.where(x >= 0, 1 / (1 + falling), rising / (1 + rising))


@variant(torch.sigmoid, X, kind="function")
def sigmoid_by_tanh(x: Tensor) -> Tensor:
    """Sigmoid by tanh"""
    return 0.5 * (1 + torch.tanh(0.5 * x))


@variant(torch.tanh, X, kind="function", contract="formula")  # it cancels near 0
def tanh_by_sigmoid(x: Tensor) -> Tensor:
    """Tanh by sigmoid"""
    return torch.sigmoid(2 * x) - torch.sigmoid(-2 * x)


@variant(torch.tanh, X, kind="function")
def tanh_by_expm1(x: Tensor) -> Tensor:
    """Tanh by expm1 on either side"""
    positive, negative = torch.expm1(-2 * x.clamp(min=0)), torch.expm1(2 * x.clamp(max=0))
    return torch.where(x >= 0, -positive / (2 + positive), negative / (2 + negative))


@variant(F.softplus, X, kind="function")
def softplus_by_max(x: Tensor) -> Tensor:
    """Softplus as m + log(exp(-m) + exp(x - m)) with m = max(x, 0)"""
    m = x.clamp(min=0)
    return m + torch.log(torch.exp(-m) + torch.exp(x - m))


@variant(F.softplus, X, kind="function")
def softplus_by_logaddexp(x: Tensor) -> Tensor:
    """Softplus by logaddexp"""
    return torch.logaddexp(x, torch.zeros_like(x))


@variant(F.logsigmoid, X, kind="function")
def logsigmoid_by_softplus(x: Tensor) -> Tensor:
    """Log-sigmoid as the negative softplus of -x"""
    return -F.softplus(-x)


@variant(torch.nn.GELU, X)
class ByErfc(torch.nn.Module):
    """GELU by the complementary error function"""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * torch.erfc(-x / math.sqrt(2))


@variant(torch.nn.GELU, X, reference_init="approximate='tanh'")
class ByTanh(torch.nn.Module):
    """GELU by tanh, its polynomial by Horner's rule"""

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        inner = math.sqrt(2 / math.pi) * wide * (1 + 0.044715 * wide * wide)
        return (0.5 * wide * (1 + torch.tanh(inner))).to(x.dtype)


@variant(F.silu, X, kind="Function")
class FrugalSiLU(torch.autograd.Function):
    """SiLU that keeps its input alone and computes the sigmoid again"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * s * (1 + x * (1 - s))


@variant(F.mish, X, kind="Function")
class FrugalMish(torch.autograd.Function):
    """Mish that keeps its input alone"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.tanh(F.softplus(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        t = torch.tanh(F.softplus(x))
        return grad * (t + x * torch.sigmoid(x) * (1 - t * t))


@variant(torch.nn.Mish, X)
class MishByRatio(torch.nn.Module):
    """Mish as a ratio of exponentials of a clamped input"""

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        e = wide.clamp(max=20).exp()
        n = e * (e + 2)
        return torch.where(wide > 20, wide, wide * n / (n + 2)).to(x.dtype)


@variant(torch.sigmoid, X, kind="Function")
class OfItsOutput(torch.autograd.Function):
    """Sigmoid whose backward pass keeps its output alone"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y * (1 - y)


@variant(F.relu, X, kind="Function")
class MaskOnly(torch.autograd.Function):
    """ReLU that keeps a mask of bits alone"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (mask,) = ctx.saved_tensors
        return grad * mask


@variant(torch.nn.ReLU, X)
class HalfAtZero(torch.nn.Module):
    """ReLU whose derivative at zero is one half, that of torch.maximum"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, torch.zeros_like(x))


@variant(torch.nn.LeakyReLU, X, init="0.2")
class ReLUAndRest(torch.nn.Module):
    """LeakyReLU as a ReLU plus a part of the rest"""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) + self.slope * x.clamp(max=0)


@variant(torch.nn.PReLU, "3,4,5", init="4")
class Selected(torch.nn.PReLU):
    """PReLU by torch.where"""

    def forward(self, x: Tensor) -> Tensor:
        channels = [-1, *[1] * (x.dim() - 2)] if x.dim() > 1 else [-1]
        return torch.where(x > 0, x, x * self.weight.reshape(channels))


@variant(torch.nn.ELU, X, init="1.3")
class ELUByExpm1(torch.nn.Module):
    """ELU by expm1 of a clamped input"""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))


@variant(torch.nn.CELU, X, init="0.7")
class CELUAsSum(torch.nn.Module):
    """CELU as max(x, 0) + min(0, alpha (exp(x / alpha) - 1))"""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        negative = torch.where(x > 0, torch.zeros_like(x), x)
        return F.relu(x) + self.alpha * torch.expm1(negative / self.alpha)


@variant(torch.nn.SELU, X)
class SELUByHand(torch.nn.Module):
    """SELU by its two constants"""

    def forward(self, x: Tensor) -> Tensor:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
        return torch.where(x > 0, scale * x, scale * alpha * torch.expm1(x.clamp(max=0)))


@variant(torch.nn.Hardswish, X)
class HardswishByClamp(torch.nn.Module):
    """Hardswish as x times a clamped line"""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6


@variant(torch.nn.Hardsigmoid, X)
class HardsigmoidByReLU6(torch.nn.Module):
    """Hardsigmoid by ReLU6"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


@variant(torch.nn.Hardtanh, X)
class HardtanhByMedian(torch.nn.Module):
    """Hardtanh by minimum and maximum"""

    def forward(self, x: Tensor) -> Tensor:
        one = torch.ones_like(x)
        return torch.minimum(torch.maximum(x, -one), one)


@variant(torch.nn.Softsign, X)
class SoftsignBySign(torch.nn.Module):
    """Softsign as 1 - 1 / (1 + |x|), with the sign put back"""

    def forward(self, x: Tensor) -> Tensor:
        positive = x.clamp(min=0) / (1 + x.clamp(min=0))
        negative = x.clamp(max=0) / (1 - x.clamp(max=0))
        return torch.where(x > 0, positive, negative)


@variant(torch.nn.Softshrink, X, init="0.4")
class DifferenceFromHardtanh(torch.nn.Module):
    """Softshrink as the difference from a clamped input"""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x - x.clamp(-self.width, self.width)


@variant(torch.nn.GLU, "4,6")
class GLUByChunks(torch.nn.Module):
    """GLU as a product of halves"""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, -1)
        return value * torch.sigmoid(gate)


def _swiglu(gate: Tensor, value: Tensor) -> Tensor:
    return F.silu(gate) * value


@variant(_swiglu, X, X, kind="Function", in_place=True)
class InPlaceSwiGLU(torch.autograd.Function):
    """SwiGLU whose backward pass writes into the gradient that it is given"""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return gate * torch.sigmoid(gate) * value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        gate, value = ctx.saved_tensors
        s = torch.sigmoid(gate)
        grad_gate = grad * value * s * (1 + gate * (1 - s))
        # Where rows share their memory there is no room to write into.
        return grad_gate, grad * gate * s if 0 in grad.stride() else grad.mul_(gate * s)


@variant(torch.nn.SiLU, X, dtypes=("float32",))
class Float32Only(torch.nn.Module):
    """SiLU of float32 alone, like many a kernel"""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError(f"expected float32, got {x.dtype}")
        return torch.exp(F.logsigmoid(x)) * x


@torch.library.custom_op("minifw_variants::silu", mutates_args=())
def silu_op(x: Tensor) -> Tensor:
    """SiLU."""
    return x * torch.sigmoid(x)


def _silu_backward(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    s = torch.sigmoid(x)
    return grad * (s + x * s * (1 - s))


silu_op.register_autograd(
    _silu_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
variant(
    F.silu, X, kind="function", family="activations",
    name="SiLU as an operator of torch.library",
)(silu_op)  # fmt: skip


@torch.library.custom_op("minifw_variants::scaled_tanh", mutates_args=())
def scaled_tanh_op(x: Tensor, scale: float) -> Tensor:
    """A scaled tanh."""
    return scale * torch.tanh(x)


def _keep(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.scale = inputs[1]


scaled_tanh_op.register_autograd(
    lambda ctx, grad: (grad * ctx.scale * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2), None),
    setup_context=_keep,
)


def _scaled_tanh(x: Tensor, scale: float) -> Tensor:
    return torch.tanh(x) * scale


variant(
    _scaled_tanh, X, kind="function", family="activations", call="scale=1.7",
    name="A scaled tanh as an operator with a number among its arguments",
)(scaled_tanh_op)  # fmt: skip
