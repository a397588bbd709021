"""Which modules of the user's have plans: those whose forward does nothing but call modules."""

import functools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Generator

import minifw
from minifw import nn, optim
from minifw.plans import disabled
from minifw.plans.composition import only_calls_modules


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


class Residual(Held):
    """Shared modules, branches and local variables."""

    def forward(self, input):
        hidden, other = self.activation(self.first(input)), self.first(input)
        return self.last(self.add(hidden, self.activation(self.layers(other))))

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*self.layers)


class Loop(Held):
    def forward(self, input):
        hidden = self.first(input)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.last(hidden)


class Inherits(Loop):
    label: str = "a class attribute that no pass calls"


class Nested(Held):
    def __init__(self):
        super().__init__()
        self.inner = Loop()

    def forward(self, input):
        return self.activation(self.inner(input))


GOOD = [Residual, Loop, Inherits, Nested]


@pytest.mark.parametrize("kind", GOOD)
def test_compositions_have_plans_and_the_same_bits(kind):
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
            assert [found._calls is not None for found in model._plans] == [True] * (
                context is nullcontext
            )
    half = len(seen) // 2
    assert all(map(torch.equal, seen[:half], seen[half:]))


class Counts(Held):
    def forward(self, input):
        self.count += 1
        return self.last(self.first(input))


class Branches(Held):
    def forward(self, input):
        if self.training:
            return self.last(self.first(input))
        return self.last(self.activation(self.first(input)))


class Helps(Held):
    def forward(self, input):
        return self.helper(input)


class NamesFromOutside(Held):
    def forward(self, input):
        torch.manual_seed(0)
        return self.last(self.first(input))


class Computes(Held):
    def forward(self, input):
        return self.last(self.first(input * 2))


class CallsAMethodOfATensor(Held):
    def forward(self, input):
        return self.last(self.first(input.relu()))


class CallsAFunctionThatItHolds(Held):
    def __init__(self):
        super().__init__()
        self.function = torch.relu

    def forward(self, input):
        return self.last(self.function(self.first(input)))


class KeepsAList(Held):
    def forward(self, input, seen=[]):  # noqa: B006
        seen.append(1)
        return self.last(self.first(input))


class Calls(Loop):
    def __call__(self, *inputs):
        return super().__call__(*inputs)


class Iterates(Loop):
    def __iter__(self):
        return iter(())


class Looks(Loop):
    @property
    def training(self):
        return True

    @training.setter
    def training(self, value):
        pass


class Shadows(Loop):
    first = property(lambda self: vars(self)["first"], lambda self, v: vars(self).update(first=v))


class HasARule(nn.Module):
    def rule(self, input):
        return input, lambda grad: grad


class HasBoth(Loop):
    def rule(self, input):
        return super().rule(input)


class Decorated(Held):
    @functools.cache  # noqa: B019
    def forward(self, input):
        return self.last(self.first(input))


def wrap(forward):
    return lambda *args: forward(*args)


class Wrapped(Held):
    @wrap
    def forward(self, input):
        return self.last(self.first(input))


class Generates(Held):
    def forward(self, input):
        yield self.last(self.first(input))


class Unfinished(Held):
    pass


BAD = [
    Counts, Branches, Helps, NamesFromOutside, Computes, CallsAMethodOfATensor,
    CallsAFunctionThatItHolds, KeepsAList, Calls, Iterates, Looks, Shadows, HasARule, HasBoth,
    Decorated, Wrapped, Generates, Unfinished,
]  # fmt: skip


@pytest.mark.parametrize("kind", [*GOOD, *BAD])
def test_what_does_nothing_but_call_modules(kind):
    assert only_calls_modules(kind()) == (kind in GOOD)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Sequential(), nn.MSELoss(), nn.Add()])
def test_modules_of_the_package(module):
    assert only_calls_modules(module)


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
