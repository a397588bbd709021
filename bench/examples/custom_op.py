"""A custom operation of torch.library, right and wrong.

python bench/verify.py --subject bench/examples/custom_op.py:square \\
    --reference torch.square --input 4,3
"""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("minifw_examples::square", mutates_args=())
def square(x: Tensor) -> Tensor:
    """x^2."""
    return x * x


@torch.library.custom_op("minifw_examples::wrong_square", mutates_args=())
def wrong_square(x: Tensor) -> Tensor:
    """The same; its derivative lacks the factor 2."""
    return x * x


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Any:
    (x,) = ctx.saved_tensors
    return 2 * x * grad


def _wrong_backward(ctx: Any, grad: Tensor) -> Any:
    (x,) = ctx.saved_tensors
    return x * grad


square.register_autograd(_backward, setup_context=_save)
wrong_square.register_autograd(_wrong_backward, setup_context=_save)
