"""A layer whose backward pass takes the learning rate and updates the weights, right and wrong.

python bench/verify.py --subject bench/examples/updating_layer.py:Layer \\
    --reference torch.nn.Linear --init '5, 3' --input 4,5
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Layer:
    """W x + b of samples in columns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weights = np.random.randn(outputs, inputs)
        self.bias = np.zeros((outputs, 1))

    def forward(self, input: Array) -> Array:
        self.input = input
        output: Array = self.weights @ input + self.bias
        return output

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        input_gradient: Array = self.weights.T @ output_gradient
        self.weights -= learning_rate * output_gradient @ self.input.T
        self.bias -= learning_rate * output_gradient.sum(axis=1, keepdims=True)
        return input_gradient


class WrongLayer(Layer):
    """The same, with the gradient of the input by the weights that were just updated."""

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        super().backward(output_gradient, learning_rate)
        input_gradient: Array = self.weights.T @ output_gradient
        return input_gradient
