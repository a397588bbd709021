"""Gradient clipping: what the checks of test_units.py leave open."""

import math
from typing import Any

import pytest
import torch
from torch import Generator

from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.torch_changes import lacks

each_framework = pytest.mark.parametrize(
    "framework", [PYTORCH, MINIFW], ids=lambda framework: framework.name
)


def parameters(framework: Framework, dtype: torch.dtype = torch.float64) -> list[Any]:
    generator = Generator().manual_seed(0)
    params = [
        framework.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in [(7, 3), (4,), ()]
    ]
    for parameter in params[:2]:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return params


@each_framework
def test_one_parameter_or_none_may_be_clipped(framework):
    utils, parameter = framework.nn.utils, parameters(framework)[0]
    assert utils.clip_grad_norm_(parameter, 0.5) > 1
    assert parameter.grad.norm().item() == pytest.approx(0.5, rel=1e-5)
    utils.clip_grad_value_(parameter, 0.01)
    assert parameter.grad.abs().max() == 0.01
    assert utils.clip_grad_norm_([], 1.0) == 0
    if framework is MINIFW or not lacks("empty generator"):
        with pytest.warns(UserWarning, match="is an empty generator"):
            assert utils.clip_grad_norm_((p for p in list[Any]()), 1.0) == 0


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
