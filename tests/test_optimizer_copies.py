"""Copies of a model with its optimizer go on as the original, and unfit state is refused."""

import copy
import io
import pickle

import cloudpickle  # type: ignore[import-untyped]
import pytest
import torch
from torch import Generator

from minifw import nn, optim


def saved_by_torch(pair):
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    "cloudpickle": lambda pair: cloudpickle.loads(cloudpickle.dumps(pair)),
    "torch.save": saved_by_torch,
}
OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1),
}


def train(model, optimizer, steps=4):
    criterion, data = nn.MSELoss(), Generator().manual_seed(1)
    for _ in range(steps):
        x, target = torch.rand(5, 3, generator=data), torch.rand(5, 2, generator=data)
        optimizer.zero_grad()
        criterion(model(x), target)
        model.backward(criterion.backward())
        optimizer.step()
    return list(model.state_dict().values())


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_goes_on_as_the_original(copied, make):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = make(model.parameters())
    train(model, optimizer)
    other, other_optimizer = copied((model, optimizer))
    assert all(map(torch.equal, train(model, optimizer), train(other, other_optimizer)))


def test_the_state_of_another_kind_of_optimizer_is_refused():
    parameter = nn.Parameter(torch.ones(2))
    sgd, adam = optim.SGD([parameter]), optim.Adam([parameter])
    parameter.grad = torch.ones(2)
    for here, there, missing in ((sgd, adam, "dampening, momentum"), (adam, sgd, "betas, eps")):
        there.step()
        with pytest.raises(ValueError, match=f"has no {missing}"):
            here.load_state_dict(there.state_dict())
        here.load_state_dict(here.state_dict())


@pytest.mark.parametrize(
    "grad", [torch.ones(1), torch.ones(2, 1), torch.ones(2, 2), torch.ones(2).double()], ids=str
)
def test_a_gradient_unlike_the_parameter_is_refused_as_by_torch(grad):
    for parameter in (torch.nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))):
        with pytest.raises(RuntimeError):
            parameter.grad = grad
        with pytest.raises(TypeError):
            parameter.grad = 1.0  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["GELU", "SiLU", "ELU", "LeakyReLU", "Softplus"])
def test_whole_numbers_are_refused_as_by_torch(name):
    for namespace in (torch.nn, nn):
        with pytest.raises(NotImplementedError, match="not implemented for"):
            getattr(namespace, name)()(torch.tensor([0, 1]))
