"""Layers, losses and containers, on the surface of :mod:`torch.nn`."""

from minifw.nn import functional, init, utils
from minifw.nn.activation import ReLU, Sigmoid, Tanh
from minifw.nn.container import Sequential
from minifw.nn.dropout import Dropout
from minifw.nn.linear import Linear
from minifw.nn.loss import BCELoss, MSELoss
from minifw.nn.module import Module
from minifw.nn.parameter import Parameter

__all__ = [
    "BCELoss",
    "Dropout",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
    "utils",
]
