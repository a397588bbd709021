"""Dropout: random zeros in training, nothing in evaluation."""

import torch
from torch import Generator, Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback, constant, refuse_inplace

__all__ = ["Dropout", "dropout"]


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> tuple[Tensor, Pullback]:
    """Zero each entry with probability p and divide the others by 1 - p.

    output = input * mask, with mask = Bernoulli(1 - p) / (1 - p), so that the expectation is the
    input; grad_input = grad_output * mask. The same generator gives torch's mask, bit for bit.

    Raises:
        ValueError: p is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input, lambda grad_output: grad_output
    if p == 1:
        mask = torch.zeros_like(input)
    else:
        mask = torch.empty_like(input).bernoulli_(1 - p, generator=generator)
        mask.div_(constant(1 - p, input.dtype, input.device))
    return input * mask, lambda grad_output: grad_output * mask


class Dropout(Module, capturable=True):
    """In training, zero each entry with probability p and divide the others by 1 - p.

    Args:
        p: probability of an entry to be zeroed. Default: 0.5.
        inplace: refused when True. Default: False.
        generator: source of the masks. Default: torch's global generator.

    Shape: input and output (\\*), any shape.

    Raises:
        ValueError: p is not in [0, 1].

    Source: report 000; :class:`torch.nn.Dropout`.
    """

    _shown = ("p",)

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        refuse_inplace(inplace)
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.generator = generator

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return dropout(input, self.p, self.training, self.generator)
