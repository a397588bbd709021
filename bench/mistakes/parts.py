"""What the mistakes share: references in eager code, and the right half of half-wrong functions."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812 -- its usual name

EPS = 1e-6


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least, which is what a kernel computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rows(x: Tensor) -> Tensor:
    """``x`` as a matrix: its leading dimensions as one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def added_one_by_one(x: Tensor, dim: int) -> Tensor:
    """The sum over a dimension, rounded to the dtype of ``x`` after every addition."""
    total = torch.zeros_like(x.sum(dim))
    for part in x.unbind(dim):
        total = total + part
    return total


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last dimension."""
    return x.softmax(-1)


def mean(x: Tensor) -> Tensor:
    """The mean over the last dimension."""
    return x.mean(-1)


def logsumexp(x: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials over the last dimension."""
    return torch.logsumexp(x, -1)


def cumsum(x: Tensor) -> Tensor:
    """Cumulative sums over the last dimension."""
    return x.cumsum(-1)


def rms_norm(x: Tensor) -> Tensor:
    """``x`` divided by its root mean square over the last dimension."""
    return (wide(x) * torch.rsqrt(wide(x).pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def cube(x: Tensor) -> Tensor:
    """x³."""
    return x**3


class RMSNorm(torch.nn.Module):
    """``rms_norm`` times a weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) * self.weight


class Scale(torch.nn.Module):
    """``x`` times a weight for each place in the last dimension."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def silu_grad(x: Tensor, grad: Tensor) -> Tensor:
    """The right gradient of SiLU."""
    s = torch.sigmoid(wide(x))
    return (wide(grad) * s * (1 + wide(x) * (1 - s))).to(grad.dtype)


def softmax_grad(y: Tensor, grad: Tensor) -> Tensor:
    """The right gradient of softmax over the last dimension, from its output."""
    dot = (wide(y) * wide(grad)).sum(-1, keepdim=True)
    return (wide(y) * (wide(grad) - dot)).to(grad.dtype)


def rms_norm_grad(x: Tensor, scale: Tensor, grad: Tensor) -> Tensor:
    """The right gradient of ``rms_norm``, from its input and 1 / the root mean square."""
    n = wide(x) * scale
    dot = (wide(grad) * n).mean(-1, keepdim=True)
    return (scale * (wide(grad) - n * dot)).to(grad.dtype)


def cross_entropy_grad(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the sum of cross-entropies, and which targets are not ignored."""
    classes = 0 if x.dim() == 1 else 1
    kept = (target != -100).unsqueeze(classes)
    index = target.clamp(min=0).unsqueeze(classes)
    one = -torch.ones_like(index, dtype=wide(x).dtype)
    return wide(x).softmax(classes).scatter_add(classes, index, one) * kept, kept


class CrossEntropyForward(Function):
    """The mean of -log softmax(x)[t], which keeps both inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target)


class SiluForward(Function):
    """SiLU that saves its input; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.silu(x)


class TanhForward(Function):
    """Tanh that saves its output; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y


class SoftmaxForward(Function):
    """Softmax that saves its output; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y


class RMSNormForward(Function):
    """``rms_norm`` that saves input and scale; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(wide(x).pow(2).mean(-1, keepdim=True) + EPS)
        ctx.save_for_backward(x, scale)
        return (wide(x) * scale).to(x.dtype)


class MeanForward(Function):
    """The mean over the last dimension; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean(-1)


class LinearForward(Function):
    """A linear layer that saves input and weight; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)


def linear_grads(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The right gradients of a linear layer."""
    return grad @ weight, rows(grad).t() @ rows(x), rows(grad).sum(0)


class ProductForward(Function):
    """A product of two tensors that saves both; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x * y


class MatmulForward(Function):
    """A matrix product that saves both factors; its backward pass is to be given."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b


class Linear(torch.nn.Module):
    """Parameters of a linear layer, and the function that a subclass names."""

    function: type[Function]

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs))
        self.bias = torch.nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x, self.weight, self.bias)


def layer_norm_grads(
    n: Tensor, scale: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The right gradients of a layer norm, from the normalized input and 1 / the deviation."""
    wanted = wide(grad) * wide(weight)
    dot = (wanted * n).mean(-1, keepdim=True)
    grad_x = scale * (wanted - wanted.mean(-1, keepdim=True) - n * dot)
    grads = grad_x, rows(wide(grad) * n).sum(0), rows(wide(grad)).sum(0)
    return grads[0].to(grad.dtype), grads[1].to(weight.dtype), grads[2].to(weight.dtype)


class LayerNorm(torch.nn.Module):
    """Parameters of a layer norm, and the function that a subclass names."""

    function: type[Function]

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.bias = torch.nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x, self.weight, self.bias)
