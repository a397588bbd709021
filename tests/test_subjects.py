"""Subjects without an adapter: how each family is recognized, and what is said of it."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from minifw.testing import Status, UsageError
from minifw.testing.case import Input
from minifw.testing.check import check
from minifw.testing.comparison import Comparison, draw
from minifw.testing.cross_check import gradcheck, hear
from minifw.testing.example import Example, draw_inputs, parse_input
from minifw.testing.from_text import comparison_from_text, load, read_call
from minifw.testing.subjects import Subject, recognized, supported_dtypes
from minifw.testing.verdict import overall

DOUBLE = torch.float64


def compared(
    subject: Any, reference: Any, *inputs: str, arguments: tuple[Any, ...] = (), **more: Any
) -> Comparison:
    return Comparison("", subject, reference, tuple(map(parse_input, inputs)), arguments, **more)


def status(comparison: Comparison, **example: Any) -> Status:
    dtype = supported_dtypes(comparison)[0]
    return overall(v.status for v in check(comparison, Example(dtype=dtype, **example)))


def made(comparison: Comparison) -> Subject:
    dtype = supported_dtypes(comparison)[0]
    return draw(comparison, Example(dtype=dtype)).subject(getattr(torch, dtype))


# Parameters, however an object keeps them.


class Base:
    """x W + b with W as (in, out), and gradients that are rebound."""

    turned = False

    def __init__(self, inputs: int, outputs: int) -> None:
        self.w, self.b = torch.randn(inputs, outputs), torch.zeros(outputs)
        self.gw, self.gb = torch.zeros_like(self.w), torch.zeros_like(self.b)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x @ self.w + self.b

    def backward(self, grad: Tensor) -> Any:
        self.gw, self.gb = self.gw + self.x.t() @ grad, self.gb + grad.sum(0)
        return grad @ self.w.t()


class Pairs(Base):
    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w, self.gw), (self.b, self.gb)]


class PairsAsProperty(Base):
    @property
    def params(self) -> list[list[Tensor]]:
        return [[self.w, self.gw], [self.b, self.gb]]


class Flat(Base):
    def parameters(self) -> list[Tensor]:
        return [self.w, self.b, self.gw, self.gb]


class Alternating(Base):
    def param(self) -> list[Tensor]:
        return [self.w, self.gw, self.b, self.gb]


class OneTuple(Base):
    def param(self) -> list[tuple[Tensor, ...]]:
        return [(self.w, self.b, self.gw, self.gb)]


class DictOfDicts(Base):
    def parameters(self) -> dict[str, dict[str, Tensor]]:
        return {"w": {"value": self.w, "grad": self.gw}, "b": {"value": self.b, "grad": self.gb}}


class KeyedByModule(Base):
    def param(self) -> dict[Any, list[Tensor]]:
        return {self: [self.w, self.gw], "bias": [self.b, self.gb]}


class Parameter:
    def __init__(self, value: Tensor) -> None:
        self.value, self.grad = value, torch.zeros_like(value)


class Objects(Base):
    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = Parameter(torch.randn(inputs, outputs))
        self.bias = Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, grad: Tensor) -> Tensor:
        self.weight.grad += self.x.t() @ grad
        self.bias.grad += grad.sum(0)
        return grad @ self.weight.value.t()


class Generated(Objects):
    def param(self) -> Iterator[Any]:
        yield OrderedDict(weight=self.weight, bias=self.bias)


class Apart(Base):
    def params(self) -> list[Tensor]:
        return [self.w, self.b]

    def grads(self) -> list[Tensor]:
        return [self.gw, self.gb]


class Attributes(Base):
    """Nothing but attributes."""


class Clones(Base):
    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w.clone(), self.gw.clone()), (self.b.clone(), self.gb.clone())]


class Returned(Base):
    def backward(self, grad: Tensor) -> Any:
        return grad @ self.w.t(), [self.x.t() @ grad, grad.sum(0)]


class ReturnedInARow(Base):
    def backward(self, grad: Tensor) -> Any:
        return grad @ self.w.t(), self.x.t() @ grad, grad.sum(0)


class Updating(Base):
    def backward(self, grad: Tensor, lr: float) -> Any:  # type: ignore[override]
        grad_input = grad @ self.w.t()
        self.w = self.w - lr * self.x.t() @ grad
        self.b = self.b - lr * grad.sum(0)
        return grad_input


class WithInput(Base):
    def backward(self, x: Tensor, grad: Tensor) -> Any:  # type: ignore[override]
        self.x = x
        return super().backward(grad)


class Joined(Base):
    """The bias as the last row of one matrix."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.theta = torch.randn(inputs + 1, outputs)
        self.grad_theta = torch.zeros_like(self.theta)

    def forward(self, x: Tensor) -> Tensor:
        self.x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        return self.x @ self.theta

    def backward(self, grad: Tensor) -> Tensor:
        self.grad_theta += self.x.t() @ grad
        return (grad @ self.theta.t())[:, :-1]


class Columns(Base):
    """W x + b of samples in columns, with a bias of (out, 1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.W, self.b = torch.randn(outputs, inputs), torch.zeros(outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.W @ x + self.b

    def backward(self, grad: Tensor) -> Tensor:
        self.dW, self.db = grad @ self.x.t(), grad.sum(1, keepdim=True)
        return self.W.t() @ grad


FAMILIES = [
    Pairs, PairsAsProperty, Flat, Alternating, OneTuple, DictOfDicts, KeyedByModule, Objects,
    Generated, Apart, Attributes, Clones, Returned, ReturnedInARow, Updating, WithInput, Joined,
    Columns,
]  # fmt: skip


def halved(family: type[Base]) -> type[Base]:
    """The same with one half of every gradient."""

    class Halved(family):  # type: ignore[misc, valid-type]
        def backward(self, *arguments: Any) -> Any:
            return super().backward(*arguments[:-1], arguments[-1] / 2)

    return Halved


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(5, 3), (3, 3)], ids=["5 to 3", "square"])
def test_parameters_are_found_and_matched(family: type[Base], sizes: tuple[int, int]) -> None:
    comparison = compared(family, torch.nn.Linear, f"4,{sizes[0]}", arguments=sizes)
    assert status(comparison) == Status.PASSED
    subject = made(comparison)
    assert {"weight": (sizes[1], sizes[0]), "bias": (sizes[1],)} == {
        name: tuple(tensor.shape) for name, tensor in subject.parameters().items()
    }


@pytest.mark.parametrize("family", [f for f in FAMILIES if f is not Updating])
def test_wrong_gradients_fail_in_every_family(family: type[Base]) -> None:
    comparison = compared(halved(family), torch.nn.Linear, "4,5", arguments=(5, 3))
    assert status(comparison) == Status.FAILED


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_can_be_written_and_gradients_set_to_zero(family: type[Base]) -> None:
    comparison = compared(family, torch.nn.Linear, "4,5", arguments=(5, 3))
    subject = made(comparison)
    values = {"weight": torch.randn(3, 5, dtype=DOUBLE), "bias": torch.randn(3, dtype=DOUBLE)}
    subject.set_parameters(values)
    assert all(torch.equal(values[name], t) for name, t in subject.parameters().items())
    input = torch.randn(4, 5, dtype=DOUBLE)
    (output,) = subject.forward(input)
    torch.testing.assert_close(
        output, torch.nn.functional.linear(input, values["weight"], values["bias"])
    )
    subject.backward(torch.ones_like(output))
    subject.zero_gradients()
    assert not any(grad.any() for grad in subject.gradients().values() if grad is not None)


def test_the_match_is_told() -> None:
    notes = made(compared(Pairs, torch.nn.Linear, "4,5", arguments=(5, 3))).notes
    assert "parameter param.0 (5, 3) is the reference's weight (3, 5), transposed" in notes
    assert any("samples are columns" in note for note in
               made(compared(Columns, torch.nn.Linear, "4,5", arguments=(5, 3))).notes)  # fmt: skip


def test_an_object_without_such_parameters_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the subject has parameters .*'weight': \(3, 7\)"):
        recognized(
            compared(Pairs, lambda *_: torch.nn.Linear(7, 3), "6,7", arguments=(5, 3))
        )  # fmt: skip


def test_a_constructor_that_does_not_match_is_shown_beside_the_reference() -> None:
    class Other(Base):
        def __init__(self, name: str, inputs: int, outputs: int, units: int) -> None:
            super().__init__(inputs, outputs)

    with pytest.raises(UsageError, match=r"Other\(name: str, .* torch|Other\(name.*Linear\("):
        recognized(compared(Other, torch.nn.Linear, "4,5", arguments=(5, 3)))
    separate = compared(Other, torch.nn.Linear, "4,5", arguments=("a", 5, 3, 0),
                        reference_arguments=(5, 3))  # fmt: skip
    assert status(separate) == Status.PASSED


def test_arrays_are_given_to_a_constructor_that_takes_them() -> None:
    class Affine:
        def __init__(self, W: Any, b: Any) -> None:  # noqa: N803
            self.W, self.b, self.dW, self.db = W, b, None, None

        def forward(self, x: Any) -> Any:
            self.x = np.asarray(x)
            return self.x @ np.asarray(self.W) + np.asarray(self.b)

        def backward(self, dout: Any) -> Any:
            dout = np.asarray(dout)
            self.dW, self.db = self.x.T @ dout, dout.sum(0)
            return dout @ np.asarray(self.W).T

    assert status(compared(Affine, torch.nn.Linear, "4,5", arguments=(5, 3))) == Status.PASSED


# Calls: one or a stack, added or overwritten.


class Stack(Base):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x)
        return super().forward(x)

    def backward(self, grad: Tensor) -> Any:
        self.x = self.inputs.pop()
        return super().backward(grad)


class Overwriting(Base):
    def backward(self, grad: Tensor) -> Any:
        self.gw, self.gb = torch.zeros_like(self.w), torch.zeros_like(self.b)
        return super().backward(grad)


@pytest.mark.parametrize(
    ("family", "one_call", "overwrites"),
    [(Base, True, False), (Stack, False, False), (Overwriting, True, True)],
)
def test_what_several_calls_do_is_found_by_trying(
    family: type[Base], one_call: bool, overwrites: bool
) -> None:
    subject = made(compared(family, torch.nn.Linear, "4,5", arguments=(5, 3)))
    assert (one_call, overwrites) == (subject.one_call, subject.overwrites)


# Losses.


def mse(forward: Callable[[Tensor], Any], backward: Callable[[Tensor], Any]) -> type:
    class Loss:
        def forward(self, prediction: Tensor, target: Tensor) -> Any:
            self.error = prediction - target
            return forward(self.error)

        def backward(self) -> Any:
            return backward(self.error)

    return Loss


@pytest.mark.parametrize(
    ("forward", "backward", "expected"),
    [
        (lambda e: e.square().mean(), lambda e: 2 * e / e.numel(), Status.PASSED),
        (lambda e: e.square().sum(), lambda e: 2 * e, Status.PASSED),
        (lambda e: 0.5 * e.square().sum(), lambda e: e, Status.PASSED),
        (lambda e: e.square().sum() / len(e), lambda e: 2 * e / len(e), Status.PASSED),
        (lambda e: float(e.square().mean()), lambda e: 2 * e / e.numel(), Status.PASSED),
        (lambda e: e.square().mean().reshape(1), lambda e: 2 * e / e.numel(), Status.PASSED),
        (lambda e: e.square(), lambda e: 2 * e, Status.PASSED),
        # The mean over all entries forward, and over the samples alone backward.
        (lambda e: e.square().mean(), lambda e: 2 * e / len(e), Status.FAILED),
        (lambda e: e.square().sum(), lambda e: e, Status.FAILED),
        (lambda e: e.square().mean(), lambda e: -2 * e / e.numel(), Status.FAILED),
        (lambda e: e.square(), lambda e: 2 * e / len(e), Status.FAILED),
    ],
)
def test_a_loss_may_follow_another_convention_both_ways(
    forward: Callable[[Tensor], Any], backward: Callable[[Tensor], Any], expected: Status
) -> None:
    loss = mse(forward, backward)
    assert status(compared(loss, torch.nn.MSELoss, "4,3", "4,3")) == expected


def test_an_explicit_reduction_has_to_hold() -> None:
    total = mse(lambda e: e.square().sum(), lambda e: 2 * e)
    for reduction, expected in {"mean": Status.FAILED, "sum": Status.PASSED}.items():
        options = {"reduction": reduction}
        comparison = compared(total, torch.nn.MSELoss, "4,3", "4,3", reference_options=options)
        assert status(comparison) == expected


def test_the_convention_is_told() -> None:
    total = mse(lambda e: e.square().sum(), lambda e: 2 * e)
    notes = made(compared(total, torch.nn.MSELoss, "4,3", "4,3")).notes
    assert "its loss is the reference's times the number of entries" in notes
    assert "its backward pass takes no gradient of the output, which is 1" in notes


def test_the_target_may_come_first() -> None:
    class Loss:
        def loss(self, y: Any, y_pred: Any) -> Any:
            return -np.mean(y * np.log(y_pred) + (1 - y) * np.log(1 - y_pred))

        def gradient(self, y: Any, y_pred: Any) -> Any:
            return (y_pred - y) / (y_pred * (1 - y_pred)) / y.size

    comparison = compared(Loss, torch.nn.BCELoss, "4,3:probability", "4,3:binary")
    assert status(comparison) == Status.PASSED
    assert "it takes the target first" in made(comparison).notes


# Function pairs and derivatives.


def affine_forward(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b, (x, w)


def affine_backward(dout: Any, cache: Any) -> Any:
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)


def scaled(x: Any, settings: Any) -> Any:
    return settings["factor"] * x, settings


def scaled_backward(dout: Any, cache: Any) -> Any:
    return cache["factor"] * dout


def test_a_pair_takes_the_parameters_of_a_module_or_plain_inputs() -> None:
    pair = (affine_forward, affine_backward)
    module = compared(pair, torch.nn.Linear, "4,5", reference_arguments=(5, 3))
    assert status(module) == Status.PASSED
    assert "parameter w (5, 3) is the reference's weight (3, 5), transposed" in made(module).notes
    plain = compared(pair, lambda x, w, b: x @ w + b, "4,5", "5,3", "3")
    assert status(plain) == Status.PASSED


def test_the_partner_of_a_function_is_found_and_settings_are_given() -> None:
    plain = compared(affine_forward, torch.nn.Linear, "4,5", reference_arguments=(5, 3))
    assert status(plain) == Status.PASSED
    call: tuple[Any, Any] = (({"factor": 3.0},), {})
    named = compared(scaled, lambda x: 3 * x, "4,5", call=call, backward=scaled_backward)
    assert status(named) == Status.PASSED


@pytest.mark.parametrize(
    ("derivative", "note"),
    [
        (lambda x: 1 - np.tanh(x) ** 2, "input"),
        (lambda y: 1 - y**2, "output"),
    ],
)
def test_a_derivative_may_be_of_the_input_or_of_the_output(derivative: Any, note: str) -> None:
    comparison = compared((np.tanh, derivative), torch.tanh, "4,3")
    assert status(comparison) == Status.PASSED
    assert any(f"as a function of the {note}" in n for n in made(comparison).notes)


def test_functions_of_one_number_are_called_for_every_entry() -> None:
    assert status(compared((math.sin, math.cos), torch.sin, "4,3")) == Status.PASSED
    assert status(compared((math.sin, math.sin), torch.sin, "4,3")) == Status.FAILED


# Functions that autograd goes through, and their arguments.


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return input * factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.factor, None


@pytest.mark.parametrize("subject", [Scale, Scale.apply, lambda x, factor: Scale.apply(x, factor)])
def test_arguments_that_are_no_tensors_are_given(subject: Any) -> None:
    comparison = compared(subject, lambda x: 2.5 * x, "4,3", call=((2.5,), {}))
    assert status(comparison) == Status.PASSED
    recognized(comparison)
    assert made(comparison).contract == "torch"


def test_a_keyword_goes_to_the_side_that_accepts_it() -> None:
    def softmax(input: Tensor, axis: int) -> Tensor:
        return input.softmax(axis)

    comparison = compared(
        softmax, torch.nn.functional.softmax, "4,3", call=((), {"axis": 0, "dim": 0})
    )
    assert status(comparison) == Status.PASSED


def test_parameters_are_given_by_name_where_they_are_named() -> None:
    comparison = compared(
        torch.nn.functional.layer_norm, torch.nn.LayerNorm, "4,5",
        reference_arguments=(5,), call=((), {"normalized_shape": (5,)}),
    )  # fmt: skip
    assert status(comparison) == Status.PASSED


def test_instances_and_factories_are_taken_and_copied() -> None:
    layer = torch.nn.Linear(5, 3)
    before = copy.deepcopy(layer.weight)
    for subject in (layer, lambda: torch.nn.Linear(5, 3)):
        assert status(compared(subject, torch.nn.Linear(5, 3), "4,5")) == Status.PASSED
    assert torch.equal(before, layer.weight)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda output: [output, None],
        lambda output: {"output": output},
        lambda output: (output, {"state": [output * 2]}),
    ],
)
def test_outputs_may_be_nested_or_none(wrapped: Callable[[Tensor], Any]) -> None:
    def subject(input: Tensor) -> Any:
        return wrapped(input.tanh())

    assert status(compared(subject, lambda x: wrapped(torch.tanh(x)), "4,3")) == Status.PASSED


# NumPy, lists, and the environment.


class NumpyTanh:
    def forward(self, x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        self.y = np.tanh(x)
        return self.y

    def backward(self, grad: Any) -> Any:
        return grad * (1 - self.y**2)


def test_arrays_of_numpy_go_in_and_come_out() -> None:
    assert status(compared(NumpyTanh, torch.nn.Tanh, "4,3")) == Status.PASSED
    comparison = compared(NumpyTanh, torch.nn.Tanh, "4,3")
    assert status(comparison) == Status.PASSED
    assert ("float64", "float32") == supported_dtypes(comparison)


class FillsInItsCalls:
    """Uses torch's default dtype in the calls, not in the constructor alone."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.get_default_dtype()
        self.x = x
        return x @ torch.eye(x.shape[1])

    def backward(self, grad: Tensor) -> Tensor:
        return grad @ torch.eye(grad.shape[1])


class SwitchesOff(FillsInItsCalls):
    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return super().forward(x)


class OnlyFloat32(FillsInItsCalls):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 1.0

    def backward(self, grad: Tensor) -> Tensor:
        return grad.float() * 1.0


def test_the_default_dtype_is_set_in_calls_and_autograd_put_back() -> None:
    for subject in (FillsInItsCalls, SwitchesOff):
        assert status(compared(subject, torch.nn.Identity, "4,3")) == Status.PASSED
        assert torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float32


def test_a_subject_in_float32_alone_is_known_for_it() -> None:
    comparison = compared(OnlyFloat32, torch.nn.Identity, "4,3")
    assert ("float32",) == supported_dtypes(comparison)
    assert status(comparison) == Status.PASSED
    with pytest.raises(UsageError, match="float32 alone"):
        draw(comparison, Example()).subject(DOUBLE)


def test_more_buffers_than_the_reference_has_are_allowed() -> None:
    class Counts(torch.nn.Tanh):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

    comparison = compared(Counts, torch.nn.Tanh, "4,3")
    assert status(comparison) == Status.PASSED
    assert "buffers that the reference does not have: calls" in made(comparison).notes


def test_witnesses_take_differences_of_transposed_parameters() -> None:
    comparison = compared(Stack, torch.nn.Linear, "4,5", arguments=(5, 3))
    assert {"all agree"} == {t.verdict for t in hear(comparison)}
    assert gradcheck(comparison) == ""


def test_a_function_that_autograd_does_not_go_through_and_stands_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="autograd does not go through"):
        recognized(compared(lambda x: torch.tensor(np.tanh(x)), torch.tanh, "4,3"))


# Inputs.


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("64:bool", lambda t: t.dtype == torch.bool and t.any()),
        ("8:onehot:5", lambda t: t.shape == (8, 5) and (t.sum(1) == 1).all()),
        ("9:permutation", lambda t: torch.equal(t.sort().values, torch.arange(9))),
        ("4x7:sorted", lambda t: (t.diff(dim=1) >= 0).all()),
        ("4x7:softmax", lambda t: torch.allclose(t.sum(1), torch.ones(4, dtype=DOUBLE))),
        ("4,7:positive", lambda t: (t > 0).all()),
    ],
)
def test_inputs_have_structure(text: str, holds: Callable[[Tensor], Any]) -> None:
    (drawn,) = draw_inputs(Example(), (parse_input(text),), Generator().manual_seed(0), "cpu")
    assert holds(drawn)


@pytest.mark.parametrize("text", ["4,5", "4x5", "(4, 5)", " 4 , 5", "[4,5]"])
def test_shapes_are_read_in_several_ways(text: str) -> None:
    assert Input((4, 5)) == parse_input(text)


# Names on the command line.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LayerNorm", torch.nn.LayerNorm),
        ("silu", torch.nn.functional.silu),
        ("F.gelu", torch.nn.functional.gelu),
        ("nn.GELU", torch.nn.GELU),
        ("Adam", torch.optim.Adam),
        ("torch.nn:Tanh", torch.nn.Tanh),
    ],
)
def test_names_of_torch_are_understood(text: str, expected: Any) -> None:
    assert load(text) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LayerNrom", "did you mean torch.nn.LayerNorm"),
        ("torch.nn.LayerNrom", "did you mean torch.nn.LayerNorm"),
        ("{here}/function_pair.py", "function_pair.py:affine_forward,affine_backward"),
        ("{here}/layer_object.py", "layer_object.py:Linear, .*layer_object.py:WrongLinear"),
        ("{here}/layer_object.py:Linaer", "did you mean .*Linear"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(text: str, message: str) -> None:
    here = Path(__file__).parent.parent / "bench" / "examples"
    with pytest.raises(UsageError, match=message):
        load(text.format(here=here))


def test_arguments_may_name_what_torch_and_math_have() -> None:
    assert ((1, (2, -3.0)), {"dtype": torch.float64, "high": math.inf, "x": None}) == read_call(
        "1, (2, -3.), dtype=torch.float64, high=math.inf, x=None"
    )
    with pytest.raises(UsageError, match="expected arguments such as"):
        read_call("open('x')")


def test_autograd_that_a_file_switches_off_at_import_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "switching.py").write_text(
        "import torch\ntorch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)\n"
        "class Tanh:\n"
        "    def forward(self, x):\n        self.y = x.tanh()\n        return self.y\n"
        "    def backward(self, g):\n        return g * (1 - self.y ** 2)\n"
    )
    text = f"{tmp_path}/switching.py:Tanh"
    comparison = comparison_from_text(text, "Tanh", "", ["4,3"], "cpu")
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert status(comparison) == Status.PASSED


def test_arguments_may_be_tensors_and_modules():
    (weight, module), options = read_call("torch.tensor([0.5, 2.0]), torch.nn.Tanh(), scale=-2")
    assert weight.tolist() == [0.5, 2.0]
    assert isinstance(module, torch.nn.Tanh)
    assert options == {"scale": -2}
    for text in ("torch.save(1, 'file')", "torch.load('file')", "torch.hub.load('a', 'b')"):
        with pytest.raises(UsageError, match="expected arguments"):
            read_call(text)
