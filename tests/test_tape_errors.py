"""What the tape cannot follow is an error, which names the module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from composed_models import Model, draw
from torch import Tensor

from minifw import nn


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
