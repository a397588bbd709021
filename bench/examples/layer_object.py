"""A layer of a framework of one's own, as it is, right and wrong.

Weights lie as (in, out), one input is kept, and param() hands out pairs of value and gradient.

python bench/verify.py --subject bench/examples/layer_object.py:Linear \\
    --reference torch.nn.Linear --init '5, 3' --input 4,5
"""

import torch
from torch import Tensor


class Linear:
    """x W + b."""

    def __init__(self, in_features: int, out_features: int) -> None:
        self.w = torch.empty(in_features, out_features).normal_()
        self.b = torch.zeros(1, out_features)
        self.gw, self.gb = torch.zeros_like(self.w), torch.zeros_like(self.b)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x @ self.w + self.b

    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        self.gw = self.gw + self.x.t() @ gradwrtoutput
        self.gb = self.gb + gradwrtoutput.sum(0, keepdim=True)
        return gradwrtoutput @ self.w.t()

    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w, self.gw), (self.b, self.gb)]


class WrongLinear(Linear):
    """The same, with the mean over the samples where the sum belongs."""

    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        super().backward(gradwrtoutput / len(gradwrtoutput))
        return gradwrtoutput @ self.w.t()
