"""A layer of a framework of one's own, behind the four methods of an adapter, right and wrong.

python bench/verify.py --subject bench/examples/adapter.py:Linear \\
    --reference torch.nn.Linear --init '5, 3' --input 4,5
"""

import torch
from torch import Tensor


class Linear:
    """x W^T + b. Inputs are kept in a list, so that several forward passes may come first."""

    def __init__(self, in_features: int, out_features: int) -> None:
        self.weight = torch.zeros(out_features, in_features)
        self.bias = torch.zeros(out_features)
        self.grads = {"weight": torch.zeros_like(self.weight), "bias": torch.zeros_like(self.bias)}
        self.inputs: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        self.inputs.append(input)
        return input @ self.weight.t() + self.bias

    def backward(self, grad_output: Tensor) -> Tensor:
        input = self.inputs.pop()
        self.grads["weight"] = self.grads["weight"] + grad_output.t() @ input
        self.grads["bias"] = self.grads["bias"] + grad_output.sum(0)
        return grad_output @ self.weight

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    def gradients(self) -> dict[str, Tensor]:
        return self.grads


class WrongLinear(Linear):
    """The same, but divided by the batch size, which a loss has done already."""

    def backward(self, grad_output: Tensor) -> Tensor:
        return super().backward(grad_output / len(grad_output))
