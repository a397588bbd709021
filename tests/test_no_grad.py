"""What a call keeps for its backward pass, until when, and that no_grad keeps nothing."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from composed_models import Model, diamonds, draw
from torch import Tensor

import minifw
from minifw import nn


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
