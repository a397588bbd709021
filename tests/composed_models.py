"""Modules made of modules in both frameworks, and what the tests of the tape compare of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from minifw import nn


class Add(nn.Module):
    """a + b, a primitive of two inputs."""

    def rule(self, a: Tensor, b: Tensor) -> Any:
        return a + b, lambda grad: (grad, grad)


class Multiply(nn.Module):
    """a * b."""

    def rule(self, a: Tensor, b: Tensor) -> Any:
        return a * b, lambda grad: (grad * b, grad * a)


class Split(nn.Module):
    """(2 a, 3 a), a primitive of two outputs, either of which may go unused."""

    def rule(self, a: Tensor) -> Any:
        def pullback(grad_2: Tensor | None, grad_3: Tensor | None) -> Tensor:
            parts = [k * g for k, g in ((2, grad_2), (3, grad_3)) if g is not None]
            return torch.stack(parts).sum(0)

        return (2 * a, 3 * a), pullback


class Model(nn.Module):
    """A composed module with parts a, b, c, each Linear(3, 3), and a function for its forward."""

    a: nn.Linear
    b: nn.Linear
    c: nn.Linear
    tanh: nn.Module

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        generator = Generator().manual_seed(0)
        for name in "abc":
            layer = nn.Linear(3, 3, dtype=torch.float64, generator=generator)
            setattr(self, name, layer)
        self.add, self.multiply, self.split, self.tanh = Add(), Multiply(), Split(), nn.Tanh()
        self.scale = nn.Parameter(torch.rand(3, generator=generator, dtype=torch.float64))
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


class TorchModel(torch.nn.Module):
    """The same in torch."""

    def __init__(self, function: Callable[..., Any], **parts: torch.nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(3, 3, dtype=torch.float64) for _ in "abc")
        self.scale = torch.nn.Parameter(torch.empty(3, dtype=torch.float64))
        for name, part in parts.items():
            setattr(self, name, part)
        self.function, self.tanh = function, torch.nn.Tanh()
        self.add, self.multiply, self.split = torch.add, torch.mul, lambda a: (2 * a, 3 * a)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def gradients(
    model: Any, inputs: tuple[Tensor, ...], grad_outputs: tuple[Tensor, ...] | None = None
) -> dict[str, Tensor | None]:
    """Outputs, gradients of inputs and of parameters, by name, of either framework's model."""
    is_torch = isinstance(model, torch.nn.Module)
    if is_torch:
        inputs = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    outputs = as_tuple(model(*inputs))
    if grad_outputs is None:
        grad_outputs = tuple(draw(100 + i, *o.shape) for i, o in enumerate(outputs))
    if is_torch:
        torch.autograd.backward(outputs, grad_outputs)
        grads: tuple[Tensor | None, ...] = tuple(tensor.grad for tensor in inputs)
    else:
        grads = as_tuple(model.backward(*grad_outputs))
    named: dict[str, Tensor | None] = {f"output {i}": o.detach() for i, o in enumerate(outputs)}
    named |= {f"input {i}": grad for i, grad in enumerate(grads)}
    return named | {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(expected: dict[str, Tensor | None], actual: dict[str, Tensor | None]) -> None:
    assert list(expected) == list(actual)
    for name, there in expected.items():
        here = actual[name]
        assert (there is None) == (here is None), name
        if there is not None:
            torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-12, msg=name)


def twins(function: Callable[..., Any]) -> tuple[Model, TorchModel]:
    ours, twin = Model(function), TorchModel(function)
    twin.load_state_dict(ours.state_dict())
    return ours, twin


def reused(m: Any, x: Any) -> Any:
    return m.a(m.tanh(m.a(m.tanh(m.a(x)))))


def fan_out(m: Any, x: Any) -> Any:
    h = m.a(x)
    return m.add(m.add(m.b(h), m.c(h)), h)


def diamonds(m: Any, x: Any) -> Any:
    for _ in range(3):
        h = m.tanh(m.a(x))
        x = m.multiply(m.b(h), m.add(m.c(h), x))
    return x


def squared(m: Any, x: Any) -> Any:
    h = m.a(x)
    return m.multiply(h, h)


def half_of_a_split(m: Any, x: Any) -> Any:
    _, triple = m.split(m.a(x))
    return m.b(triple)


def both_halves_of_a_split(m: Any, x: Any) -> Any:
    double, triple = m.split(m.a(x))
    return m.add(m.b(triple), m.multiply(double, triple))
