"""Optimizers as others write them: right ones pass, wrong ones fail and are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.examples import optimizer as examples
from minifw.testing import Report, Status, UsageError
from minifw.testing.optimizers import verify_optimizer

SGD, ADAM = torch.optim.SGD, torch.optim.Adam
ADAMW, ADAGRAD, RMSPROP = torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop


def verify(subject: Any, reference: Any, **options: Any) -> Report:
    return verify_optimizer(subject, reference, options={"lr": 0.01, **options})


class TorchStyle:
    """On parameters with .data and .grad, rebinding; the subclass has the formula."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        self.params, self.lr, self.weight_decay = list(params), lr, weight_decay
        self.state: dict[int, Any] = {}

    def zero_grad(self) -> None:
        for parameter in self.params:
            parameter.grad = None

    def step(self) -> None:
        for index, parameter in enumerate(self.params):
            if parameter.grad is not None:
                parameter.data = self.update(self.place(index, parameter), parameter)

    def place(self, index: int, parameter: Any) -> Any:
        return index

    def update(self, place: Any, parameter: Any) -> Any:
        return parameter.data - self.lr * (parameter.grad + self.weight_decay * parameter.data)


class Pairs:
    """On a model whose param() returns pairs, in place; the learning rate is eta."""

    def __init__(self, model: Any, eta: float, momentum: float = 0.0) -> None:
        self.model, self.eta, self.momentum = model, eta, momentum
        self.buffers = [torch.zeros_like(p) for p, _ in model.param()]

    def step(self) -> None:
        for (value, grad), buffer in zip(self.model.param(), self.buffers, strict=True):
            buffer.mul_(self.momentum).add_(self.gradient(value, grad))
            value.sub_(self.eta * buffer)

    def gradient(self, value: Any, grad: Any) -> Any:
        return grad


class ModelAtStep:
    """Told the model with every step."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def step(self, net: Any) -> None:
        for value, grad in net.params_and_grads():
            value -= self.lr * grad


class Dicts:
    """update(params, grads) on dicts of NumPy arrays, in place."""

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.9, epsilon: float = 1e-8) -> None:
        self.lr, self.decay_rate, self.epsilon = lr, decay_rate, epsilon
        self.h: dict[str, Any] = {}

    def update(self, params: dict[str, Any], grads: dict[str, Any]) -> None:
        for key in params:
            old = self.h.get(key, 0.0)
            self.h[key] = self.decay_rate * old + (1 - self.decay_rate) * grads[key] ** 2
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + self.epsilon)


class OneEach:
    """update(w, grad) -> w, one optimizer a parameter."""

    def __init__(self, learning_rate: float = 0.01) -> None:
        self.learning_rate, self.sum, self.eps = learning_rate, 0.0, 1e-10

    def update(self, w: Any, grad_wrt_w: Any) -> Any:
        self.sum = self.sum + grad_wrt_w**2
        return w - self.learning_rate * grad_wrt_w / (np.sqrt(self.sum) + self.eps)


def in_place(params: Any, grads: Any, alpha: float) -> None:
    for key in params:
        params[key] -= alpha * grads[key]


def returned(params: Any, grads: Any, learning_rate: float) -> Any:
    return [p - learning_rate * g for p, g in zip(params, grads, strict=True)]


class Float32(Pairs):
    """Its buffers are of float32, whatever the weights are."""

    def __init__(self, model: Any, eta: float, momentum: float = 0.0) -> None:
        super().__init__(model, eta, momentum)
        self.buffers = [buffer.float() for buffer in self.buffers]

    def step(self) -> None:
        for value, _grad in self.model.param():
            if value.dtype != torch.float32:
                raise TypeError("float32 alone")
        super().step()


def adapter(weights: Any, lr: float) -> Any:
    class Made:
        def step(self, gradients: Any) -> Any:
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= lr * gradient
            return weights

    return Made()


RIGHT: list[tuple[Any, Any, dict[str, Any], str]] = [
    (TorchStyle, SGD, {}, "torch.nn.Parameter"),
    (TorchStyle, SGD, {"weight_decay": 0.1}, "torch.nn.Parameter"),
    (Pairs, SGD, {}, "lr is called eta"),
    (Pairs, SGD, {"momentum": 0.9}, "a model; a parameter is a pair"),
    (ModelAtStep, SGD, {}, "a model; a parameter is a pair"),
    (Dicts, RMSPROP, {}, "alpha is called decay_rate"),
    (OneEach, ADAGRAD, {}, "one optimizer a parameter"),
    (in_place, SGD, {}, "lr is called alpha"),
    (returned, SGD, {}, "lr is called learning_rate"),
    (Float32, SGD, {"momentum": 0.9}, "float32 alone"),
    (adapter, SGD, {}, "step(gradients)"),
    (examples.Adam, ADAM, {}, "betas is called beta1, beta2"),
    (examples.momentum, SGD, {"momentum": 0.9}, "one config a parameter"),
]


@pytest.mark.parametrize(
    ("subject", "reference", "options", "note"),
    RIGHT,
    ids=lambda value: getattr(value, "__name__", None),
)
def test_right_optimizers_pass(
    subject: Any, reference: Any, options: dict[str, Any], note: str
) -> None:
    report = verify(subject, reference, **options)
    assert report.status == Status.PASSED, report
    assert any(note in text for text in report.notes), report.notes
    powers = [verdict.power for verdict in report.verdicts if verdict.check == "one parameter"]
    # A relative error of 1e-5 in the updates would have been detected.
    assert report.dtypes[0] == "float32" or min(powers) > 0.5


# Wrong ones, of every family.


class SharedBuffer(TorchStyle):
    """The place of a buffer collides for parameters of one shape."""

    def place(self, index: int, parameter: Any) -> Any:
        return tuple(parameter.shape)

    def update(self, place: Any, parameter: Any) -> Any:
        self.state[place] = 0.9 * self.state.get(place, 0.0) + parameter.grad
        return parameter.data - self.lr * self.state[place]


class SharedCounter(examples.Adam):
    """t advances with every parameter."""

    def step(self) -> None:
        every, moments = self.param, self.moments
        for index in range(len(every)):
            self.param, self.moments = every[index : index + 1], moments[index : index + 1]
            super().step()
        self.param, self.moments = every, moments


class StartsLate(examples.Adam):
    def corrections(self) -> tuple[float, float]:
        return 1 - self.beta1 ** (self.t + 1), 1 - self.beta2 ** (self.t + 1)


class Uncorrected(examples.Adam):
    def corrections(self) -> tuple[float, float]:
        return 1.0, 1.0


class EpsInside(OneEach):
    def update(self, w: Any, grad_wrt_w: Any) -> Any:
        self.sum = self.sum + grad_wrt_w**2
        return w - self.learning_rate * grad_wrt_w / np.sqrt(self.sum + self.eps)


class OtherEps(OneEach):
    def __init__(self, learning_rate: float = 0.01) -> None:
        super().__init__(learning_rate)
        self.eps = 1e-7


class NeverAccumulates(OneEach):
    def update(self, w: Any, grad_wrt_w: Any) -> Any:
        self.sum = 0.0
        return super().update(w, grad_wrt_w)


class NoRoot(Dicts):
    def update(self, params: dict[str, Any], grads: dict[str, Any]) -> None:
        for key in params:
            old = self.h.get(key, 0.0)
            self.h[key] = self.decay_rate * old + (1 - self.decay_rate) * grads[key] ** 2
            params[key] -= self.lr * grads[key] / (self.h[key] + self.epsilon)


class WrongSign(Pairs):
    def gradient(self, value: Any, grad: Any) -> Any:
        return -grad


class RateTwice(Pairs):
    def gradient(self, value: Any, grad: Any) -> Any:
        return self.eta * grad


class ForgetsDecay(TorchStyle):
    def update(self, place: Any, parameter: Any) -> Any:
        return parameter.data - self.lr * parameter.grad


class BareDecay(TorchStyle):
    def update(self, place: Any, parameter: Any) -> Any:
        return (1 - self.weight_decay) * parameter.data - self.lr * parameter.grad


class CoupledAdam(torch.optim.Adam):
    """Taken for AdamW."""


class Averages(Pairs):
    def gradient(self, value: Any, grad: Any) -> Any:
        return (1 - self.momentum) * grad


class ZeroesWeights(Pairs):
    def zero_grad(self) -> None:
        for value, _ in self.model.param():
            value.zero_()


class NeverMoves(Pairs):
    def step(self) -> None:
        pass


class Crashes(Pairs):
    calls = 0

    def step(self) -> None:
        super().step()
        if self.model.param()[0][0].abs().max() > 1 and self.momentum:
            raise RuntimeError("diverged")


WRONG: list[tuple[Any, Any, dict[str, Any], str]] = [
    (examples.WrongAdam, ADAM, {}, "lacks the power t"),
    (StartsLate, ADAM, {}, "starts at t = 2"),
    (Uncorrected, ADAM, {}, "bias correction is missing"),
    (SharedCounter, ADAM, {}, "t advances once a parameter"),
    (EpsInside, ADAGRAD, {}, "eps is inside the square root"),
    (OtherEps, ADAGRAD, {}, "eps is 1e-07"),
    (NeverAccumulates, ADAGRAD, {}, "never accumulates"),
    (NoRoot, RMSPROP, {}, "square root of the second moment is missing"),
    (WrongSign, SGD, {}, "the sign is wrong"),
    (examples.wrong_momentum, SGD, {"momentum": 0.9}, "the sign is wrong"),
    (RateTwice, SGD, {}, "learning rate is applied twice"),
    (ForgetsDecay, SGD, {"weight_decay": 0.1}, "weight decay is ignored"),
    (BareDecay, SGD, {"weight_decay": 0.1}, "weight decay lacks the learning rate"),
    (CoupledAdam, ADAMW, {"weight_decay": 0.1}, "weight decay is coupled"),
    (ADAMW, ADAM, {"weight_decay": 0.1}, "weight decay is decoupled"),
    (Averages, SGD, {"momentum": 0.9}, "weighted by 1 - momentum"),
    (ZeroesWeights, SGD, {}, "zero_grad zeroes the weights"),
    (NeverMoves, SGD, {}, "moves nothing"),
]


@pytest.mark.parametrize(
    ("subject", "reference", "options", "words"),
    WRONG,
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_optimizers_fail_and_the_mistake_is_named(
    subject: Any, reference: Any, options: dict[str, Any], words: str
) -> None:
    report = verify(subject, reference, **options)
    assert report.status == Status.FAILED, report
    assert words in report.diagnosis, report
    assert words in str(report)


def test_a_buffer_shared_by_shape_is_found_with_several_parameters_alone() -> None:
    report = verify_optimizer(
        SharedBuffer, SGD, options={"lr": 0.01}, reference_options={"lr": 0.01, "momentum": 0.9}
    )
    assert report.status == Status.FAILED, report
    assert "shared between parameters of one shape" in report.diagnosis
    assert [v.status for v in report.verdicts if v.check == "one parameter"] == [Status.PASSED]


def test_an_optimizer_that_raises_is_an_error() -> None:
    report = verify(Crashes, SGD, momentum=0.9)
    assert report.status == Status.ERROR
    assert "diverged" in str(report)


class RateInTheBuffer(Pairs):
    def step(self) -> None:
        for (value, grad), buffer in zip(self.model.param(), self.buffers, strict=True):
            buffer.mul_(self.momentum).add_(self.eta * grad)
            value.sub_(buffer)


class ClipsTheGradient(TorchStyle):
    def update(self, place: Any, parameter: Any) -> Any:
        data = parameter.data - self.lr * parameter.grad
        parameter.grad *= 0
        return data


class NeedsGradients(TorchStyle):
    def step(self) -> None:
        for parameter in self.params:
            parameter.data = parameter.data - self.lr * parameter.grad


@pytest.mark.parametrize(
    ("subject", "options", "clause"),
    [
        (RateInTheBuffer, {"momentum": 0.9}, "changed-rate"),
        (ClipsTheGradient, {}, "side-effects"),
        (NeedsGradients, {}, "none-gradients"),
    ],
)
def test_clauses_that_decide_if_required(
    subject: Any, options: dict[str, Any], clause: str
) -> None:
    report = verify(subject, SGD, **options)
    assert report.status == Status.PASSED, report
    assert {c.name: c.state for c in report.clauses}[clause] == "broken", report
    strict = verify_optimizer(subject, SGD, options={"lr": 0.01, **options}, require=[clause])
    assert strict.status in (Status.FAILED, Status.ERROR)


def test_torchs_own_pass_and_every_clause_is_tried() -> None:
    report = verify(ADAM, ADAM)
    assert (report.status, report.contract) == (Status.PASSED, "torch"), report
    assert {clause.state for clause in report.clauses} == {"kept"}


def test_defaults_of_the_reference_are_passed_on_and_noted() -> None:
    report = verify(Dicts, RMSPROP)
    assert "decay_rate is 0.9 by default, 0.99 in PyTorch, which was passed on" in report.notes


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: verify(ModelAtStep, SGD, momentum=0.9), "no setting for momentum=0.9"),
        (lambda: verify(Pairs, SGD, lr=-1.0), "the reference cannot be made"),
        (lambda: verify(Pairs, SGD, rate=1), "refuses.*rate"),
        (lambda: verify(Pairs, torch.nn.Linear), "expected a class of torch.optim"),
        (lambda: verify(dict, SGD), "no way of calling|no setting"),
    ],
)
def test_usage_errors(call: Callable[[], Report], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        call()


class NAdam:
    """Adam with Nesterov momentum, its product of momenta in the dtype of the weights."""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
        self.params, self.lr, self.betas, self.eps = list(params), lr, betas, eps
        self.decay, self.t, self.product = momentum_decay, 0, 1.0
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]

    def step(self):
        self.t += 1
        b1, b2 = self.betas
        mu, after = (b1 * (1 - 0.5 * 0.96 ** (t * self.decay)) for t in (self.t, self.t + 1))
        self.product *= mu
        for p, m, v in zip(self.params, self.m, self.v, strict=True):
            m.mul_(b1).add_(p.grad, alpha=1 - b1)
            v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
            size = (v / (1 - b2**self.t)).sqrt() + self.eps
            ahead = (1 - mu) / (1 - self.product) * p.grad
            ahead = ahead + after / (1 - self.product * after) * m
            p.data.sub_(self.lr * ahead / size)


def test_what_pytorch_multiplies_up_is_in_the_dtype_of_the_race():
    report = verify_optimizer(NAdam, torch.optim.NAdam, (), {"lr": 0.01}, allow=["none-gradients"])
    assert report.status == "PASSED", report
