"""What a step of a plan hands out, loss and gradients, is new, the user's own, and stays."""

import copy

import pytest
import torch
from planned_models import model_of, step_of
from torch import Generator

import minifw
from minifw import nn, optim
from minifw.plans import captured
from minifw.plans.recording import Recorder


def test_what_is_handed_out_stays_and_can_enter_a_graph():
    model = model_of("layer norm")
    step = step_of(model)
    handed = []
    for _ in range(3):
        loss = step()
        tensors = [loss, *(parameter.grad for parameter in model.parameters())]
        handed += [(tensor, tensor.clone()) for tensor in tensors]
    assert all(torch.equal(tensor, then) for tensor, then in handed)
    factor = torch.ones((), requires_grad=True)
    (factor * handed[-1][0].mul_(2).sum()).backward()
    assert factor.grad is not None


def test_what_a_step_leaves_is_not_bound_to_inference_mode():
    model = model_of("batch norm")
    step = step_of(model)
    optimizer = step.args[2]
    optimizer.param_groups[0]["momentum"] = 0.9
    for _ in range(3):
        loss = step()
        states = [tensor for state in optimizer.state.values() for tensor in state.values()]
        grads = [parameter.grad for parameter in model.parameters()]
        left = [loss, *states, *grads, *model.state_dict().values()]
        assert len(left) == 1 + 6 + 6 + 9
        assert not any(tensor.is_inference() for tensor in left)
        copied = copy.deepcopy(model)
        assert not any(parameter.grad.is_inference() for parameter in copied.parameters())


class Remembers(optim.Optimizer):
    """An optimizer of the user's that keeps the gradients."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.kept = []

    def update(self, group, trained, params, grads):
        self.kept += grads
        torch._foreach_add_(params, grads, alpha=-group["lr"])


def test_gradients_that_an_optimizer_keeps_stay():
    model = model_of("relu")
    optimizer, criterion, grads = Remembers(model.parameters()), nn.MSELoss(), []
    for seed in range(4):
        data = Generator().manual_seed(seed)
        batch = torch.rand(5, 3, generator=data), torch.rand(5, 2, generator=data)
        minifw.train_step(model, criterion, optimizer, *batch)
        grads += [parameter.grad.clone() for parameter in model.parameters()]
    assert model._captured[0].passes
    assert all(map(torch.equal, optimizer.kept, grads))


def test_a_gradient_is_one_tensor_however_often_it_is_read():
    model = model_of("relu")
    step = step_of(model)
    for _ in range(3):
        step()
        first = [parameter.grad for parameter in model.parameters()]
        assert all(p.grad is grad for p, grad in zip(model.parameters(), first, strict=True))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_gradient_that_it_was_made_with(copied):
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    parameter = copied(model[0].weight)
    before = model[0].weight.grad
    step(), step()
    assert torch.equal(parameter.grad, before)
    assert not torch.equal(parameter.grad, model[0].weight.grad)


def sole(x):
    return x * x


def changed(x):
    return sole(x).add_(1)


def needed(x):
    result = sole(x)
    torch.add(result, 1)
    return result


def of_what_is_changed(x):
    between = x * 3
    result = between * between
    between.mul_(2)
    return result


@pytest.mark.parametrize("function", [sole, changed, needed, of_what_is_changed])
def test_a_loss_is_new_and_right_however_it_is_made(function):
    with torch.inference_mode():
        x = torch.rand(3)
        recorder = Recorder(1000)
        recorder.give([x])
        with recorder:
            result = function(x)
        calls, number = recorder.calls, len(recorder.calls)
        make = captured._anew(result, calls, [], set())
        assert number - len(calls) == (function is sole)
        handed = []
        for value in (2.0, 5.0):
            x.fill_(value)
            for call in calls:
                call.again()
            handed.append(make())
            assert torch.equal(handed[-1], function(x.clone()))
    assert not torch.equal(*handed)


def test_gradients_that_the_optimizer_does_not_reset_add_up():
    model, criterion = model_of("relu"), nn.MSELoss()
    optimizer = optim.SGD(model[0].parameters(), lr=0.0)
    x, target = torch.rand(5, 3), torch.rand(5, 2)
    grads = []
    for times in range(1, 5):
        minifw.train_step(model, criterion, optimizer, x, target)
        grads.append(model[-1].bias.grad)
        torch.testing.assert_close(grads[-1], times * grads[0])
