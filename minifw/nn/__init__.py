"""Layers, losses and containers, on the surface of :mod:`torch.nn`."""

from minifw.nn import clip as utils
from minifw.nn import functional, init
from minifw.nn.activation import Activation, Sigmoid, Tanh
from minifw.nn.batch_norm import BatchNorm1d
from minifw.nn.binary_cross_entropy import BCELoss, BCEWithLogitsLoss
from minifw.nn.combine import Add, Concatenate, Multiply, Residual
from minifw.nn.container import ModuleList, Sequential
from minifw.nn.cross_entropy import CrossEntropyLoss, NLLLoss
from minifw.nn.dropout import Dropout
from minifw.nn.linear import Linear
from minifw.nn.loss import HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from minifw.nn.module import Module
from minifw.nn.normalization import LayerNorm
from minifw.nn.parameter import Parameter
from minifw.nn.rectifier import ELU, GELU, LeakyReLU, ReLU, SiLU, Softplus
from minifw.nn.shape import Flatten, Identity
from minifw.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU", "GELU", "Activation", "Add", "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d",
    "Concatenate", "CrossEntropyLoss", "Dropout", "Flatten", "HuberLoss", "Identity", "L1Loss",
    "LayerNorm", "LeakyReLU", "Linear", "LogSoftmax", "MSELoss", "Module", "ModuleList", "Multiply",
    "NLLLoss", "Parameter", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "SmoothL1Loss",
    "Softmax", "Softplus", "Tanh", "functional", "init", "utils",
]  # fmt: skip
