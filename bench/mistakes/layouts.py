"""Memory read in the wrong order: strides, offsets, views and aliases that are ignored."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    Linear,
    ProductForward,
    RMSNormForward,
    Scale,
    SiluForward,
    SoftmaxForward,
    cube,
    rms_norm,
    rms_norm_grad,
    rows,
    silu_grad,
    softmax,
    softmax_grad,
)


def _memory(x: Tensor) -> Tensor:
    """All numbers of the storage of ``x``, in their order."""
    storage = x.untyped_storage()
    count = storage.nbytes() // x.element_size()
    return torch.empty(0, dtype=x.dtype).set_(storage, 0, (count,), (1,))


def _read(x: Tensor, places: Tensor) -> Tensor:
    """What stands at places in the memory of ``x``; never beyond its end."""
    memory = _memory(x.detach())
    return memory[places % len(memory)]


def _in_order(x: Tensor, offset: int | None = None) -> Tensor:
    """What a kernel reads that knows an address and a number of entries, and no strides."""
    start = int(x.storage_offset()) if offset is None else offset
    return _read(x, start + torch.arange(x.numel())).reshape(x.shape) if x.numel() else x


@mistake(torch.nn.SiLU, "4,3", clause="layouts")
class SiluOfRawInput(SiluForward):
    """SiLU whose backward pass reads its input as contiguous"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(_in_order(x), grad)


@mistake(torch.nn.SiLU, "4,3", clause="layouts")
class SiluOfRawCotangent(SiluForward):
    """SiLU whose backward pass reads the cotangent as contiguous"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(x, _in_order(grad))


@mistake(torch.nn.SiLU, "4,3", clause="layouts")
class SiluWithoutOffset(SiluForward):
    """SiLU whose backward pass forgets where in its storage a contiguous cotangent starts"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(x, _in_order(grad, 0) if grad.is_contiguous() else grad)


@mistake(softmax, "4,5", clause="layouts")
class SoftmaxOfRowStride(SoftmaxForward):
    """Softmax that passes the stride of rows to its kernel, and takes that of columns as 1"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if grad.dim() == 2 and grad.numel():
            starts = int(grad.storage_offset()) + grad.stride(0) * torch.arange(len(grad))
            grad = _read(grad, starts.unsqueeze(1) + torch.arange(grad.shape[1]))
        return softmax_grad(y, grad)


@mistake(torch.tanh, "4,3", clause="layouts")
class TanhOfInputStrides(Function):
    """Tanh whose backward pass reads the cotangent by the strides of its input"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        ctx.strides = x.stride()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if grad.numel():
            places = torch.full(grad.shape, int(grad.storage_offset()))
            for dim, (size, stride) in enumerate(zip(grad.shape, ctx.strides, strict=True)):
                along = [1] * grad.dim()
                along[dim] = size
                places = places + (torch.arange(size) * stride).reshape(along)
            grad = _read(grad, places)
        return grad * (1 - y * y)


@mistake(torch.nn.ReLU, "4,3", clause="layouts")
class ReluWrittenInOrder(Function):
    """ReLU that writes into an empty_like, in order, whatever its strides"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        _memory(out).copy_((grad * (x > 0)).reshape(-1))
        return out


@mistake(cube, "4,3", clause="layouts")
class CubeOfOneCotangent(Function):
    """Cube that takes a cotangent whose rows share their memory as a single number"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if grad.dim() and grad.numel() and grad.stride(0) == 0:
            grad = grad.reshape(-1)[0]
        return 3 * x * x * grad


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x @ weight.t() + bias


class _RawWeight(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ _in_order(weight), rows(grad).t() @ rows(x), rows(grad).sum(0)


@mistake(_linear, "4,5", "3,5", "3", clause="layouts")
def linear_of_raw_weight(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear function whose backward pass reads the weight as contiguous"""
    return _RawWeight.apply(x, weight, bias)


@mistake(torch.nn.Linear, "4,5", clause="layouts", init="5, 3")
class LinearOfRawWeight(Linear):
    """Linear whose backward pass reads its weight, which may be a view, as contiguous"""

    function = _RawWeight


@mistake(torch.mul, "4,3", "4,3", clause="layouts")
class ProductWithItself(ProductForward):
    """Product that gives each factor the whole derivative if both are the same tensor"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        if x.numel() and x.data_ptr() == y.data_ptr():
            return 2 * grad * x, 2 * grad * x
        return grad * y, grad * x


@mistake(torch.mul, "4,3", "4,3", clause="layouts")
class ProductOfOneChecked(ProductForward):
    """Product that asks whether one factor is contiguous, and reads both in order"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return grad * (_in_order(y) if x.is_contiguous() else y), grad * x


@mistake(rms_norm, "4,5", clause="layouts")
class RMSNormViews(RMSNormForward):
    """RMSNorm that calls view on the cotangent, which raises if it is not contiguous"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, scale = ctx.saved_tensors
        if grad.shape[-1] == 0:
            return grad
        flat = grad.view(-1, grad.shape[-1])
        return rms_norm_grad(rows(x), rows(scale), flat).reshape(x.shape)


class _ChannelsLast(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight.reshape(-1, 1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        product = grad * x
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            product = _in_order(product.contiguous(memory_format=torch.channels_last))
        return grad * weight.reshape(-1, 1, 1), product.sum((0, 2, 3))


class _ChannelScale(Scale):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError(f"expected a batch of images, got {tuple(x.shape)}")
        return x * self.weight.reshape(-1, 1, 1)


@mistake(_ChannelScale, "2,3,4,5", clause="layouts", init="3")
class ChannelScale(Scale):
    """A scale of channels whose weight gradient is wrong where channels lie last in memory"""

    def forward(self, x: Tensor) -> Tensor:
        return _ChannelsLast.apply(x, self.weight)
