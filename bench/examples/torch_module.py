"""A torch.nn.Module around a backward pass of its own, right and wrong.

python bench/verify.py --subject bench/examples/torch_module.py:RMSNorm \\
    --reference torch.nn.RMSNorm --init '5, eps=1e-3' --input 4,5
"""

from typing import Any

import torch
from torch import Tensor


def _parts(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / r and 1 / r."""
    # A square of float16 overflows from 256 on: at least float32 inside, as in PyTorch.
    wide = input.to(torch.promote_types(input.dtype, torch.float32))
    inverse = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return wide * inverse, inverse


class _Normalize(torch.autograd.Function):
    """x / r, r = sqrt(mean(x^2) + eps) over the last dimension."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(input)
        ctx.eps = eps
        return _parts(input, eps)[0].to(input.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        # From the input, and not from what forward made of it without autograd: so that the
        # gradient has a derivative too.
        output, inverse = _parts(ctx.saved_tensors[0], ctx.eps)
        along = (grad_output * output).mean(-1, keepdim=True)
        return (inverse * (grad_output - output * along)).to(grad_output.dtype), None


class _NormalizeByAConstant(_Normalize):
    """The same, but r is taken for a number that does not depend on the input."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        _, inverse = _parts(ctx.saved_tensors[0], ctx.eps)
        return (inverse * grad_output).to(grad_output.dtype), None


class RMSNorm(torch.nn.Module):
    """Division by the root of the mean square, and a weight."""

    normalize: Any = _Normalize

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:
        normalized: Tensor = self.normalize.apply(input, self.eps)
        return normalized * self.weight


class WrongRMSNorm(RMSNorm):
    """The same, but the backward pass forgets that the root depends on the input."""

    normalize = _NormalizeByAConstant
