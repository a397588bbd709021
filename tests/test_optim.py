"""Optimisers: one step function drives minifw and torch, and every weight is compared."""

import copy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from minifw import nn, optim
from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.optim_cases import OPTIMIZERS

STEPS = 60

NAMES = [
    f"{name}-{','.join(f'{k}={v}' for k, v in options.items())}" for name, options in OPTIMIZERS
]
each_case = pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=NAMES)
# Two torch optimisers may hold their state_dict's tensors in common, so each is given its own.
DIRECTIONS = [(PYTORCH, MINIFW), (MINIFW, PYTORCH), (MINIFW, MINIFW)]
each_direction = pytest.mark.parametrize(
    ("saved", "loaded"), DIRECTIONS, ids=lambda framework: framework.name
)


def parameters(framework: Framework, dtype: torch.dtype = torch.float64) -> list[Any]:
    """The same four parameters; the last of them never has a gradient."""
    generator = Generator().manual_seed(0)
    shapes = [(5, 4), (5,), (), (2, 3)]
    return [
        framework.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
        for shape in shapes
    ]


def take(optimizer: Any, params: list[Any], steps: range) -> list[Tensor]:
    """Let the optimizer step by gradients that depend on the weights; return all weights."""
    seen = []
    for step in steps:
        optimizer.zero_grad()
        for index, parameter in enumerate(params[:3]):
            # The second comes in late, and is left out at times.
            if index != 1 or (step > 2 and step % 5):
                data = parameter.data
                parameter.grad = torch.cos(3 * data + step) * (index + 1) + 0.1 * data
        optimizer.step()
        seen.append(torch.cat([parameter.data.flatten() for parameter in params]).clone())
    return seen


def make(framework: Framework, name: str, params: Any, options: dict[str, Any]) -> Any:
    return getattr(framework.optim, name)(params, **options)


def assert_equal_weights(expected: list[Tensor], actual: list[Tensor]) -> None:
    for step, (there, here) in enumerate(zip(expected, actual, strict=True)):
        assert torch.equal(there, here), f"step {step}: {(there - here).abs().max():.3g} apart"


@each_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_weights_are_those_of_torch_bit_for_bit(name, options, dtype):
    runs = []
    for framework in (PYTORCH, MINIFW):
        params = parameters(framework, dtype)
        start = params[0].data.clone()
        runs.append(take(make(framework, name, params, options), params, range(STEPS)))
        assert not torch.equal(params[0].data, start), "no step has changed anything"
    assert_equal_weights(*runs)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_have_settings_of_their_own(name):
    runs = []
    for framework in (PYTORCH, MINIFW):
        params = parameters(framework)
        groups = [{"params": params[:1], "lr": 0.2}, {"params": iter(params[1:2])}]
        optimizer = make(framework, name, groups, {"lr": 0.01, "weight_decay": 0.1})
        before = take(optimizer, params, range(5))
        optimizer.add_param_group({"params": params[2], "weight_decay": 0.5})
        optimizer.param_groups[1]["lr"] = 0.05
        runs.append(before + take(optimizer, params, range(5, STEPS)))
        assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05, 0.01]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.5]
    assert_equal_weights(*runs)


@each_case
@each_direction
def test_a_state_dict_goes_on_in_the_other_framework(name, options, saved, loaded):
    params = parameters(saved)
    optimizer = make(saved, name, params, options)
    take(optimizer, params, range(7))
    state_dict = copy.deepcopy(optimizer.state_dict())
    there = parameters(loaded)
    for parameter, source in zip(there, params, strict=True):
        parameter.data.copy_(source.data)
    # Made with other settings: those of the state_dict count.
    successor = make(loaded, name, there, {"lr": 0.7})
    successor.load_state_dict(state_dict)

    expected = take(optimizer, params, range(7, STEPS))
    assert_equal_weights(expected, take(successor, there, range(7, STEPS)))


def test_state_dicts_have_the_keys_of_torch():
    for name, options in OPTIMIZERS:
        dicts = []
        for framework in (PYTORCH, MINIFW):
            params = parameters(framework)
            optimizer = make(framework, name, params, options)
            take(optimizer, params, range(5))
            dicts.append(optimizer.state_dict())
        expected, actual = dicts
        assert actual["state"].keys() == expected["state"].keys()
        for number, state in expected["state"].items():
            assert actual["state"][number].keys() == state.keys()
            for key, value in state.items():
                assert torch.equal(torch.as_tensor(actual["state"][number][key]).to(value), value)
        for there, here in zip(expected["param_groups"], actual["param_groups"], strict=True):
            assert here == {key: there[key] for key in here}


def test_a_loaded_state_is_a_copy_of_the_parameters_dtype():
    params = parameters(MINIFW)
    optimizer = optim.Adam(params)
    take(optimizer, params, range(3))
    halves = parameters(MINIFW, torch.float32)
    successor = optim.Adam(halves)
    successor.load_state_dict(optimizer.state_dict())
    before = optimizer.state[params[0]]["exp_avg"].clone()
    take(successor, halves, range(3))
    assert successor.state[halves[0]]["exp_avg"].dtype == torch.float32
    assert torch.equal(optimizer.state[params[0]]["exp_avg"], before)


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
def test_step_calls_a_closure_and_returns_its_loss(framework):
    params = parameters(framework)
    optimizer = framework.optim.SGD(params, lr=0.5)
    start = params[0].data.clone()

    def closure():
        params[0].grad = torch.ones_like(params[0].data)
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert torch.equal(params[0].data, start - 0.5)
    assert optimizer.step() is None


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
def test_zero_grad_resets_to_none_or_zeros(framework):
    params = parameters(framework)
    optimizer = framework.optim.SGD(params)
    params[0].grad = torch.ones_like(params[0].data)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(params[0].grad, torch.zeros(5, 4, dtype=torch.float64))
    assert params[1].grad is None
    optimizer.zero_grad()
    assert params[0].grad is None


def test_gradients_are_left_as_they_are():
    for name, options in OPTIMIZERS:
        params = parameters(MINIFW)
        params[0].grad = grad = torch.ones(5, 4, dtype=torch.float64)
        optimizer = make(MINIFW, name, params, options)
        optimizer.step()
        optimizer.step()
        assert params[0].grad is grad
        assert torch.equal(grad, torch.ones_like(grad)), (name, options)


def test_a_frozen_parameter_stays_as_it_is():
    # torch would go on moving it by momentum and weight decay, since its gradient is no None.
    params = parameters(MINIFW)
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1)
    take(optimizer, params, range(3))
    params[0].requires_grad_(False)
    frozen, trained = params[0].data.clone(), params[2].data.clone()
    optimizer.step()
    assert torch.equal(params[0].data, frozen)
    assert not torch.equal(params[2].data, trained)


def test_a_step_changes_the_parameter_in_place() -> None:
    parameter = nn.Parameter(torch.ones(2))
    held, parameter.grad = parameter.data, torch.full((2,), 2.0)
    optim.SGD([parameter], lr=0.25).step()
    assert held is parameter.data
    assert [0.5, 0.5] == held.tolist()


def test_optimisers_take_an_iterator_once() -> None:
    layer = nn.Linear(2, 2, generator=Generator().manual_seed(2))
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    assert [layer.weight, layer.bias] == optimizer.param_groups[0]["params"]


ERRORS = [
    (ValueError, "SGD", {"lr": -0.1}),
    (ValueError, "SGD", {"momentum": -0.1}),
    (ValueError, "SGD", {"weight_decay": -0.1}),
    (ValueError, "SGD", {"nesterov": True}),
    (ValueError, "SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    (TypeError, "SGD", {"lr": "0.1"}),
    (TypeError, "SGD", {"learning_rate": 0.1}),
    *[
        (ValueError, name, options)
        for name in ("Adam", "AdamW")
        for options in (
            {"lr": -0.1},
            {"lr": float("nan")},
            {"eps": -1e-8},
            {"betas": (1.0, 0.9)},
            {"betas": (-0.1, 0.9)},
            {"betas": (0.9, 1.0)},
            {"weight_decay": -0.1},
        )
    ],
]


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
@pytest.mark.parametrize(("error", "name", "options"), ERRORS, ids=str)
def test_settings_out_of_range_are_refused(framework, error, name, options):
    with pytest.raises(error):
        make(framework, name, parameters(framework), options)


PARAMS_ERRORS = {
    "none": (ValueError, lambda params: []),
    "one": (TypeError, lambda params: params[0]),
    "tensors": (TypeError, lambda params: ["weight"]),
    "a set in a group": (TypeError, lambda params: [{"params": set(params)}]),
    "no params in a group": (KeyError, lambda params: [{"lr": 0.1}]),
    "in two groups": (ValueError, lambda params: [{"params": params}, {"params": params[:1]}]),
    "dict after list": (TypeError, lambda params: [params[0], {"params": params[1:]}]),
    "list after dict": (TypeError, lambda params: [{"params": params[1:]}, params[0]]),
}


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
@pytest.mark.parametrize("case", PARAMS_ERRORS)
def test_parameters_that_cannot_be_trained_are_refused(framework, case):
    error, function = PARAMS_ERRORS[case]
    with pytest.raises(error):
        framework.optim.SGD(function(parameters(framework)))


@pytest.mark.parametrize("framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name)
def test_a_state_dict_of_other_groups_is_refused(framework):
    params = parameters(framework)
    optimizer = framework.optim.SGD(params)
    for other in ([{"params": params[:1]}, {"params": params[1:]}], params[1:]):
        with pytest.raises(ValueError, match="group"):
            optimizer.load_state_dict(framework.optim.SGD(other).state_dict())


def test_minifw_refuses_what_torch_lets_pass():
    params = parameters(MINIFW)
    with pytest.raises(ValueError, match=r"learning rate: -1; expected .*at least 0"):
        optim.SGD([{"params": params, "lr": -1}])
    with pytest.raises(ValueError, match=r"more than once, one of shape \[5, 4\]"):
        optim.SGD([params[0], params[0]])


def test_a_script_for_torch_runs_on_minifw_but_for_its_backward_line():
    def script(framework: Framework) -> Any:
        nn, optim = framework.nn, framework.optim
        block = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Residual(block), nn.Linear(16, 2)).to(
            torch.float64
        )
        generator = Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.3, generator=generator)
        criterion, optimizer = nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.01)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)
        clipped = 0
        for _ in range(500):
            x = torch.rand(16, 2, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            loss = criterion(model(x), (x.square().sum(1) < 0.6).long())
            if framework is MINIFW:
                model.backward(criterion.backward())
            else:
                loss.backward()
            clipped += (nn.utils.clip_grad_norm_(model.parameters(), 0.2) > 0.2).item()
            optimizer.step()
            schedule.step()
        assert 10 < clipped < 490, "clipping is at work, and not always"
        return model.state_dict()

    expected, actual = script(PYTORCH), script(MINIFW)
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-12, atol=1e-12)


def test_every_public_optimiser_has_a_case():
    public = set(optim.__all__) - {"Optimizer", "lr_scheduler"}
    assert public == {name for name, _ in OPTIMIZERS}


def test_repr_lists_the_settings_of_each_group():
    assert repr(optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)).splitlines() == [
        "SGD (",
        "Parameter Group 0",
        "    dampening: 0",
        "    lr: 0.5",
        "    maximize: False",
        "    momentum: 0",
        "    nesterov: False",
        "    weight_decay: 0",
        ")",
    ]
