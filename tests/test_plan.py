"""Plans: steps that are made again are the steps by the rules, bit for bit, and nothing is lost."""

import copy
import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from planned_models import PLANNED, chain, model_of, step_of
from torch import Generator

import minifw
from minifw import nn, optim
from minifw.plans import captured, disabled


class Net(nn.Module):
    """A module of the user's that does more than call others."""

    def __init__(self, generator):
        self.first = nn.Linear(3, 4, generator=generator)
        self.second = nn.Linear(4, 2, generator=generator)
        self.calls = 0

    def forward(self, input):
        self.calls += 1
        return self.second(self.first(input))


LOSSES = {
    "mse": nn.MSELoss,
    "sum": partial(nn.MSELoss, "sum"),
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "smooth l1": nn.SmoothL1Loss,
    "logits": nn.BCEWithLogitsLoss,
    "weighted": lambda: nn.BCEWithLogitsLoss(torch.tensor([2.0, 3.0])),
    "probabilities": nn.CrossEntropyLoss,
}
OF_CLASSES: dict[str, Callable[..., nn.Module]] = {
    "cross-entropy": nn.CrossEntropyLoss,
    "weighted": lambda: nn.CrossEntropyLoss(torch.tensor([2.0, 3.0])),
    "smoothed": partial(nn.CrossEntropyLoss, label_smoothing=0.1),
    "ignoring": partial(nn.CrossEntropyLoss, ignore_index=1),
    "sum": partial(nn.CrossEntropyLoss, reduction="sum"),
    "nll": nn.NLLLoss,
}


def train(make, criterion, steps=7, members=0, classes=None, **options):
    """Losses, gradients and weights of every step, and the model."""
    generators = [Generator().manual_seed(seed) for seed in range(members or 1)]
    models = [make(generator) for generator in generators]
    model = minifw.stack(models) if members else models[0]
    criterion = minifw.stack([criterion] * members) if members else criterion
    optimizer = optim.SGD(model.parameters(), lr=0.1, **options)
    data, seen = Generator().manual_seed(9), []
    for step in range(steps):
        shape = (members,) * bool(members) + (5 if step % 3 else 4,)
        batch = [torch.rand(*shape, features, generator=data) for features in (3, 2)]
        if classes:
            batch[1] = torch.randint(2, shape, generator=data).to(classes)
        loss = minifw.train_step(model, criterion, optimizer, *batch)
        grads = [parameter.grad for parameter in model.parameters()]
        state = [tensor.clone() for tensor in model.state_dict().values()]
        seen.append([loss, *(grad for grad in grads if grad is not None), *state])
    return seen, model


def compare(*args, **options):
    planned, model = train(*args, **options)
    assert any(found.passes for found in model._captured)
    with disabled():
        by_the_rules, other = train(*args, **options)
    assert not other._captured
    for step, (here, there) in enumerate(zip(planned, by_the_rules, strict=True)):
        for one, two in zip(here, there, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True, msg=str(step))
    return model


@pytest.mark.parametrize("make", PLANNED.values(), ids=PLANNED)
def test_steps_of_a_plan_are_those_by_the_rules(make):
    model = compare(make, nn.MSELoss(), momentum=0.9)
    assert len(model._captured) == 2, "one for each batch size"


@pytest.mark.parametrize("criterion", LOSSES.values(), ids=LOSSES)
def test_captured_steps_of_every_loss(criterion):
    compare(PLANNED["relu"], criterion())


@pytest.mark.parametrize("criterion", OF_CLASSES.values(), ids=OF_CLASSES)
def test_captured_steps_of_losses_of_classes(criterion):
    compare(PLANNED["relu"], criterion(), classes=torch.long)


def test_captured_steps_of_classes_in_bytes():
    compare(PLANNED["relu"], nn.CrossEntropyLoss(), classes=torch.uint8)


def test_captured_steps_of_binary_cross_entropy():
    compare(lambda g: PLANNED["relu"](g).append(nn.Sigmoid()), nn.BCELoss())


@pytest.mark.parametrize("name", ["relu", "layer norm", "batch norm", "dropout", "residual"])
def test_captured_steps_of_a_stack(name):
    compare(PLANNED[name], nn.MSELoss(), members=3)


@pytest.mark.parametrize("name", ["cross-entropy", "smoothed", "ignoring", "nll"])
def test_captured_steps_of_a_stack_of_losses_of_classes(name):
    compare(PLANNED["relu"], OF_CLASSES[name](), members=3, classes=torch.long)


def test_calls_of_layers_that_are_alike_are_made_as_one():
    def layers(generator):
        between = [
            module for _ in range(3) for module in (nn.Linear(6, 6, generator=generator), nn.ReLU())
        ]
        return chain(nn.ReLU(), *between, generator=generator)

    model = layers(Generator().manual_seed(0))
    step = step_of(model)
    step(), step()
    made = [call.func.__name__ for call in model._captured[0].passes.forward.calls]
    # The loss, five gradients of biases, of which the last is of another shape, and four masks.
    assert (made.count("sum"), made.count("ne"), made.count("mul_")) == (1 + 1 + 1, 1, 4)


def insert(model):
    model.insert(1, nn.Tanh())


def replace_data(model):
    model[0].weight.data = model[0].weight.data * 2


def hook(model):
    model[1].register_full_backward_hook(lambda module, grads, _: grads[0] * 0)


CHANGES = {
    "a layer": insert,
    "a setting": lambda model: setattr(model[1], "p", 0.9),
    "the mode": lambda model: model.eval(),
    "the mode of one": lambda model: setattr(model[1], "training", False),
    "a generator": lambda model: setattr(model[1], "generator", Generator().manual_seed(5)),
    "a parameter": lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(6, 3))),
    "the data of one": replace_data,
    "values": lambda model: model[0].weight.data.mul_(2),
    "frozen": lambda model: model[0].requires_grad_(False),
    "frozen weight": lambda model: model[0].weight.requires_grad_(False),
    "a hook": hook,
    "a buffer": lambda model: model.register_buffer("mean", torch.zeros(1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plan_gives_way_when_the_model_changes(change):
    seen: list[Any] = []
    for context in (nullcontext, disabled):
        with context():
            model, criterion = model_of("dropout"), nn.MSELoss()
            step_of(model, criterion)()
            step_of(model, criterion)()
            change(model)
            seen.append([step_of(model, criterion)() for _ in range(2)])
            seen[-1] += [p.grad for p in model.parameters() if p.grad is not None]
            seen[-1] += model.state_dict().values()
    assert len(seen[0]) == len(seen[1])
    assert all(map(torch.equal, *seen))


def test_a_criterion_that_changes_is_noticed():
    model, criterion = model_of("relu"), nn.MSELoss()
    step = step_of(model, criterion)
    step()
    before = step().item()
    criterion.reduction = "sum"
    assert step().item() > 5 * before
    assert step_of(model, nn.L1Loss())().item() != pytest.approx(before)


def test_a_hook_that_is_taken_away_is_noticed():
    model, criterion, calls = model_of("relu"), nn.MSELoss(), []
    handle = model[0].register_full_backward_hook(lambda *_: calls.append(1))
    step = step_of(model, criterion)
    step(), step()
    assert len(calls) == 2
    handle.remove()
    step(), step()
    assert len(calls) == 2
    assert [bool(found.passes) for found in model._captured] == [False, False, True]


@pytest.mark.parametrize(
    "make",
    [
        Net,
        lambda g: chain(nn.Activation(torch.square, lambda x: 2 * x), generator=g),
        lambda g: chain(type("Own", (nn.ReLU,), {})(), generator=g),
    ],
    ids=["module", "function", "subclass"],
)
def test_what_is_not_the_packages_goes_by_the_rules(make):
    seen, model = train(make, nn.MSELoss(), steps=5)
    assert len(seen) == 5
    assert not any(found.passes for found in model._captured)
    if isinstance(model, Net):
        assert model.calls == 5


def test_checks_of_values_are_made_in_every_step():
    model = chain(nn.Sigmoid(), generator=Generator().manual_seed(0))
    step = step_of(model.append(nn.Sigmoid()), nn.BCELoss())
    step(), step()
    target = step.args[-1]
    good = target[0].clone()
    target[0] = 2.0
    with pytest.raises(RuntimeError, match=r"between 0 and 1, got .* to 2\.0") as refused:
        step()
    assert refused.value.__context__ is None, "nothing of plans in what the user sees"
    target[0] = good
    step()
    assert model._captured[0].passes


@pytest.mark.parametrize("name", ["relu", "dropout", "all dropped", "batch norm"])
def test_a_step_in_which_a_value_is_another_one_goes_by_the_rules(name):
    seen: list[Any] = []
    for context in (nullcontext, disabled):
        with context():
            seen.append([])
            model = model_of(name)
            step = step_of(model, nn.CrossEntropyLoss())
            target = torch.tensor([0, 1, 1, 0, 1])
            for label in (1, 0, 2, -100, 1, -100):
                target[2] = label
                if label == 2:
                    with pytest.raises(IndexError, match="out of bounds"):
                        step.func(*step.args[:-1], target)
                    assert context is not nullcontext or model._captured[0].passes
                    continue
                seen[-1].append(step.func(*step.args[:-1], target))
                seen[-1] += map(torch.clone, model.state_dict().values())
            assert context is not nullcontext or not model._captured[0].passes
    assert all(map(torch.equal, *seen))


def test_large_tensors_are_not_kept(monkeypatch):
    for largest in (100, 2000, 200_000):
        monkeypatch.setattr(captured, "LARGEST", largest)
        model = model_of("relu")
        step = step_of(model, rows=100)
        step(), step()
        assert any(found.passes for found in model._captured) == (largest == 200_000)


def test_another_dtype_is_refused_as_ever():
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    with pytest.raises(RuntimeError, match=r"expected input of torch\.float32"):
        step.func(*step.args[:3], step.args[3].double(), step.args[4])


def test_no_step_without_recording():
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    with minifw.no_grad(), pytest.raises(RuntimeError, match="no call awaits"):
        step()


def test_a_model_is_let_go_of_at_once():
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    kept = weakref.ref(model._captured[0]), weakref.ref(model)
    gc.disable()
    try:
        del model, step
        assert [None, None] == [reference() for reference in kept]
    finally:
        gc.enable()


def test_copies_have_no_captured():
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    copied = copy.deepcopy(model)
    assert not copied._captured
    before = [tensor.clone() for tensor in model.state_dict().values()]
    other = step_of(copied)
    other(), other(), other()
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_disabled_neither_captures_nor_replays_and_nests():
    model = model_of("relu")
    step = step_of(model)
    with disabled():
        with disabled():
            step()
        step()
        assert not model._captured
    step()
    assert len(model._captured) == 1
    capture, model._captured[0].run = model._captured[0].run, None  # to replay would be an error
    with disabled():
        step()
    model._captured[0].run = capture
    step()


def test_a_captured_step_leaves_no_constant_that_autograd_refuses():
    model = model_of("relu")
    step = step_of(model, rows=7)
    step(), step()
    input, target = torch.rand(7, 2, requires_grad=True), torch.rand(7, 2)
    output, _ = nn.functional.mse_loss(input, target)
    output.backward()
    torch.testing.assert_close(input.grad, (input - target).detach() / 7)
