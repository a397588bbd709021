"""Convolutions by other algorithms than PyTorch's."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant


def with_batch(convolution: Any, input: Tensor) -> Tensor:
    """Convolve, also an input without a batch dimension."""
    if input.dim() == convolution.weight.dim():
        return convolution.convolve(input)
    return convolution.convolve(input[None])[0]


def add_bias(output: Tensor, bias: Tensor | None) -> Tensor:
    """Add a number a channel."""
    return output if bias is None else output + bias.reshape(-1, *[1] * (output.dim() - 2))


def output_sizes(convolution: Any, sizes: Sequence[int]) -> list[int]:
    """The spatial sizes of a convolution's output, by PyTorch's formula."""
    return [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(
            sizes,
            convolution.padding,
            convolution.dilation,
            convolution.kernel_size,
            convolution.stride,
            strict=True,
        )
    ]


@variant(torch.nn.Conv2d, "3,2,7,8", init="2, 5, 3")
class Unfolded(torch.nn.Conv2d):
    """Conv2d as a product of the weight with unfolded patches"""

    def convolve(self, input: Tensor) -> Tensor:
        patches = F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)  # type: ignore[arg-type]
        output = self.weight.flatten(1) @ patches
        return add_bias(
            output.unflatten(-1, output_sizes(self, input.shape[2:])),
            self.bias,
        )

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv2d, "3,2,9,8", init="2, 5, 3, stride=2, padding=1")
class UnfoldedWithStride(Unfolded):
    """Conv2d of unfolded patches, with stride and padding"""


@variant(torch.nn.Conv2d, "3,2,7,8", init="2, 5, 3")
class ShiftedAndAdded(torch.nn.Conv2d):
    """Conv2d as a sum of shifted inputs, each times one entry of the kernel"""

    def convolve(self, input: Tensor) -> Tensor:
        rows, columns = output_sizes(self, input.shape[2:])
        output = input.new_zeros(len(input), self.out_channels, rows, columns)
        for i, j in product(*map(range, self.kernel_size)):
            part = input[:, :, i : i + rows, j : j + columns]
            output = output + torch.einsum("nchw,oc->nohw", part, self.weight[:, :, i, j])
        return add_bias(output, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv1d, "3,2,11", init="2, 5, 3", allow=("empty",))  # there is no such FFT
class Fourier(torch.nn.Conv1d):
    """Conv1d by fast Fourier transforms"""

    def convolve(self, input: Tensor) -> Tensor:
        length = input.shape[-1]
        wide = torch.promote_types(input.dtype, torch.float32)  # there is no transform in half
        spectrum = torch.fft.rfft(input.to(wide), n=length)
        kernel = torch.fft.rfft(self.weight.to(wide), n=length)
        products = torch.einsum("ncf,ocf->nof", spectrum, kernel.conj())
        output = torch.fft.irfft(products, n=length)[..., : output_sizes(self, [length])[0]]
        return add_bias(output.to(input.dtype), self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv2d, "3,2,7,8", init="2, 5, 3")
class Windows(torch.nn.Conv2d):
    """Conv2d as one einsum over sliding windows"""

    def convolve(self, input: Tensor) -> Tensor:
        (rows, columns), (down, right) = self.kernel_size, self.stride
        windows = input.unfold(2, rows, down).unfold(3, columns, right)
        return add_bias(torch.einsum("nchwij,ocij->nohw", windows, self.weight), self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv2d, "3,4,6,5", init="4, 7, 1")
class Pointwise(torch.nn.Conv2d):
    """Conv2d with a kernel of one pixel as a linear layer over channels"""

    def convolve(self, input: Tensor) -> Tensor:
        return F.linear(input.movedim(1, -1), self.weight[:, :, 0, 0], self.bias).movedim(-1, 1)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(
    torch.nn.Conv2d, "3,4,7,6", init="4, kernel_size=3",
    reference_init="4, 4, groups=4, kernel_size=3",
)  # fmt: skip
class Depthwise(torch.nn.Module):
    """Depthwise Conv2d as a sum of shifted products, each channel by itself"""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(channels, 1, kernel_size, kernel_size))
        self.bias = torch.nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        rows, columns = input.shape[-2] - kernel + 1, input.shape[-1] - kernel + 1
        return self.bias[:, None, None] + sum(
            input[..., i : i + rows, j : j + columns] * self.weight[:, :, i, j, None]
            for i, j in product(range(kernel), repeat=2)
        )


@variant(torch.nn.Conv1d, "3,6,9", init="6, 4, 3, groups=2")
class Grouped(torch.nn.Conv1d):
    """Conv1d in groups as one batched product of matrices"""

    def convolve(self, input: Tensor) -> Tensor:
        windows = input.unfold(2, self.kernel_size[0], 1)
        windows = windows.unflatten(1, (self.groups, -1))
        weight = self.weight.unflatten(0, (self.groups, -1))
        return add_bias(torch.einsum("ngclk,gock->ngol", windows, weight).flatten(1, 2), self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv1d, "3,2,9", init="2, 5, 4")
class Toeplitz(torch.nn.Conv1d):
    """Conv1d as a product with a dense banded matrix"""

    def convolve(self, input: Tensor) -> Tensor:
        kernel, length = self.kernel_size[0], input.shape[-1]
        bands = [
            F.pad(self.weight, (place, length - kernel - place))
            for place in range(length - kernel + 1)
        ]
        output = torch.einsum("ncl,tocl->not", input, torch.stack(bands))
        return add_bias(output, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv3d, "2,3,5,6,4", init="3, 4, 2")
class SumOfPlanes(torch.nn.Conv3d):
    """Conv3d as a sum of two-dimensional convolutions of its planes"""

    def convolve(self, input: Tensor) -> Tensor:
        depth = self.kernel_size[0]
        planes = [
            sum(
                F.conv2d(input[:, :, place + k], self.weight[:, :, k])
                for k in range(depth)
            )
            for place in range(input.shape[2] - depth + 1)
        ]  # fmt: skip
        return add_bias(torch.stack(planes, 2), self.bias)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.ConvTranspose2d, "3,4,5,6", init="4, 2, 3, stride=2, padding=1")
class Folded(torch.nn.ConvTranspose2d):
    """ConvTranspose2d as a product folded back into an image"""

    def convolve(self, input: Tensor) -> Tensor:
        columns = self.weight.flatten(1).t() @ input.flatten(2)
        sizes = [
            (size - 1) * stride - 2 * padding + kernel  # type: ignore[operator]
            for size, stride, padding, kernel in zip(
                input.shape[2:], self.stride, self.padding, self.kernel_size, strict=True
            )
        ]
        image = F.fold(columns, sizes, self.kernel_size, 1, self.padding, self.stride)  # type: ignore[arg-type]
        return add_bias(image, self.bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.ConvTranspose1d, "3,4,6", init="4, 2, 3, stride=2")
class SpreadAndFlipped(torch.nn.ConvTranspose1d):
    """ConvTranspose1d as a convolution of the spread input with the flipped kernel"""

    def convolve(self, input: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        spread = torch.stack([input, *[torch.zeros_like(input)] * (stride - 1)], -1).flatten(2)
        spread = spread[..., : spread.shape[-1] - stride + 1]
        weight = self.weight.transpose(0, 1).flip(-1)
        return add_bias(F.conv1d(F.pad(spread, [kernel - 1] * 2), weight), self.bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return with_batch(self, input)


@variant(torch.nn.Conv2d, "3,2,7,8", init="2, 5, 3", kind="Function")
class ConvolvedBackward(torch.autograd.Function):
    """Conv2d whose backward pass convolves with the flipped kernel"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return F.conv2d(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        input, weight = ctx.saved_tensors
        if input.dim() == 3:
            input, grad = input[None], grad[None]
        rows, columns = weight.shape[2] - 1, weight.shape[3] - 1
        padded = F.pad(grad, (columns, columns, rows, rows))
        grad_input = F.conv2d(padded, weight.transpose(0, 1).flip(2, 3))
        grad_weight = F.conv2d(input.transpose(0, 1), grad.transpose(0, 1)).transpose(0, 1)
        if ctx.saved_tensors[0].dim() == 3:
            grad_input = grad_input[0]
        return grad_input, grad_weight, grad.sum((0, 2, 3))


@variant(torch.nn.Conv1d, "3,2,9", init="2, 5, 3")
class Winograd(torch.nn.Conv1d):
    """Conv1d with a kernel of three by Winograd's minimal filtering"""

    def convolve(self, input: Tensor) -> Tensor:
        if self.kernel_size[0] != 3:
            raise ValueError(f"expected a kernel of 3, got {self.kernel_size[0]}")
        length = input.shape[-1] - 2
        d = F.pad(input, (0, length % 2)).unfold(2, 4, 2)
        g = self.weight
        products = [
            (d[..., 0] - d[..., 2], g[..., 0]),
            (d[..., 1] + d[..., 2], (g[..., 0] + g[..., 1] + g[..., 2]) / 2),
            (d[..., 2] - d[..., 1], (g[..., 0] - g[..., 1] + g[..., 2]) / 2),
            (d[..., 1] - d[..., 3], g[..., 2]),
        ]
        m = [torch.einsum("nct,oc->not", signal, kernel) for signal, kernel in products]
        pairs = torch.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], -1)
        return add_bias(pairs.flatten(2)[..., :length], self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return with_batch(self, input)


class _PaddedLeft(torch.nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (self.kernel_size[0] - 1, 0)))


@variant(_PaddedLeft, "3,2,9", init="2, 5, 4")
class CutRight(torch.nn.Conv1d):
    """Causal Conv1d, padded on both sides and cut on the right"""

    def forward(self, input: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        output = F.conv1d(input, self.weight, self.bias, padding=kernel - 1)
        return output[..., : input.shape[-1]]
