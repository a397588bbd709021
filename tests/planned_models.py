"""Models that have plans, and a step of one."""

from functools import partial

import torch
from torch import Generator

import minifw
from minifw import nn, optim


def chain(*between, generator):
    first, last = (nn.Linear(*sizes, generator=generator) for sizes in ((3, 6), (6, 2)))
    return nn.Sequential(first, *between, last)


def shared(generator):
    middle = nn.Linear(6, 6, generator=generator)
    return chain(middle, nn.Tanh(), middle, generator=generator)


def frozen(generator):
    model = chain(nn.Tanh(), nn.Linear(6, 6, generator=generator), generator=generator)
    model[2].requires_grad_(False)
    return model


PLANNED = {
    "relu": lambda g: chain(nn.ReLU(), nn.LeakyReLU(), generator=g),
    "smooth": lambda g: chain(nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus(), generator=g),
    "sigmoid": lambda g: chain(nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1), generator=g),
    "layer norm": lambda g: chain(nn.LayerNorm(6), nn.Identity(), nn.Flatten(), generator=g),
    "batch norm": lambda g: chain(nn.BatchNorm1d(6), nn.ReLU(), generator=g),
    "dropout": lambda g: chain(nn.Dropout(0.3, generator=g), nn.ReLU(), generator=g),
    "all dropped": lambda g: chain(nn.Dropout(1.0), generator=g),
    "residual": lambda g: chain(nn.Residual(nn.Sequential(nn.Tanh())), generator=g),
    "nested": lambda g: chain(nn.Sequential(nn.ReLU(), nn.Sequential()), generator=g),
    "shared": shared,
    "frozen": frozen,
}


def step_of(model, criterion=None, rows=5):
    criterion = criterion or nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    data = Generator().manual_seed(0)
    x, target = torch.rand(rows, 3, generator=data), torch.rand(rows, 2, generator=data)
    return partial(minifw.train_step, model, criterion, optimizer, x, target)


def model_of(name):
    return PLANNED[name](Generator().manual_seed(0))
