"""Right code that differs from PyTorch in what no formula promises, and wrong code like it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minifw.testing import Status, verify
from minifw.testing.clause import CLAUSES

DOUBLE = {"dtypes": ["float64"], "max_examples": 0}


def only(*clauses: str) -> list[str]:
    return [name for name in CLAUSES if name not in ("derivative", *clauses)]


class Float32Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.float() ** 2

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return 2 * input.float() * grad_output


class WrongFloat32Square(Float32Square):
    @staticmethod
    def backward(ctx, grad_output):
        return ctx.saved_tensors[0].float() * grad_output


@pytest.mark.parametrize(
    ("subject", "status"), [(Float32Square, Status.PASSED), (WrongFloat32Square, Status.FAILED)]
)
def test_float32_whatever_is_given_is_judged_in_float32(subject, status):
    report = verify(
        subject, torch.square, ["4,5"], dtypes=["float64", "float32"], max_examples=0,
        skip=only("precision"),
    )  # fmt: skip
    assert report.status == status, report
    assert "judged in float32" in str(report)


class InPlaceTanh:
    def forward(self, input: Tensor) -> Tensor:
        self.output = input.tanh_()
        return self.output

    def backward(self, grad_output: Tensor) -> Tensor:
        return grad_output.mul_(1 - self.output**2)


def test_in_place_holds_for_every_check():
    clauses = only("side-effects", "life", "accumulation")
    settings = {**DOUBLE, "skip": clauses, "contract": "torch"}
    assert verify(InPlaceTanh, nn.Tanh, ["4,5"], in_place=True, **settings).status == "PASSED"
    report = verify(InPlaceTanh, nn.Tanh, ["4,5"], **settings)
    assert report.status == Status.FAILED
    assert "was modified" in str(report)


class Clamp(torch.autograd.Function):
    """The derivative at both ends is that of the inside; PyTorch's hardtanh has the outside's."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.clamp(-1, 1)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * ((input >= -1) & (input <= 1))


def test_either_side_of_a_kink_is_right_in_chained_calls_too():
    settings = {**DOUBLE, "skip": only("kinks", "call-order")}
    assert verify(Clamp, nn.functional.hardtanh, ["4,5"], **settings).status == Status.PASSED
    strict = verify(Clamp, nn.functional.hardtanh, ["4,5"], contract="minifw", **settings)
    assert [c.name for c in strict.clauses if c.state == "broken"] == ["kinks"]


class EmptyMean:
    def forward(self, input: Tensor) -> Tensor:
        self.shape = input.shape
        return input.sum() / max(input.numel(), 1)

    def backward(self) -> Tensor:
        return torch.full(self.shape, 1 / self.shape.numel())


def test_what_the_reference_makes_of_nothing_is_excused_if_it_is_nan():
    report = verify(EmptyMean, torch.mean, ["4,5"], skip=only("empty"), **DOUBLE)
    assert "empty" not in [c.name for c in report.clauses if c.state == "broken"], report


class Misspelled:
    def forward(self, input: Tensor) -> Tensor:
        return input.tanh()

    def backward(self, grad_output: Tensor) -> Tensor:
        return grad_output * (1 - self.outputt**2)  # type: ignore[attr-defined]


def test_a_crash_in_a_plausible_call_is_an_error():
    report = verify(Misspelled, nn.Tanh, ["4,5"], **DOUBLE)
    assert report.status == Status.ERROR
    assert "AttributeError: 'Misspelled' object has no attribute 'outputt'" in str(report)


class Lazy:
    """Makes its parameters when it is told the shape, and updates them by an optimizer."""

    def __init__(self, units: int) -> None:
        self.units = units

    def set_input_shape(self, shape: tuple[int, ...]) -> None:
        self.input_shape = shape

    def initialize(self, optimizer) -> None:
        self.w = np.zeros((self.input_shape[0], self.units))
        self.b = np.zeros((1, self.units))
        self.optimizer = optimizer

    def forward_pass(self, x, training=True):
        self.x = x
        return x @ self.w + self.b

    def backward_pass(self, grad):
        grad_input = grad @ self.w.T
        self.w = self.optimizer.update(self.w, self.x.T @ grad)
        self.b = self.optimizer.update(self.b, grad.sum(0, keepdims=True) * self.factor)
        return grad_input

    factor = 1


class WrongLazy(Lazy):
    factor = 2


def test_layer_that_makes_its_parameters_when_told_the_shape():
    def report(subject):
        return verify(
            subject, nn.Linear, ["4,5"], (3,), reference_arguments=(5, 3), skip=only(), **DOUBLE
        )

    assert report(Lazy).status == Status.PASSED
    assert report(WrongLazy).status == Status.FAILED


class StoresRateTimesGradient:
    def __init__(self) -> None:
        self.weight, self.weight_grad = torch.ones(5), torch.zeros(5)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x * self.weight

    def backward(self, grad: Tensor, lr: float) -> Tensor:
        grad_input = grad * self.weight
        self.weight_grad = lr * (grad * self.x).sum(0)
        self.weight = self.weight - self.weight_grad
        return grad_input


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def test_a_rate_in_a_stored_gradient_is_found():
    report = verify(StoresRateTimesGradient, Scale, ["4,5"], skip=only(), **DOUBLE)
    assert report.status == Status.FAILED
    assert "weight.grad" in str(report)


class WithSetter:
    def set_labels(self, labels: Tensor) -> None:
        self.labels = labels

    def forward(self, scores: Tensor) -> Tensor:
        p = scores.softmax(1)
        rows = torch.arange(len(scores))
        self.gradient = p.clone()
        self.gradient[rows, self.labels] -= 1
        self.gradient /= len(scores)
        return -p[rows, self.labels].log().mean()

    def backward(self) -> Tensor:
        return self.gradient


def test_loss_that_takes_its_target_by_a_setter():
    report = verify(WithSetter, nn.CrossEntropyLoss, ["4,5", "4:long:5"], skip=only(), **DOUBLE)
    assert report.status == Status.PASSED, report
