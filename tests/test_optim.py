"""Optimizers: what the checks of each row, in test_units.py, leave open."""

from typing import Any

import pytest
import torch
from torch import Generator

from bench.equivalence.optimizers import make, parameters, run_steps
from minifw import nn, optim
from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.optim_cases import OPTIMIZERS
from reference.torch_changes import lacks


def test_state_dicts_have_the_keys_of_torch():
    for name, options in OPTIMIZERS:
        dicts = []
        for framework in (PYTORCH, MINIFW):
            params = parameters(framework)
            optimizer = make(framework, name, params, options)
            run_steps(optimizer, params, range(5))
            dicts.append(optimizer.state_dict())
        expected, actual = dicts
        assert actual["state"].keys() == expected["state"].keys()
        for number, state in expected["state"].items():
            assert actual["state"][number].keys() == state.keys()
            for key, value in state.items():
                assert torch.equal(torch.as_tensor(actual["state"][number][key]).to(value), value)
        for there, here in zip(expected["param_groups"], actual["param_groups"], strict=True):
            missing = here.keys() - there.keys()
            assert missing <= ({"decoupled_weight_decay"} if lacks("decoupled Adam") else set())
            assert all(here[key] == there[key] for key in here.keys() - missing)


def test_a_loaded_state_is_a_copy_of_the_parameters_dtype():
    params = parameters(MINIFW)
    optimizer = optim.Adam(params)
    run_steps(optimizer, params, range(3))
    halves = parameters(MINIFW, torch.float32)
    successor = optim.Adam(halves)
    successor.load_state_dict(optimizer.state_dict())
    before = optimizer.state[params[0]]["exp_avg"].clone()
    run_steps(successor, halves, range(3))
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


def test_a_step_changes_the_parameter_in_place() -> None:
    parameter = nn.Parameter(torch.ones(2))
    held, parameter.grad = parameter.data, torch.full((2,), 2.0)
    optim.SGD([parameter], lr=0.25).step()
    assert held is parameter.data
    assert [0.5, 0.5] == held.tolist()


def test_optimizers_take_an_iterator_once() -> None:
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
