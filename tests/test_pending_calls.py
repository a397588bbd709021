"""Calls that await their backward pass: whose it is, how long they live, and threads."""

import gc
import threading
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import Generator

from minifw import nn, optim
from minifw.plans import disabled

CONTEXTS = [nullcontext, disabled]


def network():
    generator = Generator().manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8, generator=generator), nn.Tanh(), nn.Linear(8, 2, generator=generator)
    )


def batch(seed=1):
    data = Generator().manual_seed(seed)
    return torch.rand(5, 3, generator=data), torch.rand(5, 2, generator=data)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_gradient_goes_to_the_call_that_made_its_tensor(context):
    (x, target), (other, _) = batch(), batch(2)
    with context():
        for _ in range(3):
            model, criterion = network(), nn.MSELoss()
            criterion(model(x), target)
            expected = model.backward(criterion.backward())
            grads = [p.grad for p in model.parameters()]
            model.zero_grad()
            loss = criterion(model(x), target)
            output = model(other)
            assert torch.equal(model.backward(criterion.backward()), expected)
            assert all(map(torch.equal, grads, [p.grad for p in model.parameters()]))
            assert loss.shape == ()
            model.backward(torch.ones_like(output))  # the other call is still pending


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_gradient_in_the_target_is_refused(context):
    x, target = batch()
    with context():
        for _ in range(3):
            model, criterion = network(), nn.MSELoss()
            loss = criterion(target, model(x))
            with pytest.raises(RuntimeError, match=r"criterion\(output, target\), in this order"):
                model.backward(criterion.backward())
            assert loss.shape == ()


def test_a_gradient_of_the_users_own_making_goes_to_the_most_recent_call():
    model, criterion, (x, target) = network(), nn.MSELoss(), batch()
    criterion(model(x), target)
    whole = model.backward(criterion.backward())
    criterion(model(x), target)
    torch.testing.assert_close(model.backward(criterion.backward() * 2), whole * 2)


def test_views_and_detached_outputs_are_the_output():
    model, criterion, (x, target) = network(), nn.MSELoss(), batch()
    for change in (torch.detach, lambda t: t.view(5, 2), lambda t: t.requires_grad_()):
        criterion(change(model(x)), target)
        model.backward(criterion.backward())


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_pass_without_backward_keeps_nothing(context):
    model, criterion, (_, target) = network(), nn.MSELoss(), batch()
    gc.disable()
    try:
        with context():
            inputs = []
            for _ in range(20):  # each call is kept until the second one after it
                x = torch.rand(5, 3)
                inputs.append(weakref.ref(x))
                loss = criterion(model(x), target)
            del x, loss
            assert sum(reference() is not None for reference in inputs) <= 3
            assert len(model._pending) <= 3
            kept = [model(torch.rand(5, 3)) for _ in range(6)]
            assert len(model._pending) >= 6
            for output in kept:
                model.backward(torch.ones_like(output))
    finally:
        gc.enable()


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_model_shared_by_threads_loses_no_gradient(context):
    """Each adds the same gradient, so the sum is a multiple of it."""
    threads, passes = 8, 100
    model, (x, _) = nn.Linear(3, 2), batch()
    model(x)
    model.backward(torch.ones(5, 2))
    once, errors = model.bias.grad.clone(), []
    model.zero_grad()

    def work():
        with context():
            for _ in range(passes):
                try:
                    model(x)
                    model.backward(torch.ones(5, 2))
                except RuntimeError as error:
                    errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert torch.equal(model.bias.grad, once * threads * passes)


def test_each_thread_goes_back_through_its_own_call():
    model, barrier, grads = nn.Tanh(), threading.Barrier(2), {}

    def work(value):
        output = model(torch.full((3,), value))
        barrier.wait()
        grads[value] = model.backward(torch.ones_like(output))

    workers = [threading.Thread(target=work, args=(value,)) for value in (0.5, 2.0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for value, grad in grads.items():
        torch.testing.assert_close(grad, 1 - torch.full((3,), value).tanh() ** 2)


def test_an_optimizer_step_between_call_and_backward_is_refused_in_every_round():
    model, criterion, (x, target) = network(), nn.MSELoss(), batch()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        criterion(model(x), target)
        model.backward(criterion.backward())
        criterion(model(x), target)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified in place"):
            model.backward(criterion.backward())
