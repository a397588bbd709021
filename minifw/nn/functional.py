"""Every formula, as a pure function of tensors that returns its output and its pullback.

>>> import torch
>>> from minifw.nn import functional
>>> input, weight, bias = torch.ones(4, 2), torch.ones(3, 2), torch.ones(3)
>>> output, pullback = functional.linear(input, weight, bias)
>>> grad_input, grad_weight, grad_bias = pullback(torch.ones_like(output))
>>> grad_bias
tensor([4., 4., 4.])

The pullback of a function of one tensor returns one gradient, of several tensors a tuple. A loss is
differentiated in its input alone. Each function is defined beside the module that calls it. Names
and arguments are as in :mod:`torch.nn.functional`.
"""

from minifw.nn.activation import activation, sigmoid, tanh
from minifw.nn.batch_norm import batch_norm
from minifw.nn.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_with_logits
from minifw.nn.combine import add, concatenate, multiply
from minifw.nn.cross_entropy import cross_entropy, nll_loss
from minifw.nn.dropout import dropout
from minifw.nn.linear import linear
from minifw.nn.loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from minifw.nn.normalization import layer_norm
from minifw.nn.rectifier import elu, gelu, leaky_relu, relu, silu, softplus
from minifw.nn.shape import flatten
from minifw.nn.softmax import log_softmax, softmax

__all__ = [
    "activation", "add", "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "concatenate", "cross_entropy", "dropout", "elu", "flatten", "gelu", "huber_loss", "l1_loss",
    "layer_norm", "leaky_relu", "linear", "log_softmax", "mse_loss", "multiply", "nll_loss", "relu",
    "sigmoid", "silu", "smooth_l1_loss", "softmax", "softplus", "tanh",
]  # fmt: skip
