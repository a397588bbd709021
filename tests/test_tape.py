"""Modules made of modules: what the tape gives back equals autograd on the same arithmetic."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
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


def fan_out_of_the_input(m: Any, x: Any) -> Any:
    return m.add(m.multiply(x, m.a(x)), m.multiply(m.b(x), x))


def diamonds(m: Any, x: Any) -> Any:
    for _ in range(3):
        h = m.tanh(m.a(x))
        x = m.multiply(m.b(h), m.add(m.c(h), x))
    return x


def squared(m: Any, x: Any) -> Any:
    h = m.a(x)
    return m.multiply(h, h)


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


def half_of_a_split(m: Any, x: Any) -> Any:
    _, triple = m.split(m.a(x))
    return m.b(triple)


def both_halves_of_a_split(m: Any, x: Any) -> Any:
    double, triple = m.split(m.a(x))
    return m.add(m.b(triple), m.multiply(double, triple))


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
    ours, twin = nn.Sequential(nn.Tanh(), ours), torch.nn.Sequential(torch.nn.Tanh(), twin)
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


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
    for x in inputs:
        model(x)
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


# What is trained, and what is asked for.


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


def test_a_chain_through_a_module_that_ignores_its_input() -> None:
    def constant(m: Any, x: Any) -> Any:
        return m.add(m.scale, m.scale)

    ours, twin = twins(constant)
    first = nn.Linear(3, 3, dtype=torch.float64)
    ours = nn.Sequential(first, nn.Tanh(), ours)
    twin = torch.nn.Sequential(torch.nn.Linear(3, 3).double(), torch.nn.Tanh(), twin)
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


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


def test_a_trained_target_is_an_error_however_deep_the_loss() -> None:
    def objective(m: Any, x: Any, target: Any) -> Any:
        return m.loss(m.a(x), target)

    def outer(m: Any, x: Any) -> Any:
        return m.inner(m.b(x), m.c(x))

    direct = Model(lambda m, x: m.loss(m.a(x), m.b(x)), loss=nn.MSELoss())
    deep = Model(outer, inner=Model(objective, loss=nn.MSELoss()))
    behind_a_call = Model(
        outer, inner=Model(lambda m, x, t: m.loss(m.a(x), m.tanh(t)), loss=nn.MSELoss())
    )
    chained = nn.Sequential(
        nn.Linear(3, 3, dtype=torch.float64),
        Model(lambda m, x: m.loss(m.a(x), x), loss=nn.MSELoss()),
    )
    for model in (direct, deep, behind_a_call, chained):
        model(draw(1, 4, 3))
        with pytest.raises(RuntimeError, match="gives no gradient of one of its inputs"):
            model.backward()


def test_dropout_in_evaluation_gives_back_its_input() -> None:
    def forward(m: Any, x: Any) -> Any:
        return m.add(m.dropout(x), m.b(m.dropout(m.a(m.dropout(x)))))

    ours = Model(forward, dropout=nn.Dropout()).eval()
    twin = TorchModel(forward, dropout=torch.nn.Dropout()).eval()
    twin.load_state_dict(ours.state_dict())
    x = (draw(1, 4, 3),)
    assert_same(gradients(twin, x), gradients(ours, x))


# What the tape cannot follow is an error.


class Leaky(nn.Module):
    def __init__(self, forward: Callable[..., Any]) -> None:
        self.a, self.tanh = nn.Linear(3, 3, dtype=torch.float64), nn.Tanh()
        self.function = forward

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def in_place(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    h += x
    return m.tanh(h)


def in_place_at_the_end(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return h.mul_(2)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda m, x: m.tanh(x + m.a(x)), RuntimeError, "gradient would be lost"),
        (lambda m, x: m.a(x) + x, RuntimeError, "an output of forward.*gradient would be lost"),
        (lambda m, x: m.a(x)[0], RuntimeError, "gradient would be lost"),
        (lambda m, x: torch.ones(4, 3), RuntimeError, "gradient would be lost"),
        (lambda m, x: m.tanh(m.a.weight.data), RuntimeError, "gradient would be lost"),
        (in_place, RuntimeError, "modified in place"),
        (in_place_at_the_end, RuntimeError, "modified in place"),
        (lambda m, x: None, TypeError, "tensor or a tuple of tensors, got NoneType"),
        (lambda m, x: [m.a(x)], TypeError, "tensor or a tuple of tensors, got list"),
    ],
    ids=[
        "sum as an input",
        "sum as the output",
        "view",
        "constant",
        "data of a parameter",
        "in place",
        "output in place",
        "None",
        "list",
    ],
)
def test_arithmetic_past_the_tape(
    function: Callable[..., Any], error: type[Exception], message: str
) -> None:
    model = nn.Sequential(nn.Tanh(), Leaky(function))
    with pytest.raises(error, match=message) as raised:
        model(draw(1, 4, 3))
    assert str(raised.value).startswith("1 Leaky()")
    # The failed call left nothing behind.
    with pytest.raises(RuntimeError, match="no call awaits"):
        model.backward(draw(2, 4, 3))
    assert model[0](draw(1, 4, 3)).shape == (4, 3)
    model[0].backward(draw(2, 4, 3))


def test_the_innermost_module_that_fails_is_named() -> None:
    narrow = nn.Linear(2, 3, dtype=torch.float64)
    inner = Model(lambda m, x: m.narrow(m.a(x)), narrow=narrow)
    model = nn.Sequential(nn.Tanh(), Model(lambda m, x: m.inner(m.b(x)), inner=inner))
    with pytest.raises(RuntimeError, match=r"^1\.inner\.narrow Linear\(in_features=2"):
        model(draw(1, 4, 3))


def test_an_intermediate_changed_after_the_forward_is_an_error() -> None:
    kept = []

    def forward(m: Any, x: Any) -> Any:
        kept.append(m.a(x))
        return m.tanh(kept[0])

    model = Model(forward)
    model(draw(1, 4, 3))
    kept[0].zero_()
    with pytest.raises(RuntimeError, match="modified in place"):
        model.backward(draw(2, 4, 3))


# What is kept, and by whom.


def watched(references: list[Any]) -> Model:
    def forward(m: Any, x: Any) -> Any:
        h = m.a(x)
        references.append(weakref.ref(h))
        return m.tanh(m.multiply(h, h))

    return Model(forward)


@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential], ids=["alone", "chained"])
def test_no_grad_keeps_nothing(wrap: Callable[..., Any]) -> None:
    references: list[Any] = []
    model = wrap(watched(references))
    gc.disable()  # reference counts alone must do it
    try:
        with minifw.no_grad():
            model(draw(1, 4, 3))
        assert [None] == [reference() for reference in references]
    finally:
        gc.enable()
    with pytest.raises(RuntimeError, match="no call awaits"):
        model.backward(draw(2, 4, 3))


def test_no_grad_lets_go_of_a_chains_intermediates_on_the_way() -> None:
    references: list[Any] = []

    class Mark(nn.Module):
        def rule(self, x: Tensor) -> Any:
            output = 2 * x
            references.append(weakref.ref(output))
            return output, lambda grad: 2 * grad

    class Look(nn.Module):
        def rule(self, x: Tensor) -> Any:
            references.append(references[0]() is None)
            return x, lambda grad: grad

    # Linear keeps its input, and Tanh is between for Linear's pullback to be out of use.
    model = nn.Sequential(Mark(), nn.Linear(3, 3, dtype=torch.float64), nn.Tanh(), Look())
    with minifw.no_grad():
        model(draw(1, 4, 3))
    assert references[1]


@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential], ids=["alone", "chained"])
def test_a_backward_pass_frees_what_the_call_kept(wrap: Callable[..., Any]) -> None:
    references: list[Any] = []
    model = wrap(watched(references))
    gc.disable()
    try:
        model(draw(1, 4, 3))
        assert references[0]() is not None
        model.backward(draw(2, 4, 3))
        assert references[0]() is None
    finally:
        gc.enable()


def test_no_grad_nests_decorates_and_ends_with_an_error() -> None:
    layer = nn.ReLU()

    def kept() -> bool:
        layer(draw(1, 2))
        try:
            layer.backward(draw(2, 2))
        except RuntimeError:
            return False
        return True

    context = minifw.no_grad()
    with context:
        with context:
            assert not kept()
        assert not kept()
    assert kept()
    assert not minifw.no_grad()(kept)()
    with pytest.raises(KeyError), minifw.no_grad():
        raise KeyError
    assert kept()


def test_a_backward_pass_inside_no_grad() -> None:
    layer = nn.ReLU()
    layer(draw(1, 4))
    with minifw.no_grad():
        assert layer.backward(draw(2, 4)).shape == (4,)


def test_threads_do_not_see_each_others_pass() -> None:
    entered, finish = threading.Event(), threading.Event()

    def forward(m: Any, x: Any) -> Any:
        h = m.a(x)
        entered.set()
        assert finish.wait(10)
        return m.tanh(h)

    model, seen = Model(forward), []

    def other() -> None:
        with minifw.no_grad():
            model(draw(1, 4, 3))

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    # In the middle of the other thread's forward, which records nothing.
    layer = Model(diamonds)
    seen.append(layer(draw(1, 4, 3)))
    seen.append(layer.backward(draw(2, 4, 3)))
    finish.set()
    thread.join(10)
    assert not thread.is_alive()
    expected = Model(diamonds)
    assert torch.equal(expected(draw(1, 4, 3)), seen[0])
    assert torch.equal(expected.backward(draw(2, 4, 3)), seen[1])
    with pytest.raises(RuntimeError, match="no call awaits"):
        model.backward(draw(2, 4, 3))


def test_an_error_within_a_nested_forward_leaves_the_tape_as_it_was() -> None:
    def broken(m: Any, x: Any) -> Any:
        raise KeyError("broken")

    def forward(m: Any, x: Any) -> Any:
        h = m.a(x)
        with pytest.raises(KeyError):
            m.inner(h)
        return m.tanh(h)

    ours = Model(forward, inner=Model(broken))
    expected = Model(lambda m, x: m.tanh(m.a(x)))
    x = draw(1, 4, 3)
    assert torch.equal(expected(x), ours(x))
    assert torch.equal(expected.backward(draw(2, 4, 3)), ours.backward(draw(2, 4, 3)))
