"""Modules made of modules: what the tape gives back equals autograd on the same arithmetic."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from composed_models import (
    Model,
    Multiply,
    TorchModel,
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
from torch import Tensor

from minifw import nn


def fan_out_of_the_input(m: Any, x: Any) -> Any:
    return m.add(m.multiply(x, m.a(x)), m.multiply(m.b(x), x))


def outputs_of_every_depth(m: Any, x: Any) -> Any:
    h = m.a(x)
    g = m.b(h)
    return h, g, m.c(g)


def an_output_twice(m: Any, x: Any) -> Any:
    h = m.a(x)
    return h, h


def an_input_as_an_output(m: Any, x: Any) -> Any:
    return x, m.a(x)


def a_call_without_influence(m: Any, x: Any) -> Any:
    h = m.a(x)
    m.b(h)
    m.c(x)
    return h


def a_parameter_as_an_input(m: Any, x: Any) -> Any:
    return m.multiply(m.multiply(m.a(x), m.scale), m.b(x))


def a_parameter_as_an_input_twice(m: Any, x: Any) -> Any:
    h = m.a(x)
    rows = m.add(m.scale, m.scale)
    return m.multiply(h, rows)


@pytest.mark.parametrize(
    "function",
    [
        reused,
        fan_out,
        fan_out_of_the_input,
        diamonds,
        squared,
        outputs_of_every_depth,
        an_output_twice,
        an_input_as_an_output,
        a_call_without_influence,
        half_of_a_split,
        both_halves_of_a_split,
    ],
    ids=lambda function: function.__name__,
)
def test_graphs_of_one_input(function: Callable[..., Any]) -> None:
    ours, twin = twins(function)
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))
    # A second pass accumulates.
    assert_same(gradients(twin, x), gradients(ours, x))


@pytest.mark.parametrize("function", [a_parameter_as_an_input, a_parameter_as_an_input_twice])
def test_a_parameter_may_be_an_input_of_a_module(function: Callable[..., Any]) -> None:
    ours, twin = twins(function)
    x = (draw(1, 3),)  # the shape of the parameter: Add and Multiply do not broadcast
    assert_same(gradients(twin, x), gradients(ours, x))
    assert_same(gradients(twin, x), gradients(ours, x))


def test_a_frozen_parameter_may_be_an_input_of_a_module() -> None:
    ours, twin = twins(a_parameter_as_an_input)
    ours.scale.requires_grad = False
    twin.scale.requires_grad_(False)
    x = (draw(1, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


def test_a_parameters_gradient_is_its_own() -> None:
    model = Model(lambda m, x: m.add(x, m.scale))
    grad_output = draw(2, 3)
    model(draw(1, 3))
    grad_input = model.backward(grad_output)
    grad_output.zero_()
    grad_input.zero_()
    assert model.scale.grad.abs().min() > 0


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, y: m.multiply(m.a(x), m.b(y)),
        lambda m, x, y: (m.a(x), m.b(m.add(x, y))),
        lambda m, x, y: m.a(x),  # y has no influence
        lambda m, x, y: (y, x),
    ],
    ids=["fan in", "two outputs", "an unused input", "swapped"],
)
def test_several_inputs(function: Callable[..., Any]) -> None:
    ours, twin = twins(function)
    x = draw(1, 4, 3), draw(2, 4, 3)
    assert_same(gradients(twin, x), gradients(ours, x))


def test_the_same_tensor_for_two_inputs_has_a_gradient_for_each() -> None:
    ours, twin = twins(lambda m, x, y: m.multiply(m.a(x), m.b(y)))
    x = draw(1, 4, 3)
    assert_same(gradients(twin, (x, x)), gradients(ours, (x, x)))
    output, module = Multiply()(x, x), Multiply()
    torch.testing.assert_close(output, module(x, x))
    assert [True, True] == [torch.equal(x, grad) for grad in module.backward(torch.ones_like(x))]


def test_shared_modules() -> None:
    layer, torch_layer = nn.Linear(3, 3, dtype=torch.float64), torch.nn.Linear(3, 3).double()
    torch_layer.load_state_dict(layer.state_dict())
    ours = nn.Sequential(layer, nn.Tanh(), layer, nn.Sequential(layer))
    twin = torch.nn.Sequential(
        torch_layer, torch.nn.Tanh(), torch_layer, torch.nn.Sequential(torch_layer)
    )
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


def nested(m: Any, x: Any) -> Any:
    return m.add(m.inner(m.a(x)), m.inner(m.inner(x)))


def test_composed_modules_in_composed_modules_and_in_sequential() -> None:
    inner, twin_inner = twins(diamonds)
    ours = nn.Sequential(nn.Tanh(), Model(nested, inner=Model(nested, inner=inner)), inner)
    twin = torch.nn.Sequential(
        torch.nn.Tanh(),
        TorchModel(nested, inner=TorchModel(nested, inner=twin_inner)),
        twin_inner,
    )
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


@pytest.mark.parametrize(
    "outer",
    [
        lambda m, x: m.inner(m.a(x), m.b(x))[0],
        lambda m, x: m.inner(m.a(x), m.b(x))[1],
        lambda m, x: m.inner(m.a(x), m.a(x)),
    ],
    ids=["first", "second", "both"],
)
def test_partly_unused_outputs_of_a_composed_module(outer: Callable[..., Any]) -> None:
    def inner(m: Any, x: Any, y: Any) -> Any:
        return m.a(x), m.multiply(m.b(y), y)

    ours = Model(outer, inner=Model(inner))
    twin = TorchModel(outer, inner=TorchModel(inner))
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


def test_an_ignored_input_of_a_composed_module() -> None:
    def inner(m: Any, x: Any, y: Any) -> Any:
        return m.a(x)

    def outer(m: Any, x: Any) -> Any:
        return m.inner(m.b(x), m.c(x))

    ours = Model(outer, inner=Model(inner))
    twin = TorchModel(outer, inner=TorchModel(inner))
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


def test_several_outputs_at_the_end_of_a_sequential() -> None:
    ours, twin = twins(outputs_of_every_depth)
    after, twin_after = nn.Sequential(nn.Tanh(), ours), torch.nn.Sequential(torch.nn.Tanh(), twin)
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin_after, x), gradients(after, x))


@pytest.mark.parametrize("make", [nn.Linear, lambda *_, **o: Model(diamonds), nn.Sequential])
def test_backward_passes_pair_with_the_latest_calls(make: Callable[..., Any]) -> None:
    layer = nn.Linear(3, 3, dtype=torch.float64)
    model = make(layer) if make is nn.Sequential else make(3, 3, dtype=torch.float64)
    inputs = [draw(seed, 4, 3) for seed in range(3)]
    grad_outputs = [draw(10 + seed, 4, 3) for seed in range(3)]
    expected = []
    for x, grad_output in zip(inputs, grad_outputs, strict=True):
        model(x)
        expected.append(model.backward(grad_output))
    summed = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    outputs = [model(x) for x in inputs]
    assert len(outputs) == 3
    for grad_output, grad_input in zip(reversed(grad_outputs), reversed(expected), strict=True):
        assert torch.equal(grad_input, model.backward(grad_output))
    for name, parameter in model.named_parameters():
        if summed[name] is not None:
            torch.testing.assert_close(summed[name], parameter.grad, rtol=1e-12, atol=1e-12)


def test_gradients_handed_out_are_not_changed_by_later_passes() -> None:
    layer, x = nn.Linear(3, 3, dtype=torch.float64), draw(1, 4, 3)
    layer(x)
    layer.backward(draw(2, 4, 3))
    grad = layer.weight.grad
    before = grad.clone()
    layer(x)
    layer.backward(draw(3, 4, 3))
    assert torch.equal(before, grad)
    assert not torch.equal(before, layer.weight.grad)


DEPTH = 5000


def test_a_sequential_of_5000_modules() -> None:
    ours = nn.Sequential(*(nn.Tanh() if i % 2 else Halve() for i in range(DEPTH)))
    x = draw(1, 2) / 100
    ours(x)
    grad_input = ours.backward(torch.ones(2, dtype=torch.float64))
    leaf = x.clone().requires_grad_()
    output = leaf
    for i in range(DEPTH):
        output = output.tanh() if i % 2 else output * 0.999
    output.sum().backward()
    torch.testing.assert_close(grad_input, leaf.grad, rtol=1e-10, atol=0)


class Halve(nn.Module):
    """0.999 x: nearly the identity, so that 5,000 of them leave something to compare."""

    def rule(self, x: Tensor) -> Any:
        return 0.999 * x, lambda grad: 0.999 * grad


def test_a_forward_of_5000_calls() -> None:
    def loop(m: Any, x: Any) -> Any:
        for _ in range(DEPTH):
            x = m.tanh(m.b(x))
        return x

    ours, twin = twins(loop)
    with torch.no_grad():
        ours.b.weight.data.copy_(torch.linalg.qr(draw(5, 3, 3))[0])
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 1, 3),)
    expected, actual = gradients(twin, x), gradients(ours, x)
    assert expected["b.weight"].abs().max() > 0
    assert_same(expected, actual)


def test_a_chain_through_a_module_that_ignores_its_input() -> None:
    def constant(m: Any, x: Any) -> Any:
        return m.add(m.scale, m.scale)

    ours, twin = twins(constant)
    first = nn.Linear(3, 3, dtype=torch.float64)
    after = nn.Sequential(first, nn.Tanh(), ours)
    twin_after = torch.nn.Sequential(torch.nn.Linear(3, 3).double(), torch.nn.Tanh(), twin)
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin_after, x), gradients(after, x))


def test_a_loss_inside_a_forward() -> None:
    def objective(m: Any, x: Any, target: Any) -> Any:
        return m.loss(m.a(x), target)

    ours = Model(objective, loss=nn.MSELoss())
    twin = TorchModel(objective, loss=torch.nn.MSELoss())
    twin.load_state_dict(ours.state_dict())
    x, target = draw(1, 4, 3), draw(2, 4, 3)
    ours(x, target)
    grad_input, grad_target = ours.backward()
    leaf = x.clone().requires_grad_()
    twin(leaf, target).backward()
    torch.testing.assert_close(grad_input, leaf.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.a.weight.grad, twin.a.weight.grad, rtol=1e-12, atol=1e-12)
    assert grad_target is None


def test_dropout_in_evaluation_gives_back_its_input() -> None:
    def forward(m: Any, x: Any) -> Any:
        return m.add(m.dropout(x), m.b(m.dropout(m.a(m.dropout(x)))))

    ours = Model(forward, dropout=nn.Dropout()).eval()
    twin = TorchModel(forward, dropout=torch.nn.Dropout()).eval()
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))
