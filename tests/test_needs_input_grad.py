"""Gradients that nobody needs, of inputs and frozen parameters, are left out; the rest stays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from composed_models import (
    Model,
    assert_same,
    both_halves_of_a_split,
    diamonds,
    draw,
    fan_out,
    gradients,
    half_of_a_split,
    reused,
    squared,
    twins,
)
from torch import Generator, Tensor

from minifw import nn


def test_frozen_parameters_get_no_gradient_and_pass_theirs_on() -> None:
    ours, twin = twins(diamonds)
    ours.a.requires_grad_(False)
    twin.a.requires_grad_(False)
    ours.b.bias.requires_grad = False
    twin.b.bias.requires_grad_(False)
    x = (draw(1, 4, 3),)
    actual = gradients(ours, x)
    assert_same(gradients(twin, x), actual)
    assert actual["a.weight"] is actual["a.bias"] is actual["b.bias"] is None


@pytest.mark.parametrize(
    "function",
    [reused, fan_out, diamonds, squared, both_halves_of_a_split, half_of_a_split],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("frozen", ["", "a", "b", "ab"])
def test_without_input_gradients_the_parameters_gradients_are_the_same(
    function: Callable[..., Any], frozen: str
) -> None:
    model = Model(function)
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    x = (draw(1, 4, 3),)
    expected = gradients(model, x)
    model.zero_grad()
    output = model(*x)
    model.backward(draw(100, *output.shape), needs_input_grad=False)
    for name, parameter in model.named_parameters():
        grad = expected[name]
        assert (grad is None) == (parameter.grad is None), name
        if grad is not None:
            assert torch.equal(grad, parameter.grad), name


@pytest.mark.parametrize("frozen", [(), (0,), (0, 2), (0, 2, 4), (4,)])
def test_without_input_gradients_in_a_sequential(frozen: tuple[int, ...]) -> None:
    generator = Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4, dtype=torch.float64, generator=generator),
        nn.Tanh(),
        nn.Sequential(nn.Linear(4, 4, dtype=torch.float64, generator=generator), nn.ReLU()),
        nn.Sigmoid(),
        nn.Linear(4, 2, dtype=torch.float64, generator=generator),
    )
    for index in frozen:
        model[index].requires_grad_(False)
    x = (draw(1, 5, 3),)
    expected = gradients(model, x)
    model.zero_grad()
    model(*x)
    model.backward(draw(100, 5, 2), needs_input_grad=False)
    for name, parameter in model.named_parameters():
        grad = expected[name]
        assert (grad is None) == (parameter.grad is None), name
        if grad is not None:
            assert torch.equal(grad, parameter.grad), name


def test_without_input_gradients_the_first_layer_computes_none() -> None:
    asked = []

    class Watched(nn.Linear):
        def rule(self, input: Tensor) -> Any:
            output, pullback = super().rule(input)

            def watch(grad: Tensor, needs_input_grad: bool = True) -> Any:
                asked.append(needs_input_grad)
                return pullback(grad, needs_input_grad)

            return output, watch

    for model in (
        nn.Sequential(Watched(3, 3), nn.ReLU()),
        Model(lambda m, x: m.tanh(m.w(x)), w=Watched(3, 3)),
    ):
        asked.clear()
        model(draw(1, 4, 3).float())
        model.backward(draw(2, 4, 3).float(), needs_input_grad=False)
        assert [False] == asked


def test_what_lies_before_the_first_trained_layer_is_left_out() -> None:
    def never(grad: Tensor) -> Tensor:
        raise AssertionError("nothing needs this gradient")

    class Wall(nn.Module):
        def rule(self, x: Tensor) -> Any:
            return 2 * x, never

    layer = nn.Linear(3, 3, dtype=torch.float64, generator=Generator().manual_seed(0))
    x, grad_output = draw(1, 4, 3), draw(2, 4, 3)
    layer(2 * x)
    layer.backward(grad_output)
    expected = layer.weight.grad
    wall = Model(lambda m, x: m.tanh(m.a(m.w(x))), w=Wall())
    wall.a, wall.tanh = layer, nn.Sequential()
    for model in (nn.Sequential(Wall(), layer), wall):
        layer.zero_grad()
        model(x)
        model.backward(grad_output, needs_input_grad=False)
        assert torch.equal(expected, layer.weight.grad)
