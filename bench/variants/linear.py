"""Linear layers, products of matrices, and other orders of summation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

LINEAR = torch.nn.Linear


@variant(LINEAR, "4,5", init="5, 3")
class Einsum(LINEAR):
    """Linear by einsum"""

    def forward(self, input: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", input, self.weight) + self.bias


@variant(LINEAR, "4,5", init="5, 3")
class TransposedWeight(torch.nn.Module):
    """Linear with its weight as (in, out)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(inputs, outputs))
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.weight + self.bias


@variant(LINEAR, "4,5", init="5, 3")
class OtherNames(torch.nn.Module):
    """Linear with parameters of other names, the bias first and as a row"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.b = torch.nn.Parameter(torch.zeros(1, outputs))
        self.w = torch.nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, input: Tensor) -> Tensor:
        output = input @ self.w.t() + self.b
        return output if input.dim() > 1 else output[0]


@variant(LINEAR, "4,5", init="5, 3")
class BroadcastAndSummed(LINEAR):
    """Linear as a broadcast product summed over its last dimension"""

    def forward(self, input: Tensor) -> Tensor:
        return (input[..., None, :] * self.weight).sum(-1) + self.bias


@variant(LINEAR, "4,6", init="6, 3")
class Chunked(LINEAR):
    """Linear in chunks of the features, added up"""

    def forward(self, input: Tensor) -> Tensor:
        output = self.bias
        for x, w in zip(input.split(2, -1), self.weight.split(2, 1), strict=True):
            output = output + x @ w.t()
        return output


@variant(LINEAR, "4,5", init="5, 3")
class InDouble(LINEAR):
    """Linear that computes in double precision"""

    def forward(self, input: Tensor) -> Tensor:
        output = F.linear(input.double(), self.weight.double(), self.bias.double())
        return output.to(input.dtype)


@variant(LINEAR, "4,5", init="5, 3")
class ColumnMajor(LINEAR):
    """Linear whose output is a transposed view"""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 2:
            return F.linear(input, self.weight, self.bias)
        return torch.addmm(self.bias[:, None], self.weight, input.t()).t()


@variant(LINEAR, "4,5", init="5, 3", kind="Function")
class LinearFunction(torch.autograd.Function):
    """Linear as a Function that asks which gradients are needed"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return input @ weight.t() + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        input, weight = ctx.saved_tensors
        rows, samples = grad.reshape(-1, grad.shape[-1]), input.reshape(-1, input.shape[-1])
        return (
            grad @ weight if ctx.needs_input_grad[0] else None,
            rows.t() @ samples if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


@variant(torch.nn.Bilinear, "4,3", "4,5", init="3, 5, 2")
class BilinearByEinsum(torch.nn.Bilinear):
    """Bilinear by one einsum"""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum("...i,oij,...j->...o", left, self.weight, right) + self.bias


@variant(torch.nn.Bilinear, "4,3", "4,5", init="3, 5, 2")
class BilinearByProducts(torch.nn.Bilinear):
    """Bilinear as a linear layer of all products"""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        products = (left[..., :, None] * right[..., None, :]).flatten(-2)
        return F.linear(products, self.weight.flatten(1), self.bias)


@variant(torch.matmul, "4,5", "5,3", kind="function")
def outer_products(a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices as a sum of outer products"""
    return torch.stack([a[:, k, None] * b[None, k] for k in range(a.shape[1])]).sum(0)


@variant(torch.bmm, "2,4,5", "2,5,3", kind="function")
def one_by_one(a: Tensor, b: Tensor) -> Tensor:
    """A batched product, a matrix at a time"""
    return torch.stack([x @ y for x, y in zip(a, b, strict=True)])


def _sum_of_rows(x: Tensor) -> Tensor:
    return x.sum(-1)


@variant(_sum_of_rows, "3,9", kind="function")
def sum_reversed(x: Tensor) -> Tensor:
    """A sum from the last entry to the first"""
    return x.flip(-1).sum(-1)


@variant(_sum_of_rows, "3,9", kind="function")
def sum_pairwise(x: Tensor) -> Tensor:
    """A sum by halves of halves"""
    while x.shape[-1] > 1:
        x = F.pad(x, (0, x.shape[-1] % 2))
        x = x[..., ::2] + x[..., 1::2]
    return x.sum(-1)


@variant(_sum_of_rows, "3,9", kind="function")
def sum_compensated(x: Tensor) -> Tensor:
    """A sum by Kahan's compensation"""
    total = lost = torch.zeros_like(x[..., 0])
    for entry in x.unbind(-1):
        corrected = entry - lost
        bigger = total + corrected
        lost = ((bigger - total) - corrected).detach()
        total = bigger
    return total


@variant(_sum_of_rows, "3,9", kind="function")
def sum_by_ones(x: Tensor) -> Tensor:
    """A sum as a product with ones"""
    return x @ x.new_ones(x.shape[-1])


@variant(_sum_of_rows, "3,9", kind="Function")
class SumInBlocks(torch.autograd.Function):
    """A sum in blocks of four, whose gradient is expanded and not copied"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        padded = F.pad(x, (0, -x.shape[-1] % 4))
        return padded.unflatten(-1, (-1, 4)).sum(-1).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.unsqueeze(-1).expand(ctx.shape)


class _MLP(torch.nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = LINEAR(inputs, hidden)
        self.second = LINEAR(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@variant(_MLP, "4,5", init="5, 6, 3")
class Checkpointed(_MLP):
    """Two layers whose activations are computed again in the backward pass"""

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.utils.checkpoint.checkpoint(self.first, x, use_reentrant=False)
        return self.second(torch.tanh(hidden))
