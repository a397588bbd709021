"""Plans: steps that are made again are the steps by the rules, bit for bit, and nothing is lost."""

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
from torch import Generator

import minifw
from minifw import nn, optim
from minifw.plans import plan
from minifw.plans.recording import Recorder


class Net(nn.Module):
    """A module of the user's that does more than call others."""

    def __init__(self, generator):
        self.first = nn.Linear(3, 4, generator=generator)
        self.second = nn.Linear(4, 2, generator=generator)
        self.calls = 0

    def forward(self, input):
        self.calls += 1
        return self.second(self.first(input))


def chain(*between, generator):
    first, last = (nn.Linear(*sizes, generator=generator) for sizes in ((3, 6), (6, 2)))
    return nn.Sequential(first, *between, last)


def shared(generator):
    middle = nn.Linear(6, 6, generator=generator)
    return chain(middle, nn.Tanh(), middle, generator=generator)


def frozen(generator):
    model = chain(nn.Tanh(), nn.Linear(6, 6, generator=generator), generator=generator)
    model[2].requires_grad_(False)
    return model


PLANNED = {
    "relu": lambda g: chain(nn.ReLU(), nn.LeakyReLU(), generator=g),
    "smooth": lambda g: chain(nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus(), generator=g),
    "sigmoid": lambda g: chain(nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1), generator=g),
    "layer norm": lambda g: chain(nn.LayerNorm(6), nn.Identity(), nn.Flatten(), generator=g),
    "batch norm": lambda g: chain(nn.BatchNorm1d(6), nn.ReLU(), generator=g),
    "dropout": lambda g: chain(nn.Dropout(0.3, generator=g), nn.ReLU(), generator=g),
    "all dropped": lambda g: chain(nn.Dropout(1.0), generator=g),
    "residual": lambda g: chain(nn.Residual(nn.Sequential(nn.Tanh())), generator=g),
    "nested": lambda g: chain(nn.Sequential(nn.ReLU(), nn.Sequential()), generator=g),
    "shared": shared,
    "frozen": frozen,
}
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
OF_CLASSES = {
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


def compare(monkeypatch, *args, **options):
    planned, model = train(*args, **options)
    assert any(found._calls for found in model._plans)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "MOST", 0)
        by_the_rules, other = train(*args, **options)
    assert not other._plans
    for step, (here, there) in enumerate(zip(planned, by_the_rules, strict=True)):
        for one, two in zip(here, there, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True, msg=str(step))
    return model


@pytest.mark.parametrize("make", PLANNED.values(), ids=PLANNED)
def test_steps_of_a_plan_are_those_follow_the_rules(make, monkeypatch):
    model = compare(monkeypatch, make, nn.MSELoss(), momentum=0.9)
    assert len(model._plans) == 2, "one for each batch size"


@pytest.mark.parametrize("criterion", LOSSES.values(), ids=LOSSES)
def test_of_every_loss(criterion, monkeypatch):
    compare(monkeypatch, PLANNED["relu"], criterion())


@pytest.mark.parametrize("criterion", OF_CLASSES.values(), ids=OF_CLASSES)
def test_of_losses_of_classes(criterion, monkeypatch):
    compare(monkeypatch, PLANNED["relu"], criterion(), classes=torch.long)


def test_of_classes_in_bytes(monkeypatch):
    compare(monkeypatch, PLANNED["relu"], nn.CrossEntropyLoss(), classes=torch.uint8)


def test_of_binary_cross_entropy(monkeypatch):
    compare(monkeypatch, lambda g: PLANNED["relu"](g).append(nn.Sigmoid()), nn.BCELoss())


@pytest.mark.parametrize("name", ["relu", "layer norm", "batch norm", "dropout", "residual"])
def test_of_a_stack(name, monkeypatch):
    compare(monkeypatch, PLANNED[name], nn.MSELoss(), members=3)


@pytest.mark.parametrize("name", ["cross-entropy", "smoothed", "ignoring", "nll"])
def test_of_a_stack_of_losses_of_classes(name, monkeypatch):
    compare(monkeypatch, PLANNED["relu"], OF_CLASSES[name](), members=3, classes=torch.long)


def step_of(model, criterion=None, rows=5):
    criterion = criterion or nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    data = Generator().manual_seed(0)
    x, target = torch.rand(rows, 3, generator=data), torch.rand(rows, 2, generator=data)
    return partial(minifw.train_step, model, criterion, optimizer, x, target)


def model_of(name):
    return PLANNED[name](Generator().manual_seed(0))


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
    """An optimiser of the user's that keeps the gradients."""

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
    assert model._plans[0]._calls
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


def test_calls_of_layers_that_are_alike_are_made_as_one():
    def layers(generator):
        between = [
            module for _ in range(3) for module in (nn.Linear(6, 6, generator=generator), nn.ReLU())
        ]
        return chain(nn.ReLU(), *between, generator=generator)

    model = layers(Generator().manual_seed(0))
    step = step_of(model)
    step(), step()
    made = [call.func.__name__ for call in model._plans[0]._calls.again]
    # The loss, five gradients of biases, of which the last is of another shape, and four masks.
    assert (made.count("sum"), made.count("ne"), made.count("mul_")) == (1 + 1 + 1, 1, 4)


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
        with Recorder([x], 1000) as recorder:
            result = function(x)
        calls, number = recorder.calls, len(recorder.calls)
        make = plan._anew(result, calls)
        assert number - len(calls) == (function is sole)
        handed = []
        for value in (2.0, 5.0):
            x.fill_(value)
            for call in calls:
                call.again()
            handed.append(make())
            assert torch.equal(handed[-1], function(x.clone()))
    assert not torch.equal(*handed)


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
def test_a_plan_gives_way_when_the_model_changes(change, monkeypatch):
    seen = []
    for most in (8, 0):
        monkeypatch.setattr(plan, "MOST", most)
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
    assert [bool(found._calls) for found in model._plans] == [False, True]


@pytest.mark.parametrize(
    "make",
    [
        Net,
        lambda g: chain(nn.Activation(torch.square, lambda x: 2 * x), generator=g),
        lambda g: chain(type("Own", (nn.ReLU,), {})(), generator=g),
    ],
    ids=["module", "function", "subclass"],
)
def test_what_is_not_the_packages_goes_follow_the_rules(make):
    seen, model = train(make, nn.MSELoss(), steps=5)
    assert len(seen) == 5
    assert not any(found._calls for found in model._plans)
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
    assert [bool(found._calls) for found in model._plans] == [True]


@pytest.mark.parametrize("name", ["relu", "dropout", "all dropped", "batch norm"])
def test_a_step_in_which_a_value_is_another_one_goes_by_the_rules(name, monkeypatch):
    seen = []
    for most in (8, 0):
        monkeypatch.setattr(plan, "MOST", most)
        seen.append([])
        model = model_of(name)
        step = step_of(model, nn.CrossEntropyLoss())
        target = torch.tensor([0, 1, 1, 0, 1])
        for label in (1, 0, 2, -100, 1, -100):
            target[2] = label
            if label == 2:
                with pytest.raises(IndexError, match="out of bounds"):
                    step.func(*step.args[:-1], target)
                assert [bool(found._calls) for found in model._plans] == [True] * (most > 0)
                continue
            seen[-1].append(step.func(*step.args[:-1], target))
            seen[-1] += map(torch.clone, model.state_dict().values())
        assert not any(found._calls for found in model._plans)
    assert all(map(torch.equal, *seen))


def test_large_tensors_are_not_kept(monkeypatch):
    for largest, recorded in ((100, 0), (2000, 1), (200_000, 1)):
        monkeypatch.setattr(plan, "LARGEST", largest)
        model = model_of("relu")
        step = step_of(model, rows=100)
        step(), step()
        assert len(model._plans) == recorded
        assert any(found._calls for found in model._plans) == (largest == 200_000)


def test_gradients_that_the_optimizer_does_not_reset_add_up():
    model, criterion = model_of("relu"), nn.MSELoss()
    optimizer = optim.SGD(model[0].parameters(), lr=0.0)
    x, target = torch.rand(5, 3), torch.rand(5, 2)
    grads = []
    for times in range(1, 5):
        minifw.train_step(model, criterion, optimizer, x, target)
        grads.append(model[-1].bias.grad)
        torch.testing.assert_close(grads[-1], times * grads[0])


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
    kept = weakref.ref(model._plans[0]), weakref.ref(model)
    gc.disable()
    try:
        del model, step
        assert [None, None] == [reference() for reference in kept]
    finally:
        gc.enable()


def test_copies_have_no_plans():
    model = model_of("relu")
    step = step_of(model)
    step(), step()
    copied = copy.deepcopy(model)
    assert not copied._plans
    before = [tensor.clone() for tensor in model.state_dict().values()]
    other = step_of(copied)
    other(), other(), other()
    assert all(map(torch.equal, before, model.state_dict().values()))
