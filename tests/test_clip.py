"""Gradient clipping: the same gradients clipped by minifw and torch."""

import math
from typing import Any

import pytest
import torch
from torch import Generator

from minifw import nn
from reference.frameworks import MINIFW, PYTORCH, Framework

each_framework = pytest.mark.parametrize(
    "framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name
)


def parameters(framework: Framework, dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = Generator().manual_seed(0)
    params = [framework.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in [(7, 3), 4, ()]]
    for parameter in params[:2]:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return params


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm_type", [2, 1.0, 0.5, 3, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.1, 1, 100.0, 0])
def test_norms_and_gradients_are_those_of_torch(norm_type, max_norm, dtype):
    found = []
    for framework in (PYTORCH, MINIFW):
        params = parameters(framework, dtype)
        norm = framework.nn.utils.clip_grad_norm_(params, max_norm, float(norm_type))
        found.append([norm, params[0].grad, params[1].grad])
        assert params[2].grad is None
    assert all(torch.equal(there, here) for there, here in zip(*found, strict=True))


@pytest.mark.parametrize("clip_value", [0.5, 1, 0, 1e9])
def test_values_are_those_of_torch(clip_value):
    found = []
    for framework in (PYTORCH, MINIFW):
        params = parameters(framework)
        params[0].grad[0] = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
        framework.nn.utils.clip_grad_value_(iter(params), clip_value)
        found.append(params)
    for there, here in zip(*found, strict=True):
        if there.grad is None:
            assert here.grad is None
        else:
            assert torch.allclose(there.grad, here.grad, rtol=0, atol=0, equal_nan=True)


@each_framework
def test_one_parameter_or_none_may_be_clipped(framework):
    utils, parameter = framework.nn.utils, parameters(framework)[0]
    assert utils.clip_grad_norm_(parameter, 0.5) > 1
    assert parameter.grad.norm().item() == pytest.approx(0.5, rel=1e-5)
    utils.clip_grad_value_(parameter, 0.01)
    assert parameter.grad.abs().max() == 0.01
    assert utils.clip_grad_norm_([], 1.0) == 0
    with pytest.warns(UserWarning, match="is an empty generator"):
        assert utils.clip_grad_norm_((p for p in []), 1.0) == 0


@each_framework
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_a_norm_that_is_not_finite_is_an_error_when_asked_for(framework, value, norm_type):
    params = parameters(framework)
    params[0].grad[0, 0] = value
    before = params[0].grad.clone()
    with pytest.raises(RuntimeError, match="non-finite"):
        framework.nn.utils.clip_grad_norm_(params, 1.0, norm_type, error_if_nonfinite=True)
    assert torch.allclose(params[0].grad, before, equal_nan=True)
    norm = framework.nn.utils.clip_grad_norm_(params, 1.0, norm_type)
    assert not norm.isfinite()


def test_gradients_that_were_handed_out_are_never_changed():
    params = parameters(MINIFW)
    grad, copy = params[0].grad, params[0].grad.clone()
    nn.utils.clip_grad_norm_(params, 0.1)
    nn.utils.clip_grad_value_(params, 0.01)
    assert torch.equal(grad, copy)
    assert not torch.equal(params[0].grad, copy)
