"""Which modules of the user's are captured: those whose class declares it, checked once."""

import itertools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Generator

import minifw
from minifw import nn, optim
from minifw.plans import disabled


class Held(nn.Module):
    """What the modules below hold."""

    layers: Any

    def __init__(self):
        generator = Generator().manual_seed(0)
        self.first = nn.Linear(3, 4, generator=generator)
        self.layers = nn.ModuleList([nn.Tanh(), nn.Linear(4, 4, generator=generator)])
        self.add, self.activation = nn.Add(), nn.ReLU()
        self.last = nn.Linear(4, 2, generator=generator)
        self.count = 0

    def helper(self, input):
        return self.last(self.first(input))

    def extra_repr(self):
        return f"count={self.count}"


class Residual(Held, capturable=True):
    """Shared modules, branches and local variables."""

    def forward(self, input):
        hidden, other = self.activation(self.first(input)), self.first(input)
        return self.last(self.add(hidden, self.activation(self.layers(other))))

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*self.layers)


class Loop(Held, capturable=True):
    def forward(self, input):
        hidden = self.first(input)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.last(hidden)


class Inherits(Loop, capturable=True):
    label: str = "a class attribute that no pass calls"


class Nested(Held, capturable=True):
    def __init__(self):
        super().__init__()
        self.inner = Loop()

    def forward(self, input):
        return self.activation(self.inner(input))


GOOD = [Residual, Loop, Inherits, Nested]


@pytest.mark.parametrize("kind", GOOD)
def test_compositions_have_captured_and_the_same_bits(kind):
    seen = []
    for context in (nullcontext, disabled):
        with context():
            model, data = kind(), Generator().manual_seed(1)
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            criterion = nn.MSELoss()
            for _ in range(4):
                batch = torch.rand(5, 3, generator=data), torch.rand(5, 2, generator=data)
                seen.append(minifw.train_step(model, criterion, optimizer, *batch))
            seen += [p.grad for p in model.parameters() if p.grad is not None]
            seen += model.state_dict().values()
            assert [found.passes is not None for found in model._captured] == [True] * (
                context is nullcontext
            )
    half = len(seen) // 2
    assert all(map(torch.equal, seen[:half], seen[half:]))


class Doubles(Held, capturable=True):
    """The number is the same in every call, but the calls of torch are not."""

    factors = itertools.count(1)

    def rule(self, input):
        factor = float(next(self.factors))
        output, pullback = self.first.rule(input)
        return output * factor, lambda grad: pullback(grad * factor)


class Undeclared(Loop):
    pass


def test_a_false_declaration_is_refused_in_the_second_call():
    model, x = nn.Sequential(Doubles()), torch.rand(5, 3)
    model(x)
    model.backward(torch.ones(5, 4))
    with pytest.raises(RuntimeError, match="capturable=True made other calls of torch"):
        model(x)


def test_a_subclass_is_not_captured_unless_it_is_declared():
    for model in (Undeclared(), nn.Sequential(Undeclared())):
        for _ in range(3):
            model(torch.rand(5, 3))
            model.backward(torch.ones(5, 2))
        assert not any(found.passes for found in model._captured)


@pytest.mark.parametrize("kind", GOOD)
def test_a_declared_module_is_replayed_from_the_third_call_on(kind, monkeypatch):
    model, x, calls = kind(), torch.rand(5, 3), []
    forward = kind.forward

    def counted(*args):
        calls.append(1)
        return forward(*args)

    monkeypatch.setattr(kind, "forward", counted)
    outputs = []
    for _ in range(4):
        outputs.append(model(x))
        model.backward(torch.ones(5, 2))
    assert len(calls) == 2
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_a_module_that_is_replaced_is_noticed():
    model, criterion = Loop(), nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    batch = torch.rand(5, 3), torch.rand(5, 2)
    losses = [minifw.train_step(model, criterion, optimizer, *batch) for _ in range(3)]
    model.layers[0] = nn.ReLU()
    losses += [minifw.train_step(model, criterion, optimizer, *batch) for _ in range(3)]
    assert [losses[0]] * 3 == losses[:3]
    assert [criterion(model(batch[0]), batch[1])] * 3 == losses[3:]
    assert losses[0] != losses[3]
