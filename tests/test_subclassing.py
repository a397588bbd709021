"""What a user's own class has to define, and what its forward may be given and call."""

from typing import Any

import pytest
import torch
from torch import Tensor

from minifw import nn, optim
from minifw.nn.loss import Loss
from minifw.optim.lr_scheduler import LRScheduler


class Underived(nn.Activation):
    def function(self, input: Tensor) -> Tensor:
        return input.sin()


class Lossless(Loss):
    pass


class Rateless(LRScheduler):
    pass


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (lambda x: Lossless()(x, x), "Lossless defines no loss"),
        (lambda x: Rateless(optim.SGD([nn.Parameter(x)])), "Rateless defines no lr_at"),
    ],
    ids=["loss", "schedule"],
)
def test_what_it_does_not_define_is_named(use: Any, named: str) -> None:
    with pytest.raises(NotImplementedError, match=named):
        use(torch.ones(3, 2))


def test_an_activation_defines_both_or_is_given_both() -> None:
    for arguments in ((), (torch.sin,), (None, torch.cos)):
        for activation in (nn.Activation, Underived):
            with pytest.raises(TypeError, match="pass both, or define both"):
                activation(*arguments)
    x = torch.rand(3)
    sine = Underived(torch.sin, torch.cos)
    torch.testing.assert_close(sine(x), x.sin())
    torch.testing.assert_close(sine.backward(torch.ones(3)), x.cos())


def test_an_error_whose_argument_is_no_text_passes_as_it_is() -> None:
    class Broken(nn.Module):
        def rule(self, input: Tensor) -> Any:
            raise KeyError(3)

    with pytest.raises(KeyError) as error:
        nn.Sequential(Broken())(torch.ones(1))
    assert error.value.args == (3,)


class Twice(nn.Sequential):
    """A Sequential that calls itself by the forward that it inherits."""

    def forward(self, input: Tensor) -> Any:
        return super().forward(super().forward(input))


def test_an_inherited_forward_is_called_as_any_module() -> None:
    model = Twice(nn.Linear(2, 2), nn.Tanh())
    x, g = torch.rand(2, 3, 2)
    model(x)
    grad_input = model.backward(g)

    leaf = x.clone().requires_grad_()
    weight, bias = (tensor.requires_grad_() for tensor in model.state_dict().values())
    once = torch.tanh(torch.nn.functional.linear(leaf, weight, bias))
    torch.tanh(torch.nn.functional.linear(once, weight, bias)).backward(g)
    torch.testing.assert_close(grad_input, leaf.grad)
    torch.testing.assert_close(model[0].weight.grad, weight.grad)


class Power(nn.Module):
    """Takes a number beside the tensor."""

    def rule(self, input: Tensor, exponent: int) -> Any:
        def pullback(grad_output: Tensor) -> tuple[Tensor, None]:
            return grad_output * exponent * input ** (exponent - 1), None

        return input**exponent, pullback


class Powers(nn.Module):
    def __init__(self) -> None:
        self.power = Power()

    def forward(self, input: Tensor, exponent: int) -> Any:
        return self.power(self.power(input, exponent), exponent)


def test_a_forward_may_be_given_what_is_no_tensor() -> None:
    model, x = Powers(), torch.rand(4) + 1
    torch.testing.assert_close(model(x, 3), x**9)
    grad_input, _ = model.backward(torch.ones(4))
    torch.testing.assert_close(grad_input, 9 * x**8)


class Halves(nn.Module):
    """A layer with a parameter and two outputs."""

    def __init__(self) -> None:
        self.linear = nn.Linear(3, 4)
        self.upper, self.lower = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, input: Tensor) -> Any:
        hidden = self.linear(input)
        return self.upper(hidden), self.lower(hidden)


def test_of_two_outputs_the_gradient_of_the_data_may_be_left_out() -> None:
    torch.manual_seed(0)
    model = Halves()
    x, first, second = torch.rand(5, 3), torch.rand(5, 1), torch.rand(5, 1)
    model(x)
    model.backward(first, second)
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model(x)
    assert model.backward(first, second, needs_input_grad=False) is None
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_no_input_is_an_error() -> None:
    with pytest.raises(TypeError, match="multiply expects at least one input"):
        nn.functional.multiply()


def test_statistics_that_are_not_there_are_an_error_in_evaluation() -> None:
    with pytest.raises(RuntimeError, match="expected running_mean and running_var"):
        nn.functional.batch_norm(torch.rand(3, 2), None, None, training=False)


def test_a_concatenation_shows_its_dimension() -> None:
    assert repr(nn.Concatenate(-1)) == "Concatenate(dim=-1)"


def test_an_empty_state_of_torchs_sgd_loads() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    theirs = torch.optim.SGD([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    theirs.step()
    state = theirs.state_dict()
    state["state"] = {0: {"momentum_buffer": None}}  # as torch before 2.3 wrote it
    ours = optim.SGD([nn.Parameter(torch.ones(2))], lr=0.5)
    ours.load_state_dict(state)
    assert ours.param_groups[0]["lr"] == 0.1
    assert ours.state_dict()["state"] == {0: {"momentum_buffer": None}}
