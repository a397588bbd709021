"""The loop that people write replays captured calls, with the bits of the eager one."""

from contextlib import nullcontext

import pytest
import torch
from planned_models import PLANNED, model_of
from torch import Generator

from minifw import nn, optim
from minifw.plans import captured, disabled


@pytest.fixture
def replays(monkeypatch):
    """The replays so far."""
    made, replay = [], captured._Calls.replay

    def watched(calls, inputs):
        made.append(calls)
        return replay(calls, inputs)

    monkeypatch.setattr(captured._Calls, "replay", watched)
    return made


def loop(name, steps=6, zero_grad=True, **options):
    """Everything that a loop sees."""
    model, criterion = model_of(name), nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    data, seen = Generator().manual_seed(9), []
    for step in range(steps):
        x, target = (torch.rand(5 if step % 3 else 4, size, generator=data) for size in (3, 2))
        output = model(x)
        loss = criterion(output, target)
        if zero_grad:
            optimizer.zero_grad()
        grad_output = criterion.backward()
        grad_input = model.backward(grad_output, **options)
        optimizer.step()
        seen += [output, loss, grad_output]
        seen += [] if options else [grad_input]
        seen += [p.grad for p in model.parameters() if p.grad is not None]
        seen += [tensor.clone() for tensor in model.state_dict().values()]
    return seen


@pytest.mark.parametrize("zero_grad", [True, False])
@pytest.mark.parametrize("name", PLANNED)
def test_the_loop_replays_and_has_the_bits_of_the_eager_one(name, zero_grad, replays):
    seen = loop(name, zero_grad=zero_grad)
    # Both passes of the model in six steps, and of the criterion, which has few calls, in one.
    assert len(replays) == 6 * 2 + 2
    with disabled():
        expected = loop(name, zero_grad=zero_grad)
    assert len(replays) == 6 * 2 + 2
    if name == "shared" and not zero_grad:
        # A replay adds the sum of the layer's gradients, which rounds otherwise than each of them.
        for here, there in zip(seen, expected, strict=True):
            torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    else:
        assert all(map(torch.equal, seen, expected))
    assert not any(tensor.is_inference() for tensor in seen)


@pytest.mark.parametrize("name", PLANNED)
def test_a_replay_without_the_gradient_of_the_input_has_the_same_bits(name):
    seen = loop(name, needs_input_grad=False)
    with disabled():
        assert all(map(torch.equal, seen, loop(name, needs_input_grad=False)))


def test_what_is_handed_out_is_new_in_each_pass():
    model, x = model_of("relu"), torch.rand(5, 3)
    handed = []
    for _ in range(4):
        output = model(x)
        grad_input = model.backward(torch.ones(5, 2))
        handed += [(tensor, tensor.clone()) for tensor in (output, grad_input)]
        handed[-1][0].add_(1)
        handed[-1] = (grad_input, grad_input.clone())
    assert len({tensor.data_ptr() for tensor, _ in handed}) == 8
    assert all(map(torch.equal, *zip(*handed, strict=True)))


def test_a_call_before_the_backward_pass_of_another_is_eager_and_both_are_right(replays):
    seen = []
    for context in (nullcontext, disabled):
        with context():
            model, data = model_of("dropout"), Generator().manual_seed(3)
            for _ in range(3):
                first, second = (model(torch.rand(5, 3, generator=data)) for _ in range(2))
                grads = [model.backward(torch.full((5, 2), value)) for value in (1.0, 2.0)]
                seen += [first, second, *grads, *(p.grad for p in model.parameters())]
    assert len(replays) == 2 * 3
    half = len(seen) // 2
    assert all(map(torch.equal, seen[:half], seen[half:]))


@pytest.mark.parametrize("change", ["input", "output", "weight"])
def test_what_changes_before_the_backward_pass_is_refused_in_a_replay_too(change):
    model, x = model_of("relu"), torch.rand(5, 3)
    for times in range(3):
        output = model(x)
        if times == 2:
            {"input": x, "output": output, "weight": model[-1].weight.data}[change].mul_(2)
            with pytest.raises(RuntimeError, match="modified in place"):
                model.backward(torch.ones(5, 2))
        else:
            model.backward(torch.ones(5, 2))


def test_a_parameter_frozen_after_the_call_gets_no_gradient():
    for context in (nullcontext, disabled):
        with context():
            model, x = model_of("relu"), torch.rand(5, 3)
            model[0].requires_grad_(False)
            for _ in range(2):
                output = model(x)
                model.requires_grad_()
                model[-1].bias.requires_grad_(False)
                model.backward(torch.ones_like(output))
                assert [p.grad is not None for p in model.parameters()] == [0, 0, 1, 0]
                model.zero_grad()
                model[0].requires_grad_(False)
                model[-1].requires_grad_()


def test_a_warning_comes_with_every_call():
    criterion = nn.MSELoss()
    for _ in range(3):
        with pytest.warns(UserWarning, match="target size"):
            criterion(torch.rand(5, 1), torch.rand(5))


def test_passes_of_one_shape_and_another_layout_have_the_bits_of_the_eager_ones():
    model = model_of("relu")
    for x in (torch.rand(5, 3), torch.rand(3, 5).t(), torch.rand(1, 3).expand(5, 3)) * 2:
        output = model(x)
        model.backward(torch.ones(5, 2))
        with disabled():
            assert torch.equal(output, model(x))


def test_modules_of_few_calls_stay_eager_in_a_loop_of_ones_own(replays):
    criterion, (output, target) = nn.MSELoss(), torch.rand(2, 5, 2)
    for _ in range(4):
        criterion(output, target)
        criterion.backward()
    assert len(replays) == 2  # both passes of the capture, which finds how many calls there are
    assert criterion._is_brief
    assert not model_of("relu")._is_brief
