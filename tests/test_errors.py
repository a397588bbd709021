"""Bad input: torch's type of error, and a message that says what came, what should, and where."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import data, nn, optim
from reference.torch_changes import CHANGES, lacks

# A row: what is done in a namespace that holds nn and optim, the type of error, and what the
# message has to name. Each is done in torch too, and must raise the same type there.


class Torch:
    nn, optim = torch.nn, torch.optim


class Minifw:
    nn, optim = nn, optim


def network(f: Any) -> Any:
    return f.nn.Sequential(f.nn.Linear(2, 3), f.nn.Sequential(f.nn.ReLU(), f.nn.Linear(3, 1)))


def broken_network(f: Any) -> Any:
    return f.nn.Sequential(f.nn.Linear(2, 3), f.nn.Sequential(f.nn.ReLU(), f.nn.Linear(4, 1)))


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=Generator().manual_seed(0))


HALF = torch.full((3, 1), 0.5)
NAN = torch.full((3, 1), torch.nan)

SHARED: dict[str, tuple[Callable[[Any], Any], type[Exception], list[str]]] = {
    "feature count": (
        lambda f: f.nn.Linear(4, 3)(torch.ones(5, 2)),
        RuntimeError,
        ["Linear(in_features=4, out_features=3, bias=True)", "(*, 4)", "[5, 2]"],
    ),
    "feature count of one sample": (
        lambda f: f.nn.Linear(4, 3)(torch.ones(2)),
        RuntimeError,
        ["(*, 4)", "[2]"],
    ),
    "feature count of many dimensions": (
        lambda f: f.nn.Linear(4, 3)(torch.ones(5, 4, 2)),
        RuntimeError,
        ["(*, 4)", "[5, 4, 2]"],
    ),
    "a number for a sample": (
        lambda f: f.nn.Linear(1, 3)(torch.tensor(1.0)),
        RuntimeError,
        ["(*, 1)", "[]"],
    ),
    "feature count deep in a network": (
        lambda f: broken_network(f)(torch.ones(5, 2)),
        RuntimeError,
        ["1.1 Linear(in_features=4, out_features=1, bias=True)", "(*, 4)", "[5, 3]"],
    ),
    "dtype": (
        lambda f: network(f)(torch.ones(5, 2, dtype=torch.float64)),
        RuntimeError,
        ["0 Linear(", "torch.float32", "torch.float64", ".to()"],
    ),
    "integers": (
        lambda f: f.nn.Linear(2, 3)(torch.ones(5, 2, dtype=torch.int64)),
        RuntimeError,
        ["torch.float32", "torch.int64"],
    ),
    "BCE input below 0": (
        lambda f: f.nn.BCELoss()(HALF - 1, HALF),
        RuntimeError,
        ["BCELoss()", "input", "between 0 and 1", "-0.5", "Sigmoid"],
    ),
    "BCE input above 1": (
        lambda f: f.nn.BCELoss()(HALF + 1, HALF),
        RuntimeError,
        ["input", "between 0 and 1", "1.5"],
    ),
    "BCE input NaN": (
        lambda f: f.nn.BCELoss()(NAN, HALF),
        RuntimeError,
        ["input", "between 0 and 1", "nan"],
    ),
    "BCE target below 0": (
        lambda f: f.nn.BCELoss()(HALF, HALF - 1),
        RuntimeError,
        ["target", "between 0 and 1", "-0.5", "labels 0 and 1"],
    ),
    "BCE target above 1": (
        lambda f: f.nn.BCELoss()(HALF, HALF + 1),
        RuntimeError,
        ["target", "between 0 and 1", "1.5"],
    ),
    "BCE target NaN": (
        lambda f: f.nn.BCELoss()(HALF, NAN),
        RuntimeError,
        ["target", "between 0 and 1", "nan"],
    ),
    "BCE shapes": (
        lambda f: f.nn.BCELoss()(HALF, HALF.view(3)),
        ValueError,
        ["BCELoss()", "[3]", "[3, 1]"],
    ),
    "BCE dtypes": (
        lambda f: f.nn.BCELoss()(HALF, HALF.double()),
        RuntimeError,
        ["torch.float32", "torch.float64"],
    ),
    "BCE integer target": (
        lambda f: f.nn.BCELoss()(HALF, HALF.long()),
        RuntimeError,
        ["torch.float32", "torch.int64"],
    ),
    "MSE shapes": (
        lambda f: f.nn.MSELoss()(torch.ones(3, 2), torch.ones(3, 4)),
        RuntimeError,
        ["MSELoss()", "2", "4"],
    ),
    "reduction of MSE": (
        lambda f: f.nn.MSELoss(reduction="average")(HALF, HALF),
        ValueError,
        ["'average'", "'mean'", "'sum'", "'none'"],
    ),
    "reduction of BCE": (
        lambda f: f.nn.BCELoss(reduction="")(HALF, HALF),
        ValueError,
        ["''", "'mean'", "'sum'", "'none'"],
    ),
    "dropout below 0": (lambda f: f.nn.Dropout(-0.1), ValueError, ["between 0 and 1", "-0.1"]),
    "dropout above 1": (lambda f: f.nn.Dropout(1.5), ValueError, ["between 0 and 1", "1.5"]),
    "parameter of no tensor": (
        lambda f: (
            f.nn.Parameter([1.0])
            if f is Minifw
            else f.nn.Linear(1, 1).register_parameter("weight", [1.0])
        ),
        TypeError,
        ["torch.Tensor", "list"],
    ),
    "parameter of integers": (
        lambda f: f.nn.Parameter(torch.ones(2, dtype=torch.int64)),
        RuntimeError,
        ["floating", "torch.int64"],
    ),
    "sequential of functions": (
        lambda f: f.nn.Sequential(f.nn.ReLU(), torch.relu),
        TypeError,
        ["builtin_function_or_method", "'1'"],
    ),
    "empty optimizer": (
        lambda f: f.optim.SGD([], lr=0.1),
        ValueError,
        ["empty parameter list", "model.parameters()"],
    ),
    "optimizer of activations": (
        lambda f: f.optim.SGD(f.nn.ReLU().parameters(), lr=0.1),
        ValueError,
        ["empty parameter list"],
    ),
    "negative lr": (
        lambda f: f.optim.SGD(f.nn.Linear(1, 1).parameters(), lr=-0.1),
        ValueError,
        ["learning rate", "-0.1"],
    ),
    "optimizer of numbers": (
        lambda f: f.optim.SGD([1.0], lr=0.1),
        TypeError,
        ["optimizer can only optimize", "float"],
    ),
    "optimizer of a parameter not in a list": (
        lambda f: f.optim.SGD(f.nn.Linear(1, 1).weight, lr=0.1),
        TypeError,
        ["Parameter"],
    ),
}


def table(rows: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows.values(), ids=rows)


def assert_raises(action: Callable[[], Any], error: type[Exception], parts: list[str]) -> None:
    with pytest.raises(error) as raised:
        action()
    assert error is type(raised.value)
    for part in parts:
        assert part in str(raised.value), f"{part!r} is not in {raised.value}"


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@table(SHARED)
def test_as_torch(row: Any) -> None:
    action, error, parts = row
    assert_raises(lambda: action(Torch), error, [])
    assert_raises(lambda: action(Minifw), error, parts)


def test_an_optimizer_is_given_parameters_and_not_tensors() -> None:
    assert_raises(
        lambda: optim.SGD([torch.ones(2)], lr=0.1), TypeError, ["Parameters of minifw.nn", "Tensor"]
    )
    assert_raises(lambda: optim.SGD(torch.nn.Linear(1, 1).parameters()), TypeError, ["Parameter"])
    assert_raises(
        lambda: optim.SGD(nn.Linear(1, 1).parameters(), lr=torch.nan), ValueError, ["nan"]
    )


def test_a_target_of_another_shape_warns_as_torch() -> None:
    x, target = drawn(3, 1), drawn(3)
    leaf = x.clone().requires_grad_()
    with pytest.warns(UserWarning, match=r"target size .*different to the input size") as theirs:
        torch.nn.MSELoss()(leaf, target).backward()
    criterion = nn.MSELoss()
    with pytest.warns(UserWarning, match=re.escape(str(theirs[0].message))):
        criterion(x, target)
    torch.testing.assert_close(criterion.backward(), leaf.grad)


@pytest.mark.skipif(lacks("mse_loss dtypes"), reason=CHANGES["mse_loss dtypes"].what)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool], ids=str)
def test_an_mse_target_of_another_dtype_counts_as_in_torch(dtype: torch.dtype) -> None:
    x, target = drawn(3, 2), torch.tensor([[0, 1], [1, 1], [0, 0]]).to(dtype)
    leaf = x.clone().requires_grad_()
    expected = torch.nn.MSELoss()(leaf, target)
    expected.backward()
    criterion = nn.MSELoss()
    actual = criterion(x, target)
    torch.testing.assert_close(actual, expected.detach())
    torch.testing.assert_close(criterion.backward(), leaf.grad)


# Backward passes that cannot be.


def called() -> Any:
    model = network(Minifw)
    model(torch.ones(5, 2))
    return model


def twice() -> None:
    model = called()
    model.backward(torch.ones(5, 1))
    model.backward(torch.ones(5, 1))


def criterion_twice() -> None:
    criterion = nn.MSELoss()
    criterion(HALF, HALF)
    criterion.backward()
    criterion.backward()


def inner_backward() -> None:
    called()[0].backward(torch.ones(5, 3))


def after_no_grad() -> None:
    model = network(Minifw)
    with minifw.no_grad():
        model(torch.ones(5, 2))
    model.backward(torch.ones(5, 1))


BACKWARD: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "without a forward": (
        lambda: network(Minifw).backward(torch.ones(5, 1)),
        RuntimeError,
        ["Sequential()", "no call awaits", "call the module first"],
    ),
    "of a criterion without a forward": (
        nn.MSELoss().backward,
        RuntimeError,
        ["MSELoss()", "no call awaits"],
    ),
    "twice": (twice, RuntimeError, ["no call awaits"]),
    "of a criterion twice": (criterion_twice, RuntimeError, ["no call awaits"]),
    "of a part": (inner_backward, RuntimeError, ["Linear(", "inside another module"]),
    "after no_grad": (after_no_grad, RuntimeError, ["no call awaits", "no_grad"]),
    "shape": (
        lambda: called().backward(torch.ones(5)),
        RuntimeError,
        ["Sequential().backward", "[5, 1]", "[5]"],
    ),
    "dtype": (
        lambda: called().backward(torch.ones(5, 1).double()),
        RuntimeError,
        ["torch.float32", "torch.float64"],
    ),
    "too many": (
        lambda: called().backward(torch.ones(5, 1), torch.ones(5, 1)),
        RuntimeError,
        ["expected 1", "got 2"],
    ),
    "none for an output that is no scalar": (
        lambda: called().backward(),
        RuntimeError,
        ["scalar", "[5, 1]"],
    ),
    "a number": (lambda: called().backward(1.0), TypeError, ["torch.Tensor", "float"]),
    "None": (lambda: called().backward(None), TypeError, ["torch.Tensor", "NoneType"]),
}


@table(BACKWARD)
def test_backward(row: Any) -> None:
    assert_raises(*row)


def test_a_refused_gradient_leaves_the_call_to_be_gone_back_through() -> None:
    model = called()
    with pytest.raises(RuntimeError, match="grad_output must be"):
        model.backward(torch.ones(5))
    assert model.backward(torch.ones(5, 1)).shape == (5, 2)


# What the backward pass needs must be what the forward pass saw.


def change_input(model: Any, x: Tensor, output: Tensor) -> None:
    x.zero_()


def change_output(model: Any, x: Tensor, output: Tensor) -> None:
    output.zero_()


def change_weight(model: Any, x: Tensor, output: Tensor) -> None:
    next(model.parameters()).data.zero_()


def change_by_a_step(model: Any, x: Tensor, output: Tensor) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter.data)
    optim.SGD(model.parameters(), lr=0.1).step()


def change_by_loading(model: Any, x: Tensor, output: Tensor) -> None:
    model.load_state_dict(model.state_dict())


class Composed(nn.Module):
    def __init__(self) -> None:
        self.network = network(Minifw)

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 1), lambda: network(Minifw), Composed])
@pytest.mark.parametrize(
    "change", [change_input, change_output, change_weight, change_by_a_step, change_by_loading]
)
def test_a_change_between_forward_and_backward(make: Any, change: Any) -> None:
    model, x = make(), torch.ones(5, 2)
    output = model(x)
    change(model, x, output)
    assert_raises(
        lambda: model.backward(torch.ones(5, 1)),
        RuntimeError,
        ["modified in place", "before changing what it used"],
    )


def test_a_changed_target() -> None:
    criterion, target = nn.MSELoss(), torch.ones(3)
    criterion(torch.zeros(3), target)
    target.zero_()
    assert_raises(criterion.backward, RuntimeError, ["MSELoss().backward", "modified in place"])


# Modules that define nothing, and training.

POINTS = drawn(10, 2), drawn(10, 1)
EMPTY = torch.empty(0, 2), torch.empty(0, 1)


def fit(pair: Any = POINTS, **changes: Any) -> None:
    model = network(Minifw)
    options = {"epochs": 1, "batch_size": 5} | changes
    minifw.fit(model, nn.MSELoss(), optim.SGD(model.parameters()), pair, **options)


REST: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "no forward": (
        lambda: nn.Module()(torch.ones(1)),
        NotImplementedError,
        ["Module", "define forward", "rule"],
    ),
    "no update": (
        lambda: optim.Optimizer(nn.Linear(1, 1).parameters(), {}).update({}, [], [], []),
        NotImplementedError,
        ["Optimizer defines no update"],
    ),
    "epochs": (lambda: fit(epochs=0), ValueError, ["epochs", "0"]),
    "batch_size": (lambda: fit(batch_size=0), ValueError, ["batch_size", "0"]),
    "negative batch_size": (lambda: fit(batch_size=-5), ValueError, ["batch_size", "-5"]),
    "no data": (lambda: fit(EMPTY), ValueError, ["at least one sample", "empty"]),
    "lengths": (lambda: fit((POINTS[0], POINTS[1][:3])), ValueError, ["10", "3"]),
    "batches of no data": (lambda: next(data.batches(EMPTY, 5)), ValueError, ["at least one"]),
    "a disk of fewer than no points": (lambda: data.disk(-1), ValueError, ["at least 0", "-1"]),
    "fan of a bias": (
        lambda: nn.init.xavier_uniform_(torch.ones(3)),
        ValueError,
        ["at least 2 dimensions", "[3]"],
    ),
    "functional dropout": (
        lambda: nn.functional.dropout(torch.ones(3), p=2.0),
        ValueError,
        ["between 0 and 1", "2.0"],
    ),
    "a keyword argument that requires grad": (
        lambda: Scaled()(torch.ones(2), by=torch.ones(2, requires_grad=True)),
        RuntimeError,
        ["Scaled()", "requires grad", "detach()"],
    ),
}


class Scaled(nn.Module):
    def rule(self, input: Tensor, by: Tensor) -> Any:
        return input * by, lambda grad: grad * by


@table(REST)
def test_the_rest(row: Any) -> None:
    assert_raises(*row)
