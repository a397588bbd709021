"""Modules made of modules: lists, branches, residual networks, and what lies in between."""

import copy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import nn
from minifw.nn import functional

DOUBLE = {"dtype": torch.float64}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def assert_twins(ours: Any, twin: Any, x: Tensor) -> None:
    """Equal outputs and gradients, from equal parameters."""
    ours.load_state_dict(twin.state_dict())
    leaf = x.clone().requires_grad_()
    expected = twin(leaf)
    cotangent = draw(99, *expected.shape)
    expected.backward(cotangent)
    torch.testing.assert_close(ours(x), expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.backward(cotangent), leaf.grad, rtol=1e-12, atol=1e-12)
    grads = {name: p.grad for name, p in twin.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-12, atol=1e-12)


class DenselyConnected(nn.Module):
    """Each layer sees all outputs before it, through a list whose length is data."""

    def __init__(self, depth: int) -> None:
        self.layers = nn.ModuleList(nn.Linear(2 * (i + 1), 2, **DOUBLE) for i in range(depth))
        self.concatenate, self.tanh = nn.Concatenate(1), nn.Tanh()

    def forward(self, x: Tensor) -> Any:
        outputs = [x]
        for layer in self.layers:
            outputs.append(self.tanh(layer(self.concatenate(*outputs))))
        return outputs[-1]


class TorchDenselyConnected(torch.nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(2 * (i + 1), 2, **DOUBLE) for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(torch.cat(outputs, 1)).tanh())
        return outputs[-1]


class Siamese(nn.Module):
    """One encoder on both halves of the input."""

    def __init__(self) -> None:
        self.encoder = nn.Sequential(
            nn.Linear(2, 3, **DOUBLE), nn.GELU(), nn.LayerNorm(3, **DOUBLE)
        )
        self.multiply, self.head = nn.Multiply(), nn.Linear(3, 1, **DOUBLE)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.head(self.multiply(self.encoder(x), self.encoder(y)))


def test_a_list_of_layers_densely_connected() -> None:
    assert_twins(DenselyConnected(4), TorchDenselyConnected(4), draw(1, 5, 2))


def test_a_shared_encoder_used_twice() -> None:
    ours = Siamese()
    twin = torch.nn.Sequential(
        torch.nn.Linear(2, 3, **DOUBLE), torch.nn.GELU(), torch.nn.LayerNorm(3, **DOUBLE)
    )
    ours.encoder.load_state_dict(twin.state_dict())
    x, y = draw(1, 4, 2).requires_grad_(), draw(2, 4, 2).requires_grad_()
    expected = (twin(x) * twin(y)) @ ours.head.weight.data.t() + ours.head.bias.data
    cotangent = draw(3, 4, 1)
    expected.backward(cotangent)
    torch.testing.assert_close(ours(x.detach(), y.detach()), expected.detach())
    for grad, leaf in zip(ours.backward(cotangent), (x, y), strict=True):
        torch.testing.assert_close(grad, leaf.grad, rtol=1e-12, atol=1e-12)
    for name, parameter in twin.named_parameters():
        grad = dict(ours.encoder.named_parameters())[name].grad
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-12, atol=1e-12)


def test_5000_residual_blocks() -> None:
    depth = 5000
    model = nn.Sequential(*(nn.Residual(nn.Activation(shrink, slope)) for _ in range(depth)))
    x = draw(1, 3)
    model(x)
    leaf = x.clone().requires_grad_()
    output = leaf
    for _ in range(depth):
        output = output + shrink(output)
    output.sum().backward()
    grad = model.backward(torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-10, atol=0)


def shrink(x: Tensor) -> Tensor:
    return x.sin() * -1e-4


def slope(x: Tensor) -> Tensor:
    return x.cos() * -1e-4


# Containers, as torch's.


def layers(count: int, namespace: Any) -> list[Any]:
    return [namespace.Linear(1, i + 1) for i in range(count)]


@pytest.mark.parametrize("name", ["ModuleList", "Sequential"])
@pytest.mark.parametrize(
    "change",
    [
        lambda m, new: m.append(new),
        lambda m, new: m.insert(0, new),
        lambda m, new: m.insert(2, new),
        lambda m, new: m.extend([new, new]),
        lambda m, new: m.__setitem__(1, new),
        lambda m, new: m.__setitem__(-1, new),
        lambda m, new: m.__delitem__(0),
        lambda m, new: m.__delitem__(slice(1, 3)),
    ],
    ids=["append", "insert 0", "insert 2", "extend", "set 1", "set -1", "del 0", "del 1:3"],
)
def test_containers_change_as_torchs(change: Any, name: str) -> None:
    found = []
    for namespace in (torch.nn, nn):
        modules = layers(4, namespace)
        container = getattr(namespace, name)
        container = container(modules) if name == "ModuleList" else container(*modules)
        change(container, namespace.Linear(1, 9))
        shapes = [(key, tuple(t.shape)) for key, t in container.state_dict().items()]
        found.append((shapes, len(container), [m.out_features for m in container]))
    assert found[1] == found[0]


@pytest.mark.parametrize("name", ["ModuleList", "Sequential"])
@pytest.mark.parametrize("index", [slice(1, 3), slice(None, None, 2), slice(-1, None)], ids=str)
def test_slices_are_containers_of_torchs_names(index: slice, name: str) -> None:
    keys = []
    for namespace in (torch.nn, nn):
        modules = layers(4, namespace)
        container = getattr(namespace, name)
        container = container(modules) if name == "ModuleList" else container(*modules)
        assert type(container[index]) is type(container)
        assert container[-1] is modules[-1]
        with pytest.raises(IndexError):
            container[4]
        keys.append(list(container[index].state_dict()))
    assert keys[1] == keys[0]


def test_a_sequential_from_a_dict() -> None:
    model = nn.Sequential({"lift": nn.Linear(2, 3), "bend": nn.Tanh()})
    assert list(model.state_dict()) == ["lift.weight", "lift.bias"]
    assert model(torch.zeros(4, 2)).shape == (4, 3)
    assert model.append(nn.Linear(3, 1)) is model
    assert model(torch.zeros(4, 2)).shape == (4, 1)


def test_containers_hold_modules_alone() -> None:
    for make in (
        lambda: nn.ModuleList([torch.nn.Tanh()]),  # type: ignore[list-item]
        lambda: nn.ModuleList().append(torch.tanh),
        lambda: nn.Sequential(nn.Tanh()).insert(0, 3),
        lambda: nn.Sequential(nn.Tanh(), None),
    ):
        with pytest.raises(TypeError, match=r"expects modules of minifw\.nn, got"):
            make()
    with pytest.raises(NotImplementedError):
        nn.ModuleList([nn.Tanh()])(torch.ones(1))


# An activation from two functions.


class Sine(nn.Activation):
    def function(self, input: Tensor) -> Tensor:
        return torch.sin(input)

    def derivative(self, input: Tensor) -> Tensor:
        return torch.cos(input)


def test_an_activation_by_subclassing() -> None:
    x, grad_output = draw(1, 4, 3), draw(2, 4, 3)
    for module in (Sine(), nn.Activation(torch.sin, torch.cos), nn.Sequential(Sine())):
        assert torch.equal(module(x), x.sin())
        assert torch.equal(module.backward(grad_output), grad_output * x.cos())


def test_an_activation_lacks_nothing() -> None:
    class Half(nn.Activation):
        def function(self, input: Tensor) -> Tensor:
            return input / 2

    for make in (nn.Activation, lambda: nn.Activation(torch.sin), Half):
        with pytest.raises(TypeError, match="a function and its derivative"):
            make()
    with pytest.raises(RuntimeError, match="must work elementwise"):
        nn.Activation(torch.sum, torch.ones_like)(torch.ones(3))


# Broadcast branches and their gradients.


def test_gradients_of_mixed_dtypes_have_those_of_the_inputs() -> None:
    x, y = torch.ones(2, 3), torch.ones(3, dtype=torch.float64)
    for function in (functional.add, functional.multiply):
        output, pullback = function(x, y)
        assert output.dtype == torch.float64
        grads = pullback(torch.ones_like(output))
        assert [(g.dtype, g.shape) for g in grads] == [(t.dtype, t.shape) for t in (x, y)]


# The gradient of any tensor in between.


def test_backward_hooks_read_what_lies_in_between() -> None:
    def make(namespace: Any) -> Any:
        return namespace.Sequential(
            namespace.Linear(2, 3, **DOUBLE),
            namespace.Sequential(namespace.Tanh(), namespace.Linear(3, 3, **DOUBLE)),
            namespace.Sigmoid(),
        )

    ours, twin = make(nn), make(torch.nn)
    found: dict[Any, list[Any]] = {}
    for model in (twin, ours):
        for path, module in model.named_modules():
            module.register_full_backward_hook(
                lambda _, grad_input, grad_output, at=(model, path): found.update(
                    {at: [*grad_input, *grad_output]}
                )
            )
    ours.load_state_dict(twin.state_dict())
    leaf = draw(1, 4, 2).requires_grad_()
    twin(leaf).backward(draw(2, 4, 3))
    ours(leaf.detach())
    ours.backward(draw(2, 4, 3))
    assert len(found) == 12
    for path, _ in ours.named_modules():
        torch.testing.assert_close(found[ours, path], found[twin, path], rtol=1e-12, atol=1e-12)


def test_a_hook_in_a_forward_is_called_for_each_call_and_can_be_removed() -> None:
    model, seen = Siamese(), []
    handle = model.encoder.register_full_backward_hook(
        lambda module, grad_input, grad_output: seen.append(grad_output[0])
    )
    x, y = draw(1, 4, 2), draw(2, 4, 2)
    model(x, y)
    model.backward(draw(3, 4, 1))
    latest_first = [x, y]  # the derivative of the product in one is the other's code
    grad = draw(3, 4, 1) @ model.head.weight.data
    for code_of_the_other, read in zip(latest_first, seen, strict=True):
        torch.testing.assert_close(read, grad * model.encoder(code_of_the_other))
    handle.remove()
    handle.remove()
    model(x, y)
    model.backward(draw(3, 4, 1))
    assert len(seen) == 2


def test_what_a_hook_returns_replaces_the_gradient() -> None:
    grads = []
    for namespace in (torch.nn, nn):
        layer = namespace.Tanh()
        layer.register_full_backward_hook(lambda module, grad_input, _: (grad_input[0] * 2,))
        model = namespace.Sequential(namespace.Sigmoid(), layer)
        x = draw(1, 3)
        if namespace is nn:
            model(x)
            grads.append(model.backward(torch.ones_like(x)))
        else:
            model(x.requires_grad_()).backward(torch.ones_like(x))
            grads.append(x.grad)
    torch.testing.assert_close(grads[1], grads[0])


def test_a_copy_has_hooks_of_its_own() -> None:
    model, seen = nn.Tanh(), []
    handle = model.register_full_backward_hook(lambda *_: seen.append(1))
    other = copy.deepcopy(model)
    handle.remove()
    for module in (model, other):
        module(torch.ones(2))
        module.backward(torch.ones(2))
    assert len(seen) == 1


# Buffers.


class Center(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        self.register_buffer("mean", torch.tensor([1.0, 2.0]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.register_buffer("unused", None)
        self.linear = nn.Linear(2, 2)

    def rule(self, x: Tensor) -> Any:
        return x - self.mean, lambda grad: grad


def test_buffers_are_state() -> None:
    module = nn.Sequential(Center())
    assert [name for name, _ in module.named_buffers()] == ["0.mean", "0.count", "0.scratch"]
    assert list(module.state_dict()) == ["0.mean", "0.count", "0.linear.weight", "0.linear.bias"]
    other = nn.Sequential(Center())
    other[0].mean.zero_()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other[0].mean, torch.tensor([1.0, 2.0]))
    assert other[0].mean is not module[0].mean
    assert [p.shape for p in module.parameters()] == [(2, 2), (2,)]
    module.to(torch.float64)
    assert [b.dtype for b in module.buffers()] == [torch.float64, torch.int64, torch.float64]
    module[0].mean = torch.ones(2)  # stays a buffer
    assert torch.equal(module.state_dict()["0.mean"], torch.ones(2))
    with pytest.raises(TypeError, match="as buffer 'mean'"):
        module[0].mean = 3
    copied = copy.deepcopy(module)
    copied[0].register_buffer("more", torch.zeros(1))
    assert "0.more" not in module.state_dict()


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("a.b", torch.ones(1)), ("", None), ("weight", torch.ones(1)), (3, None), ("x", 1.0)],
    ids=repr,
)
def test_register_buffer_refuses_what_torch_refuses(name: Any, tensor: Any) -> None:
    with pytest.raises((KeyError, TypeError)) as theirs:
        torch.nn.Linear(1, 1).register_buffer(name, tensor)
    with pytest.raises(theirs.type):
        nn.Linear(1, 1).register_buffer(name, tensor)


def test_state_dicts_of_normalization_and_weights_go_both_ways() -> None:
    def make(namespace: Any) -> Any:
        return namespace.Sequential(
            namespace.BatchNorm1d(3),
            namespace.LayerNorm(3, bias=False),
            namespace.BatchNorm1d(3, affine=False, track_running_stats=False),
            namespace.CrossEntropyLoss(torch.tensor([0.2, 0.3, 0.5])),
        )

    ours, twin = make(nn), make(torch.nn)
    assert list(ours.state_dict()) == list(twin.state_dict())
    ours[0](draw(1, 5, 3).float())
    twin.load_state_dict(ours.state_dict())
    assert torch.equal(twin[0].running_var, ours[0].running_var)
    assert twin[0].num_batches_tracked == 1
    make(nn).load_state_dict(twin.state_dict())


def test_statistics_of_a_pass_without_gradients_count() -> None:
    layer = nn.BatchNorm1d(3)
    with minifw.no_grad():
        layer(draw(1, 5, 3).float())
    assert layer.num_batches_tracked == 1
