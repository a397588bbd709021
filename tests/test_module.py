"""The tree of modules: names, modes, state and text are torch's for the same architecture."""

import copy
import pickle
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from minifw import nn

FRAMEWORKS = pytest.mark.parametrize("framework", [nn, torch.nn], ids=["minifw", "torch"])


def flat(nn: ModuleType) -> Any:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1, bias=False), nn.Sigmoid())


def nested(nn: ModuleType) -> Any:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), nn.Sequential(), flat(nn))


def named(nn: ModuleType) -> Any:
    # A dict in torch's order of insertion; torch takes an OrderedDict alone.
    from collections import OrderedDict

    return nn.Sequential(OrderedDict(first=nn.Linear(2, 3), second=nn.Tanh()))


def shared_module(nn: ModuleType) -> Any:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Sequential(layer))


def shared_parameter(nn: ModuleType) -> Any:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    return nn.Sequential(first, second)


def assigned(nn: ModuleType) -> Any:
    class Net(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(3, 1)
            self.scale = nn.Parameter(torch.ones(2))
            self.name = "net"
            self.first = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1))
            self.none = None
            self.shift = nn.Parameter(torch.zeros(1))

    return Net()


def reassigned(nn: ModuleType) -> Any:
    net = assigned(nn)
    net.second = nn.Linear(3, 2)
    net.scale = nn.Parameter(torch.zeros(3))
    del net.shift
    net.first[0].bias = None
    return net


ARCHITECTURES = pytest.mark.parametrize(
    "architecture",
    [flat, nested, named, shared_module, shared_parameter, assigned, reassigned],
    ids=lambda function: function.__name__,
)


def without_inplace(text: str) -> str:
    # minifw's modules never work in place, so they have no such argument to show.
    return text.replace(", inplace=False", "")


@ARCHITECTURES
def test_names_keys_and_text_equal_torchs(architecture: Any) -> None:
    ours, twin = architecture(nn), architecture(torch.nn)

    def names(model: Any) -> dict[str, Any]:
        return {
            "parameters": [(name, p.shape) for name, p in model.named_parameters()],
            "modules": [(name, type(m).__name__) for name, m in model.named_modules()],
            "children": [name for name, _ in model.named_children()],
            "state": [(name, tensor.shape) for name, tensor in model.state_dict().items()],
            "lists": [len(list(f())) for f in (model.parameters, model.modules, model.children)],
        }

    assert names(twin) == names(ours)
    assert without_inplace(repr(twin)) == repr(ours)


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Linear(2, 3),
        lambda nn: nn.Linear(2, 3, bias=False),
        lambda nn: nn.ReLU(),
        lambda nn: nn.Tanh(),
        lambda nn: nn.Sigmoid(),
        lambda nn: nn.Dropout(),
        lambda nn: nn.Dropout(0.25),
        lambda nn: nn.MSELoss(),
        lambda nn: nn.BCELoss(reduction="sum"),
        lambda nn: nn.Sequential(),
    ],
)
def test_repr(make: Any) -> None:
    assert without_inplace(repr(make(torch.nn))) == repr(make(nn))


@ARCHITECTURES
def test_a_state_dict_loads_either_way(architecture: Any) -> None:
    ours, twin, back = architecture(nn), architecture(torch.nn), architecture(nn)
    generator = Generator().manual_seed(0)
    for parameter in twin.parameters():
        parameter.data.normal_(generator=generator)
    ours.load_state_dict(twin.state_dict())
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    for parameter in ours.parameters():
        parameter.data.normal_(generator=generator)
    twin.load_state_dict(ours.state_dict())
    back.load_state_dict(twin.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, twin.state_dict()[name]), name
        assert torch.equal(tensor, back.state_dict()[name]), name


def test_loading_copies_and_casts() -> None:
    model, state = (
        nn.Linear(2, 1),
        {"weight": torch.full((1, 2), 0.1).double(), "bias": torch.ones(1)},
    )
    weight = model.weight.data
    model.load_state_dict(state)
    assert weight is model.weight.data
    assert torch.equal(state["weight"].float(), weight)
    state["bias"].zero_()
    assert model.bias.data.abs().min() > 0


@FRAMEWORKS
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda state: state.pop("0.weight"), ["0.weight"]),
        (lambda state: state.update(extra=torch.ones(1)), ["extra"]),
        (lambda state: state.update({"2.weight": torch.ones(3, 1)}), ["2.weight", "[3, 1]"]),
        (
            lambda state: (state.pop("0.bias"), state.update(a=torch.ones(1), b=torch.ones(1))),
            ["0.bias", "a", "b"],
        ),
    ],
    ids=["missing", "unexpected", "shape", "several"],
)
def test_a_state_dict_that_does_not_fit(framework: Any, change: Any, names: list[str]) -> None:
    model = flat(framework)
    state = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(state)
    with pytest.raises(RuntimeError) as raised:
        model.load_state_dict(state)
    if framework is torch.nn:
        return  # the type of error is all that is compared
    for name in names:
        assert name in str(raised.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor), name


def test_loading_only_what_fits() -> None:
    model = flat(nn)
    model.load_state_dict({"0.bias": torch.ones(3), "extra": torch.ones(1)}, strict=False)
    assert torch.equal(torch.ones(3), model[0].bias.data)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict({"0.bias": torch.ones(4)}, strict=False)


@FRAMEWORKS
def test_modes(framework: Any) -> None:
    model = nested(framework)
    assert [True] * 10 == [module.training for module in model.modules()]
    assert model is model.eval()
    assert {False} == {module.training for module in model.modules()}
    assert model is model.train()
    model[0].eval()
    assert [True, *[False] * 3, *[True] * 6] == [module.training for module in model.modules()]
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        model.train("yes")


@FRAMEWORKS
def test_casts(framework: Any) -> None:
    model = flat(framework)
    model[0].weight.grad = torch.ones(3, 2)
    parameters = list(model.parameters())
    assert model is model.to(torch.float64)
    assert {torch.float64} == {parameter.dtype for parameter in model.parameters()}
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert torch.float64 == model[0].weight.grad.dtype
    assert model is model.to("cpu")
    with pytest.raises(TypeError, match="only accepts floating"):
        model.to(torch.int64)
    assert {torch.float64} == {parameter.dtype for parameter in model.parameters()}


@FRAMEWORKS
@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(framework: Any, set_to_none: bool) -> None:
    model = flat(framework)
    grad = model[0].weight.grad = torch.ones(3, 2)
    model.zero_grad(set_to_none)
    if set_to_none:
        assert model[0].weight.grad is None
    else:
        assert torch.equal(torch.zeros(3, 2), model[0].weight.grad)
        assert framework is torch.nn or grad.sum() == 6  # handed out, so never changed
    assert model[2].weight.grad is None


@FRAMEWORKS
def test_requires_grad(framework: Any) -> None:
    model = flat(framework)
    assert model is model.requires_grad_(False)
    assert [False] * 3 == [parameter.requires_grad for parameter in model.parameters()]
    assert model[0].weight is model[0].weight.requires_grad_()
    assert [True, False, False] == [parameter.requires_grad for parameter in model.parameters()]


@FRAMEWORKS
def test_apply_goes_from_the_leaves_to_the_root(framework: Any) -> None:
    seen: list[str] = []
    model = nested(framework)
    assert model is model.apply(lambda module: seen.append(type(module).__name__))
    assert [
        *("Linear", "Tanh", "Sequential", "Sequential", "Linear", "ReLU", "Linear", "Sigmoid"),
        *("Sequential", "Sequential"),
    ] == seen


@FRAMEWORKS
def test_sequential_is_a_sequence(framework: Any) -> None:
    model = flat(framework)
    assert 4 == len(model) == len(list(model))
    assert model[3] is model[-1] is list(model)[3]
    part = model[1:3]
    assert type(model) is type(part)
    assert [model[1], model[2]] == list(part)
    assert 0 == len(framework.Sequential())
    shared = shared_module(framework)
    assert [shared[0], shared[0]] == list(shared[:3:2])
    assert 4 == len(shared) == len(list(shared))
    with pytest.raises(IndexError):
        model[4]


def through_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
def test_copies_share_nothing(duplicate: Any) -> None:
    model = nn.Sequential(shared_module(nn), nn.Dropout(0.3)).eval()
    model[0][0].bias.requires_grad = False
    x = torch.rand(4, 2, generator=Generator().manual_seed(0))
    expected = model(x)
    twin = duplicate(model)
    assert repr(model) == repr(twin)
    assert list(model.state_dict()) == list(twin.state_dict())
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in twin.named_parameters()
    ]
    assert [True, False] == [parameter.requires_grad for parameter in twin.parameters()]
    assert not any(module.training for module in twin.modules())
    with pytest.raises(RuntimeError, match="no call awaits"):
        twin.backward(torch.ones(4, 2))
    assert torch.equal(expected, twin(x))
    twin.backward(torch.ones(4, 2))
    assert all(parameter.grad is None for parameter in model.parameters())
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert torch.equal(expected, model(x))


@FRAMEWORKS
@pytest.mark.parametrize("value", [torch.ones(3, 2), 1.0], ids=["tensor", "number"])
def test_a_parameter_is_not_replaced_by(framework: Any, value: Any) -> None:
    layer = framework.Linear(2, 3)
    weight = layer.weight
    with pytest.raises(TypeError, match=r"cannot assign .* as parameter 'weight'"):
        layer.weight = value
    assert weight is layer.weight


@FRAMEWORKS
@pytest.mark.parametrize("value", [torch.ones(3, 2), 1.0], ids=["tensor", "number"])
def test_a_module_is_not_replaced_by(framework: Any, value: Any) -> None:
    model = assigned(framework)
    first = model.first
    with pytest.raises(TypeError, match=r"cannot assign .* as child module 'first'"):
        model.first = value
    assert first is model.first


def test_a_parameter_holds_a_tensor_apart_from_autograd() -> None:
    leaf = torch.ones(2, requires_grad=True)
    parameter = nn.Parameter(leaf * 2)
    assert not parameter.data.requires_grad
    assert (torch.Size([2]), torch.float32, torch.device("cpu"), 2) == (
        parameter.shape,
        parameter.dtype,
        parameter.device,
        parameter.numel(),
    )
    assert "Parameter(tensor([2., 2.]))" == repr(parameter)
    assert "Parameter(tensor([2., 2.]), requires_grad=False)" == repr(
        parameter.requires_grad_(False)
    )


def test_what_a_subclass_defines_last_runs() -> None:
    class Doubled(nn.Linear):
        """forward over a rule."""

        again: nn.Module

        def forward(self, input: Tensor) -> Tensor:
            return self.again(input)

    class Tripled(Doubled):
        """rule over a forward."""

        def rule(self, input: Tensor) -> Any:
            return 3 * input, lambda grad: 3 * grad

    doubled = Doubled(2, 2)
    doubled.again = nn.Tanh()
    x = torch.ones(1, 2)
    assert torch.equal(x.tanh(), doubled(x))
    assert torch.equal(3 * x, Tripled(2, 2)(x))


@pytest.mark.parametrize("framework", [nn, torch.nn], ids=["minifw", "torch"])
def test_a_deleted_buffer_is_gone_and_the_others_stay(framework: Any) -> None:
    norm = framework.BatchNorm1d(3)
    del norm.running_mean
    rest = ["running_var", "num_batches_tracked"]
    assert rest == [name for name, _ in norm.named_buffers()]
    assert ["weight", "bias", *rest] == list(norm.state_dict())
    assert torch.float64 == norm.to(torch.float64).running_var.dtype
