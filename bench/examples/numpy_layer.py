"""A layer in NumPy that makes its parameters when it is first called, right and wrong.

python bench/verify.py --subject bench/examples/numpy_layer.py:Dense --init 3 \\
    --reference torch.nn.Linear --reference-init '5, 3' --input 4,5
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Dense:
    """x W + b, with the parameters and their gradients in two dicts."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}

    def forward(self, inputs: Array) -> Array:
        if not self.params:
            self.params["w"] = np.random.randn(inputs.shape[1], self.units)
            self.params["b"] = np.zeros(self.units)
        self.inputs = inputs
        output: Array = inputs @ self.params["w"] + self.params["b"]
        return output

    def backward(self, grad: Array) -> Array:
        self.grads["w"] = self.inputs.T @ grad
        self.grads["b"] = grad.sum(axis=0)
        grad_input: Array = grad @ self.params["w"].T
        return grad_input


class WrongDense(Dense):
    """The same, but the bias is added and its gradient forgotten."""

    def backward(self, grad: Array) -> Array:
        grad_input = super().backward(grad)
        self.grads["b"] = np.zeros_like(self.params["b"])
        return grad_input
