"""Inputs of one's own, which a function makes: right and wrong.

python bench/verify.py --subject bench/examples/inputs.py:Lookup \\
    --reference bench/examples/inputs.py:lookup --input bench/examples/inputs.py:make_inputs
"""

from typing import Any

import torch
from torch import Generator, Tensor


def make_inputs(generator: Generator) -> tuple[Tensor, Tensor]:
    """A table, and the rows to look up, of which one is asked for twice."""
    return torch.randn(6, 3, generator=generator), torch.tensor([4, 0, 4, 1])


def lookup(table: Tensor, rows: Tensor) -> Tensor:
    """The rows of the table."""
    return table[rows]


class Lookup(torch.autograd.Function):
    """The same with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows)
        return lookup(table, rows)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        table, rows = ctx.saved_tensors
        return torch.zeros_like(table).index_add(0, rows, grad_output), None


class WrongLookup(Lookup):
    """The same, but a row that is asked for twice gets one of its gradients alone."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        table, rows = ctx.saved_tensors
        return torch.zeros_like(table).index_copy(0, rows, grad_output), None
