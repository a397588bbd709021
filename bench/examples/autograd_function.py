"""A torch.autograd.Function, right and wrong.

python bench/verify.py --subject bench/examples/autograd_function.py:Swish \\
    --reference torch.nn.SiLU --input 4,3
"""

from typing import Any

import torch
from torch import Tensor


class Swish(torch.autograd.Function):
    """x s(x), s the logistic function; its derivative is s (1 + x (1 - s))."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        return input * torch.sigmoid(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        s = torch.sigmoid(input)
        return grad_output * s * (1 + input * (1 - s))


class WrongSwish(Swish):
    """The same, with the wrong sign in one term."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        s = torch.sigmoid(input)
        return grad_output * s * (1 - input * (1 - s))


class Linear(torch.autograd.Function):
    """x W^T + b; the reference's parameters come after the inputs, in their order."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return input @ weight.t() + bias

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        input, weight = ctx.saved_tensors
        # Of one sample or of many, in any number of leading dimensions.
        rows, grads = ((t if t.dim() > 1 else t[None]).flatten(0, -2) for t in (input, grad_output))
        return grad_output @ weight, grads.t() @ rows, grads.sum(0)


class WrongLinear(Linear):
    """The same, with the last entry of the weight's gradient wrong by a factor of 1 + 1e-5."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias = Linear.backward(ctx, grad_output)
        grad_weight[-1, -1] *= 1 + 1e-5
        return grad_input, grad_weight, grad_bias
