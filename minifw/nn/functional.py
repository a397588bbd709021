"""Every formula, as a pure function of tensors that returns its output and its pullback.

::

    output, pullback = functional.linear(input, weight, bias)
    grad_input, grad_weight, grad_bias = pullback(grad_output)

The pullback of a function of one tensor returns one gradient, of several a tuple. Each function
stands beside the module that calls it; this is their list.
"""

from minifw.nn.activation import relu, sigmoid, tanh
from minifw.nn.dropout import dropout
from minifw.nn.linear import linear
from minifw.nn.loss import binary_cross_entropy, mse_loss

__all__ = [
    "binary_cross_entropy",
    "dropout",
    "linear",
    "mse_loss",
    "relu",
    "sigmoid",
    "tanh",
]
