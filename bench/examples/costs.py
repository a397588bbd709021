"""Four layers that are written to be fast or small, and what they cost.

python bench/verify.py bench/examples/costs.py:SmallSwish torch.nn.SiLU --input 64,1024 \\
    --time --sweep 'batch=1,16,256,4096'
python bench/verify.py bench/examples/costs.py:cross_entropy torch.nn.CrossEntropyLoss \\
    --input 64,1000 --input 64:long:1000 --time
python bench/verify.py bench/examples/costs.py:LayerNorm torch.nn.LayerNorm --init 256 \\
    --input 64,256 --time
python bench/verify.py bench/examples/costs.py:Conv2d torch.nn.Conv2d --init '3, 8, 3' \\
    --input 4,3,32,32 --time
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- as everybody writes it
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SmallSwishFunction(torch.autograd.Function):
    """x sigmoid(x), which keeps the input alone and computes the sigmoid again."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        return torch.sigmoid(input).mul_(input)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(input)
        # s (1 + x (1 - s)) g, in one buffer.
        slope = torch.rsub(sigmoid, 1).mul_(input).add_(1).mul_(sigmoid)
        return slope.mul_(grad_output)


class SmallSwish(nn.Module):
    """The activation as a module."""

    def forward(self, input: Tensor) -> Any:
        return SmallSwishFunction.apply(input)


class CrossEntropyFunction(torch.autograd.Function):
    """The mean of -log softmax(x)[t], whose gradient is made in the forward pass, in place."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor) -> Tensor:
        log_probabilities = torch.log_softmax(input, 1)
        loss = -log_probabilities.gather(1, target[:, None]).mean()
        grad = log_probabilities.exp_()
        grad[torch.arange(len(target)), target] -= 1
        ctx.save_for_backward(grad.div_(len(target)))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None


def cross_entropy(input: Tensor, target: Tensor) -> Any:
    """The loss as a function."""
    return CrossEntropyFunction.apply(input, target)


class LayerNormFunction(torch.autograd.Function):
    """Normalization over the last dimension, by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        centered = input - input.mean(-1, keepdim=True)
        scale = (centered.square().mean(-1, keepdim=True) + eps).rsqrt()
        normalized = centered * scale
        ctx.save_for_backward(normalized, scale, weight)
        return normalized * weight + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        normalized, scale, weight = ctx.saved_tensors
        rows = tuple(range(grad_output.dim() - 1))
        grad = grad_output * weight
        along = (grad * normalized).mean(-1, keepdim=True)
        grad_input = scale * (grad - grad.mean(-1, keepdim=True) - normalized * along)
        return grad_input, (grad_output * normalized).sum(rows), grad_output.sum(rows), None


class LayerNorm(nn.Module):
    """The normalization as a module."""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, input: Tensor) -> Any:
        return LayerNormFunction.apply(input, self.weight, self.bias, self.eps)


class Conv2dFunction(torch.autograd.Function):
    """A convolution without padding: patches times weights."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kernel = tuple(weight.shape[2:])
        patches = F.unfold(input, kernel)
        ctx.save_for_backward(patches, weight)
        ctx.sizes = input.shape[2:]
        height, width = (n - k + 1 for n, k in zip(ctx.sizes, kernel, strict=True))
        output = weight.flatten(1) @ patches + bias[:, None]
        return output.view(len(input), len(weight), height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        patches, weight = ctx.saved_tensors
        grad = grad_output.flatten(2)
        grad_input = F.fold(weight.flatten(1).t() @ grad, ctx.sizes, weight.shape[2:])
        grad_weight = (grad @ patches.transpose(1, 2)).sum(0).view(weight.shape)
        return grad_input, grad_weight, grad.sum((0, 2))


class Conv2d(nn.Module):
    """The convolution as a module."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, input: Tensor) -> Any:
        return Conv2dFunction.apply(input, self.weight, self.bias)
