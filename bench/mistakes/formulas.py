"""Formulas as students get them wrong, mostly in NumPy: a missing term, factor or mean."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake

Array = NDArray[Any]


@mistake(torch.nn.Softmax, "4,5", clause="derivative", contract="formula", reference_init="dim=-1")
class SoftmaxDiagonal:
    """Softmax whose backward pass multiplies by the diagonal of the Jacobian alone"""

    def forward(self, x: Array) -> Array:
        e = np.exp(x - x.max(-1, keepdims=True))
        self.y: Array = e / e.sum(-1, keepdims=True)
        return self.y

    def backward(self, grad: Array) -> Array:
        return grad * self.y * (1 - self.y)


@mistake(torch.nn.MSELoss, "4,3", "4,3", clause="derivative", contract="formula")
class MSEOfBatch:
    """Mean squared error whose gradient is divided by the batch alone"""

    def forward(self, x: Array, target: Array) -> Array:
        self.d = x - target
        return (self.d**2).mean()

    def backward(self) -> Array:
        return 2 * self.d / len(self.d)


@mistake(torch.nn.Linear, "4,5", clause="derivative", contract="formula", init="5, 3")
class LinearBiasMean:
    """Linear in NumPy whose bias gradient is a mean over the batch"""

    def __init__(self, inputs: int, outputs: int) -> None:
        generator = np.random.default_rng(0)
        self.W = generator.normal(size=(outputs, inputs))
        self.b = generator.normal(size=outputs)

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.W.T + self.b

    def backward(self, grad: Array) -> Array:
        self.dW, self.db = grad.T @ self.x, grad.mean(0)
        return grad @ self.W


@mistake(torch.nn.BatchNorm1d, "6,3", clause="derivative", contract="formula", init="3")
class BatchNormWithoutMean:
    """Batch norm in NumPy whose input gradient lacks the term of the mean"""

    def __init__(self, size: int) -> None:
        self.gamma, self.beta = np.ones(size), np.zeros(size)

    def forward(self, x: Array) -> Array:
        self.deviation = np.sqrt(x.var(0) + 1e-5)
        self.n = (x - x.mean(0)) / self.deviation
        return self.gamma * self.n + self.beta

    def backward(self, grad: Array) -> Array:
        self.dgamma, self.dbeta = (grad * self.n).sum(0), grad.sum(0)
        wanted = grad * self.gamma
        return (wanted - self.n * (wanted * self.n).mean(0)) / self.deviation


@mistake(torch.nn.Tanh, "4,3", clause="derivative", contract="formula")
class TanhOfInput:
    """Tanh whose derivative is 1 - x², of the input, not of the output"""

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.tanh(x)

    def backward(self, grad: Array) -> Array:
        return grad * (1 - self.x**2)


def conv_backward(grad: Array, cache: Any) -> Any:
    """Gradients of a convolution, that of the input by the kernel backwards."""
    x, w = cache
    grad_x, grad_w, size = np.zeros_like(x), np.zeros_like(w), grad.shape[2]
    for k in range(w.shape[2]):
        grad_x[:, :, k : k + size] += np.einsum("nol,oc->ncl", grad, w[:, :, -1 - k])
        grad_w[:, :, k] = np.einsum("nol,ncl->oc", grad, x[:, :, k : k + size])
    return grad_x, grad_w, grad.sum((0, 2))


@mistake(
    torch.nn.Conv1d, "2,3,7", clause="derivative", contract="formula", reference_init="3, 4, 3",
    backward=conv_backward,
)  # fmt: skip
def conv_forward(x: Array, w: Array, b: Array) -> Any:
    """Convolution in NumPy whose input gradient reads the kernel backwards"""
    size = x.shape[2] - w.shape[2] + 1
    parts = [np.einsum("ncl,oc->nol", x[:, :, k : k + size], w[:, :, k]) for k in range(w.shape[2])]
    return np.sum(parts, axis=0) + b[:, None], (x, w)


def layer_norm_backward(grad: Array, cache: Any) -> Any:
    """Gradients of a layer norm, without the weight in one term."""
    n, scale, w = cache
    wanted, dot = grad * w, (grad * n).mean(-1, keepdims=True)
    grad_x = scale * (wanted - wanted.mean(-1, keepdims=True) - n * dot)
    return grad_x, (grad * n).sum(0), grad.sum(0)


@mistake(
    torch.nn.LayerNorm, "4,5", clause="derivative", contract="formula", reference_init="5",
    backward=layer_norm_backward,
)  # fmt: skip
def layer_norm_forward(x: Array, w: Array, b: Array) -> Any:
    """Layer norm in NumPy that forgets its weight in one term, which weights of 1 do not show"""
    scale = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    n = (x - x.mean(-1, keepdims=True)) * scale
    return n * w + b, (n, scale, w)


def leaky_relu_prime(x: Array) -> Array:
    """The derivative of a leaky ReLU of another slope."""
    return np.where(x > 0, 1.0, 0.1)


@mistake(
    torch.nn.LeakyReLU, "4,3", clause="derivative", contract="formula", backward=leaky_relu_prime
)
def leaky_relu(x: Array) -> Array:
    """Leaky ReLU of slope 0.01 whose derivative is 0.1"""
    return np.where(x > 0, x, 0.01 * x)


@mistake(torch.nn.CrossEntropyLoss, "4,10", "4:long:10", clause="derivative", contract="formula")
class CrossEntropyOfTotal:
    """Cross-entropy that is a mean, and whose gradient is that of a sum"""

    def forward(self, x: Array, target: Array) -> Array:
        e = np.exp(x - x.max(1, keepdims=True))
        self.p, self.target = e / e.sum(1, keepdims=True), target
        return -np.log(self.p[np.arange(len(target)), target]).mean()

    def backward(self) -> Array:
        grad = self.p.copy()
        grad[np.arange(len(grad)), self.target] -= 1
        return grad


@mistake(torch.nn.BCEWithLogitsLoss, "4,3", "4,3:binary", clause="derivative", contract="formula")
class LogitsDerivedTwice:
    """Binary cross-entropy of logits with the sigmoid's derivative once too often"""

    def forward(self, x: Array, target: Array) -> Array:
        self.x, self.target = x, target
        return (np.maximum(x, 0) - x * target + np.log1p(np.exp(-abs(x)))).mean()

    def backward(self) -> Array:
        s = 1 / (1 + np.exp(-self.x))
        return (s - self.target) * s * (1 - s) / self.x.size


class _Dropped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = (torch.rand_like(x) >= p).to(x.dtype)
        ctx.save_for_backward(mask)
        return x * mask / (1 - p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grad * mask, None


@mistake(torch.nn.Dropout, "4,3", clause="derivative")
class DropoutUnscaled(torch.nn.Module):
    """Dropout whose gradient is masked, and not scaled by 1 / (1 - p)"""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return _Dropped.apply(x, self.p) if self.training else x


@mistake(torch.nn.GELU, "4,3", clause="derivative")
class GeluOfTwoForms(Function):
    """GELU by the error function whose derivative is that of the form by tanh"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = F.gelu(x, approximate="tanh")
        return torch.autograd.grad(y, x, grad)[0]
