"""Functions whose references are functions too."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

X = "4,5"


def _of_rows(name: str) -> Any:
    """A function of torch along the last dimension."""

    def function(x: Tensor) -> Any:
        return getattr(torch, name)(x, -1)

    function.__name__ = function.__qualname__ = name
    return function


@variant(F.softmax, X, kind="function", call="dim=-1")
def softmax_by_log(x: Tensor, dim: int) -> Tensor:
    """Softmax as the exponential of x minus its log-sum-exp"""
    return (x - x.logsumexp(dim, keepdim=True)).exp()


@variant(F.softmax, X, kind="function", call="dim=-1", allow=("empty",))
def softmax_shifted(x: Tensor, dim: int) -> Tensor:
    """Softmax shifted by a detached maximum"""
    e = (x - x.amax(dim, keepdim=True).detach()).exp()
    return e / e.sum(dim, keepdim=True)


@variant(_of_rows("softmax"), X, kind="Function")
class SoftmaxOfOutput(torch.autograd.Function):
    """Softmax whose backward pass keeps its output alone"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return y * (grad - (grad * y).sum(-1, keepdim=True))


@variant(_of_rows("softmax"), X, kind="Function", allow=("ranks",))  # 0-d has no Jacobian
class SoftmaxByJacobian(torch.autograd.Function):
    """Softmax whose backward pass multiplies by the whole Jacobian"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        jacobian = torch.diag_embed(y) - y[..., :, None] * y[..., None, :]
        return (jacobian @ grad[..., None])[..., 0]


@variant(F.softmin, X, kind="function", call="dim=-1", allow=("empty",))
def softmin_of_negative(x: Tensor, dim: int) -> Tensor:
    """Softmin by a shifted minimum"""
    e = (x.amin(dim, keepdim=True).detach() - x).exp()
    return e / e.sum(dim, keepdim=True)


@variant(_of_rows("log_softmax"), X, kind="Function")
class LogSoftmax(torch.autograd.Function):
    """Log-softmax whose backward pass subtracts the softmax times the sum"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x - x.logsumexp(-1, keepdim=True)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad - y.exp() * grad.sum(-1, keepdim=True)


@variant(_of_rows("logsumexp"), X, kind="function")
def logsumexp_folded(x: Tensor) -> Tensor:
    """Log-sum-exp, an entry at a time"""
    total = x[..., 0]
    for entry in x.unbind(-1)[1:]:
        total = torch.logaddexp(total, entry)
    return total


@variant(_of_rows("logsumexp"), X, kind="function", allow=("empty",))
def logsumexp_shifted(x: Tensor) -> Tensor:
    """Log-sum-exp by a detached maximum"""
    highest = x.amax(-1, keepdim=True).detach()
    return (x - highest).exp().sum(-1).log() + highest.squeeze(-1)


@variant(_of_rows("cumsum"), X, kind="function")
def cumsum_by_triangle(x: Tensor) -> Tensor:
    """Cumulative sum as a product with a triangle of ones"""
    size = x.shape[-1]
    return x @ torch.ones(size, size, dtype=x.dtype, device=x.device).triu()


@variant(_of_rows("cumsum"), X, kind="Function")
class CumsumInReverse(torch.autograd.Function):
    """Cumulative sum whose backward pass is a sum from the end"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.flip(-1).cumsum(-1).flip(-1)


@variant(_of_rows("cumprod"), X, kind="function")
def cumprod_step_by_step(x: Tensor) -> Tensor:
    """Cumulative product, an entry at a time"""
    products = [x[..., 0]]
    for entry in x.unbind(-1)[1:]:
        products.append(products[-1] * entry)
    return torch.stack(products, -1)


def _product_of_rows(x: Tensor) -> Tensor:
    return x.prod(-1)


@variant(_product_of_rows, X, kind="Function", allow=("ranks",))
class ProductOfOthers(torch.autograd.Function):
    """A product whose gradient is that of the entries before and after"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.prod(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        one = torch.ones_like(x[..., :1])
        before = torch.cat([one, x[..., :-1]], -1).cumprod(-1)
        after = torch.cat([x[..., 1:], one], -1).flip(-1).cumprod(-1).flip(-1)
        return grad[..., None] * before * after


@variant(F.normalize, X, kind="function", call="dim=-1")
def normalize_by_root(x: Tensor, dim: int) -> Tensor:
    """Normalized rows by a clamped root of squares"""
    return x / torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp(min=1e-12)


@variant(F.cosine_similarity, X, X, kind="function", call="dim=-1")
def cosine_by_norms(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Cosine similarity of normalized rows"""
    return (F.normalize(x, dim=dim, eps=1e-8) * F.normalize(y, dim=dim, eps=1e-8)).sum(dim)


@variant(F.pairwise_distance, X, X, kind="function")
def distance_by_hypot(x: Tensor, y: Tensor) -> Tensor:
    """Pairwise distance, an entry at a time"""
    total = torch.zeros_like((x - y)[..., 0])
    for difference in (x - y + 1e-6).unbind(-1):
        total = torch.hypot(total, difference)
    return total


def _variance(x: Tensor) -> Tensor:
    return x.var(-1)


@variant(_variance, X, kind="function")
def variance_of_differences(x: Tensor) -> Tensor:
    """Variance as the mean square of all differences"""
    size = x.shape[-1]
    differences = x[..., :, None] - x[..., None, :]
    return differences.square().sum((-1, -2)) / (2 * size * (size - 1))


def _norms(x: Tensor) -> dict[str, Any]:
    return {"norm": torch.linalg.vector_norm(x, dim=-1), "parts": [x.sum(-1), x.mean(-1)]}


@variant(_norms, X, kind="function")
def dictionary_of_results(x: Tensor) -> dict[str, Any]:
    """Results in a dictionary and a list"""
    total = x @ torch.ones_like(x[0]) if x.dim() == 2 and len(x) else x.sum(-1)
    norm = torch.linalg.vector_norm(x, dim=-1)
    return {"norm": norm, "parts": [total, total / x.shape[-1]]}


def _halves(x: Tensor) -> tuple[Tensor, None, Tensor]:
    return x.relu(), None, (-x).relu()


@variant(_halves, X, kind="function")
def nothing_among_results(x: Tensor) -> tuple[Tensor, None, Tensor]:
    """Results with a None among them"""
    positive = x.clamp(min=0)
    return positive, None, positive - x


@variant(torch.cdist, "4,3", "5,3", kind="function")
def distances_by_broadcast(x: Tensor, y: Tensor) -> Tensor:
    """All distances by a broadcast difference"""
    return torch.linalg.vector_norm(x[..., :, None, :] - y[..., None, :, :], dim=-1)


@variant(torch.outer, "4", "5", kind="function")
def outer_by_einsum(x: Tensor, y: Tensor) -> Tensor:
    """An outer product whose output is transposed in memory"""
    return torch.einsum("i,j->ji", x, y).t()


def _gaussian(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


@variant(_gaussian, X, kind="function")
def gaussian_by_log(x: Tensor) -> Tensor:
    """A Gaussian density by its logarithm"""
    return torch.exp(-0.5 * (x * x + math.log(2 * math.pi)))


def _rotary(x: Tensor, angle: Tensor) -> Tensor:
    a, b = x[..., ::2], x[..., 1::2]
    rotated = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    return torch.stack(rotated, -1).flatten(-2)


@variant(_rotary, "4,6", "4,3", kind="function")
def rotation_by_complex(x: Tensor, angle: Tensor) -> Tensor:
    """Rotary embedding as a product of complex numbers"""
    wide = torch.promote_types(x.dtype, torch.float32)
    pairs = torch.view_as_complex(x.to(wide).unflatten(-1, (-1, 2)).contiguous())
    turn = torch.polar(torch.ones_like(angle.to(wide)), angle.to(wide))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
