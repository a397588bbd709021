"""Freezing and transfer: what is not trained costs nothing, and can be replaced."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import nn, optim
from minifw.nn import functional, rule


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def network() -> nn.Sequential:
    generator = Generator().manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4, generator=generator),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Residual(nn.Linear(4, 4, generator=generator)),
        nn.LayerNorm(4),
        nn.Linear(4, 2, generator=generator),
    )


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, tuple[bool, ...]]]]:
    """What the pullback of each parametric function was asked for, in order."""
    asked: list[tuple[str, tuple[bool, ...]]] = []

    def watch(function: Any, *args: Any, **options: Any) -> Any:
        def watched(*args: Any, **options: Any) -> Any:
            output, pullback = function(*args, **options)

            def watched_pullback(grad: Tensor, needs: Any) -> Any:
                asked.append((function.__name__, tuple(needs)))
                return pullback(grad, needs)

            return output, watched_pullback

        return rule.parametric_rule(watched, *args, **options)

    for name in ("linear", "normalization", "batch_norm"):
        monkeypatch.setattr(f"minifw.nn.{name}.parametric_rule", watch)
    with minifw.plans.disabled():
        yield asked


def test_frozen_layers_at_the_front_cost_nothing(needed: list[Any]) -> None:
    model = network()
    for module in list(model)[:4]:
        module.requires_grad_(False)
    model(draw(1, 5, 3))
    model.backward(draw(2, 5, 2), needs_input_grad=False)
    assert needed == [("linear", (True, True, True)), ("layer_norm", (False, True, True))]
    assert all(p.grad is None for module in list(model)[:4] for p in module.parameters())


def test_frozen_parameters_are_not_differentiated(needed: list[Any]) -> None:
    model = network()
    model.requires_grad_(False)
    model[1].bias.requires_grad_()
    model(draw(1, 5, 3))
    model.backward(draw(2, 5, 2), needs_input_grad=False)
    assert needed == [
        ("linear", (True, False, False)),
        ("layer_norm", (True, False, False)),
        ("linear", (True, False, False)),
        ("batch_norm", (False, False, True)),
    ]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["1.bias"]


def test_gradients_are_those_of_the_whole() -> None:
    whole, part = network(), network()
    part[0].requires_grad_(False)
    part[4].weight.requires_grad = False
    for model in (whole, part):
        model(draw(1, 5, 3))
    grads = [model.backward(draw(2, 5, 2)) for model in (whole, part)]
    assert torch.equal(grads[0], grads[1])
    expected = dict(whole.named_parameters())
    for name, parameter in part.named_parameters():
        if name in ("0.weight", "0.bias", "4.weight"):
            assert parameter.grad is None
        else:
            assert torch.equal(expected[name].grad, parameter.grad)


def test_frozen_parameters_stay_and_survive_a_state_dict() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.data.clone()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    model(draw(1, 5, 3))
    model.backward(draw(2, 5, 2))
    optimizer.step()
    assert torch.equal(before, model[0].weight.data)
    assert not torch.equal(network()[5].weight.data, model[5].weight.data)

    model.load_state_dict(network().state_dict())
    assert [p.requires_grad for p in model[0].parameters()] == [False, False]
    assert all(p.requires_grad for p in model[5].parameters())


def test_a_trained_body_under_a_new_head() -> None:
    trained, model = network(), network()
    for parameter in trained.parameters():
        parameter.data.normal_(generator=Generator().manual_seed(7))
    del trained[5]
    model.load_state_dict(trained.state_dict(), strict=False)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert torch.equal(network()[5].weight.data, model[5].weight.data)


def test_a_parameter_is_replaced_from_outside() -> None:
    layer = nn.Linear(3, 2)
    x, grad_output = draw(1, 5, 3), draw(2, 5, 2)
    new = draw(3, 2, 3)
    layer.weight = nn.Parameter(new)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert torch.equal(layer(x), functional.linear(x, new, layer.bias.data)[0])
    layer.backward(grad_output)
    torch.testing.assert_close(layer.weight.grad, grad_output.t() @ x)
    with pytest.raises(TypeError, match=r"assign to weight\.data"):
        layer.weight = new  # type: ignore[assignment]
