"""Embeddings, pooling, and what else moves entries about."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant


@variant(torch.nn.Embedding, "4,3:long:7", init="7, 5")
class OneHot(torch.nn.Embedding):
    """Embedding as a product with one-hot rows"""

    def forward(self, input: Tensor) -> Tensor:
        return F.one_hot(input, self.num_embeddings).to(self.weight.dtype) @ self.weight


@variant(torch.nn.Embedding, "4,3:long:7", init="7, 5")
class IndexSelect(torch.nn.Embedding):
    """Embedding by index_select"""

    def forward(self, input: Tensor) -> Tensor:
        return self.weight.index_select(0, input.reshape(-1)).reshape(*input.shape, -1)


@variant(torch.nn.Embedding, "4,3:long:7", init="7, 5", kind="Function")
class IndexAdd(torch.autograd.Function):
    """Embedding whose backward pass is index_add"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        ctx.rows = len(weight)
        return weight[input]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        rows = grad.new_zeros(ctx.rows, grad.shape[-1])
        return None, rows.index_add(0, input.reshape(-1), grad.reshape(-1, grad.shape[-1]))


@variant(torch.nn.Embedding, "4,3:long:7", init="7, 5", kind="Function")
class ScatterAdd(torch.autograd.Function):
    """Embedding whose backward pass is scatter_add"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        ctx.rows = len(weight)
        return torch.nn.functional.embedding(input, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        places = input.reshape(-1, 1).expand(rows.shape)
        return None, grad.new_zeros(ctx.rows, grad.shape[-1]).scatter_add(0, places, rows)


@variant(torch.nn.EmbeddingBag, "4,3:long:7", init="7, 5, mode='sum'")
class BagOfRows(torch.nn.EmbeddingBag):
    """EmbeddingBag as a sum of looked-up rows"""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return self.weight[input].sum(-2)


@variant(torch.nn.MaxPool2d, "3,2,6,8", init="2")
class MaxOfWindows(torch.nn.MaxPool2d):
    """MaxPool2d as the maximum of sliding windows"""

    def forward(self, input: Tensor) -> Tensor:
        size = int(self.kernel_size)  # type: ignore[arg-type]
        windows = input.unfold(-2, size, size).unfold(-2, size, size)
        return windows.flatten(-2).max(-1).values


@variant(torch.nn.MaxPool1d, "3,2,9", init="3", kind="Function")
class MaxByIndex(torch.autograd.Function):
    """MaxPool1d that keeps the places of the maxima and adds gradients there"""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        windows = input.unfold(-1, 3, 3)
        best, place = windows.max(-1)
        ctx.save_for_backward(place + 3 * torch.arange(place.shape[-1], device=input.device))
        ctx.length = input.shape[-1]
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (place,) = ctx.saved_tensors
        return grad.new_zeros(*grad.shape[:-1], ctx.length).scatter_add(-1, place, grad)


@variant(torch.nn.AvgPool2d, "3,2,6,8", init="2")
class AverageByConvolution(torch.nn.AvgPool2d):
    """AvgPool2d as a depthwise convolution with equal weights"""

    def forward(self, input: Tensor) -> Tensor:
        size, channels = int(self.kernel_size), input.shape[-3]  # type: ignore[arg-type]
        kernel = input.new_full((channels, 1, size, size), 1 / size**2)
        return F.conv2d(input, kernel, stride=size, groups=channels)


@variant(torch.nn.AvgPool2d, "3,2,6,8", init="2")
class AverageByReshape(torch.nn.AvgPool2d):
    """AvgPool2d as a mean over blocks of a reshaped image"""

    def forward(self, input: Tensor) -> Tensor:
        size = int(self.kernel_size)  # type: ignore[arg-type]
        rows, columns = input.shape[-2] // size, input.shape[-1] // size
        cut = input[..., : rows * size, : columns * size]
        return cut.reshape(*input.shape[:-2], rows, size, columns, size).mean((-3, -1))


@variant(torch.nn.AdaptiveAvgPool2d, "3,2,6,8", init="1")
class GlobalAverage(torch.nn.Module):
    """AdaptiveAvgPool2d to one pixel as a mean"""

    def __init__(self, size: int) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input.mean((-2, -1), keepdim=True)


@variant(torch.nn.Upsample, "3,2,4,5", init="scale_factor=2")
class Repeated(torch.nn.Module):
    """Nearest-neighbor Upsample by repeated rows and columns"""

    def __init__(self, scale_factor: int) -> None:
        super().__init__()
        self.scale = scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return input.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


@variant(torch.nn.PixelShuffle, "3,8,4,5", init="2")
class Permuted(torch.nn.PixelShuffle):
    """PixelShuffle by a permutation of dimensions"""

    def forward(self, input: Tensor) -> Tensor:
        factor = self.upscale_factor
        *batch, channels, rows, columns = input.shape
        blocks = input.reshape(-1, channels // factor**2, factor, factor, rows, columns)
        image = blocks.permute(0, 1, 4, 2, 5, 3)
        return image.reshape(*batch, channels // factor**2, rows * factor, columns * factor)


@variant(torch.nn.Flatten, "3,2,4")
class ReshapedFlatten(torch.nn.Module):
    """Flatten that always copies"""

    def forward(self, input: Tensor) -> Tensor:
        return input.reshape(len(input), input[0].numel() if len(input) else 8).clone()
