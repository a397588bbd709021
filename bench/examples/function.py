"""A function of tensors with a backward pass of its own, right and wrong.

python bench/verify.py --subject bench/examples/function.py:softmax \\
    --reference torch.nn.functional.softmax --input 4,3 --call 'dim=0'
"""

from typing import Any

import torch
from torch import Tensor


class _Softmax(torch.autograd.Function):
    """exp(x) / sum exp(x) along ``dim``."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dim: int) -> Tensor:
        output = input.softmax(dim)
        ctx.save_for_backward(output)
        ctx.dim = dim
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (output,) = ctx.saved_tensors
        along = (grad_output * output).sum(ctx.dim, keepdim=True)
        return output * (grad_output - along), None


class _Diagonal(_Softmax):
    """The same, but with the diagonal of the Jacobian alone."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (output,) = ctx.saved_tensors
        return grad_output * output * (1 - output), None


def softmax(input: Tensor, dim: int) -> Tensor:
    """Softmax along ``dim``."""
    output: Tensor = _Softmax.apply(input, dim)  # type: ignore[no-untyped-call]
    return output


def wrong_softmax(input: Tensor, dim: int) -> Tensor:
    """The same, with a wrong derivative."""
    output: Tensor = _Diagonal.apply(input, dim)  # type: ignore[no-untyped-call]
    return output
