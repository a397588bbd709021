"""Stacks: every member is, to rounding, what it would have been alone."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from bench.runs.sweep import STACK, Settings, Task, sweep
from minifw import EarlyStopping, nn, optim
from reference.frameworks import MINIFW
from reference.recipes import RECIPES
from reference.run import fit_stacked, prepare

MEMBERS = 3


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


# Whole runs.


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_members_follow_their_lone_runs(recipe: Any) -> None:
    """Data, batch order, dropout masks, Adam, cosine schedule and early stopping are all theirs."""
    epochs = 12
    if recipe.patience is not None:
        recipe, epochs = dataclasses.replace(recipe, patience=3), 60
    alone, stacked = (
        [prepare(recipe, MINIFW, seed, dtype=torch.float64) for seed in range(MEMBERS)]
        for _ in range(2)
    )
    expected = [run.fit(epochs) for run in alone]
    actual = fit_stacked(stacked, epochs)
    assert [len(history) for history in expected] == [len(history) for history in actual]
    if recipe.patience is not None:
        assert len({len(history) for history in actual}) > 1, "all members stop together"
    for lone, member in zip(alone, stacked, strict=True):
        for name, tensor in lone.model.state_dict().items():
            assert_close(member.model.state_dict()[name], tensor)
    for there, here in zip(expected, actual, strict=True):
        for row, other in zip(there, here, strict=True):
            del row["seconds"], other["seconds"]
            assert row == pytest.approx(other, rel=1e-12)


def mlp(seed: int) -> Any:
    """Without normalization: gradients that it makes zero are rounding, which Adam scales up."""
    generator, masks = seeded(seed), seeded(100 + seed)
    return nn.Sequential(
        nn.Linear(2, 6, generator=generator),
        nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Linear(6, 6, generator=generator), nn.GELU())),
        nn.Sigmoid(),
        nn.Dropout(0.3, generator=masks),
        nn.Linear(6, 1, generator=generator),
        nn.Dropout(0.1, generator=masks),
    ).to(torch.float64)


DATA = draw(1, MEMBERS, 50, 2), draw(2, MEMBERS, 50, 1)
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
}


def train(model: Any, criterion: Any, data: Any, generator: Any, name: str, **options: Any) -> Any:
    optimizer = OPTIMIZERS[name](model.parameters())
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    return minifw.fit(
        model,
        criterion,
        optimizer,
        data,
        batch_size=8,
        scheduler=schedule,
        validation_data=data,
        generator=generator,
        **{"epochs": 10, **options},
    )


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_and_schedules_work_on_stacks(name: str, accumulate: int) -> None:
    stack = minifw.stack([mlp(seed) for seed in range(MEMBERS)])
    criterion = minifw.stack([nn.MSELoss()] * MEMBERS)
    options = {"accumulate": accumulate}
    history = train(stack, criterion, DATA, list(map(seeded, range(MEMBERS))), name, **options)
    for member, trained in enumerate(minifw.unstack(stack)):
        alone = mlp(member)
        data = DATA[0][member], DATA[1][member]
        expected = train(alone, nn.MSELoss(), data, seeded(member), name, **options)
        for row, other in zip(expected, history.member(member), strict=True):
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-12)
            assert row["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-12)
        for key, tensor in alone.state_dict().items():
            assert_close(trained.state_dict()[key], tensor)
        assert not torch.equal(alone[0].weight.data, mlp(member)[0].weight.data)


# Every layer and loss.

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Linear without bias": (lambda: nn.Linear(4, 3, bias=False), (5, 4)),
    "Linear of sequences": (lambda: nn.Linear(4, 3), (5, 2, 4)),
    "Linear of one sample": (lambda: nn.Linear(4, 3), (4,)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (5, 4)),
    "BatchNorm1d of sequences": (lambda: nn.BatchNorm1d(4, momentum=None), (5, 4, 3)),
    "BatchNorm1d that keeps nothing": (
        lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        (5, 4),
    ),
    "LayerNorm": (lambda: nn.LayerNorm((2, 4)), (5, 2, 4)),
    "LayerNorm without parameters": (lambda: nn.LayerNorm(4, elementwise_affine=False), (5, 4)),
    "Softmax": (lambda: nn.Softmax(0), (5, 4)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (5, 4)),
    "Flatten": (lambda: nn.Flatten(), (5, 2, 4)),
    "Activation": (lambda: nn.Activation(torch.sin, torch.cos), (5, 4)),
    "Dropout that drops nothing": (lambda: nn.Dropout(0.0), (5, 4)),
    **{
        name: (getattr(nn, name), (5, 4))
        for name in ("ReLU", "LeakyReLU", "ELU", "SiLU", "Softplus", "Sigmoid", "Identity")
    },
}


def parameters_drawn(module: Any, seed: int) -> Any:
    for offset, parameter in enumerate(module.to(torch.float64).parameters()):
        parameter.data.copy_(draw(100 * seed + offset, *parameter.shape))
    return module


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    make, shape = LAYERS[name]
    modules = [parameters_drawn(make(), seed) for seed in range(MEMBERS)]
    stack, x = minifw.stack(modules), draw(3, MEMBERS, *shape)
    for _ in range(2):  # running moments are those of both
        output = stack(x)
        grad_output = draw(4, *output.shape)
        grad_input = stack.backward(grad_output)
        for member, module in enumerate(modules):
            assert_close(output[member], module(x[member]))
            assert_close(grad_input[member], module.backward(grad_output[member]))
    for key, tensor in stack.state_dict().items():
        for member, module in enumerate(modules):
            assert torch.equal(tensor[member], module.state_dict()[key]) or key.startswith("run")
            assert_close(tensor[member].double(), module.state_dict()[key].double())
    grads = [parameter.grad for parameter in stack.parameters()]
    for member, module in enumerate(modules):
        for grad, parameter in zip(grads, module.parameters(), strict=True):
            assert_close(grad[member], parameter.grad)


CLASSES = torch.tensor([[0, 2, 1, 2], [1, -100, -100, 0], [2, 2, -100, 1]])
LOSSES: dict[str, tuple[Callable[..., Any], tuple[int, ...], Any]] = {
    **{
        name: (lambda name=name, **o: getattr(nn, name)(**o), (4, 2), draw(5, MEMBERS, 4, 2))
        for name in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss")
    },
    "BCELoss": (nn.BCELoss, (4, 2), draw(6, MEMBERS, 4, 2).sigmoid()),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, (4, 2), draw(6, MEMBERS, 4, 2).sigmoid()),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, (4, 3), CLASSES),
    "CrossEntropyLoss of probabilities": (
        lambda **o: nn.CrossEntropyLoss(label_smoothing=0.1, **o),
        (4, 3),
        draw(7, MEMBERS, 4, 3).softmax(-1),
    ),
    "NLLLoss": (nn.NLLLoss, (4, 3), CLASSES),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, reduction: str) -> None:
    make, shape, target = LOSSES[name]
    alone, x = make(reduction=reduction), draw(8, MEMBERS, *shape)
    x = x.sigmoid() if name == "BCELoss" else x
    stack = minifw.stack([alone] * MEMBERS)
    output = stack(x, target)
    cotangent = () if reduction != "none" else (draw(9, *output.shape),)
    grad = stack.backward(*cotangent)
    for member in range(MEMBERS):
        assert_close(output[member], alone(x[member], target[member]))
        assert_close(grad[member], alone.backward(*(c[member] for c in cotangent)))


def test_a_members_dropout_draws_from_its_own_generator_whatever_the_others_do() -> None:
    def masks(seeds: list[int]) -> Tensor:
        stack = minifw.stack([nn.Dropout(0.5, generator=seeded(seed)) for seed in seeds])
        return torch.stack([stack(torch.ones(len(seeds), 20))[1] for _ in range(3)])

    assert torch.equal(masks([1, 2, 3]), masks([7, 2]))
    assert not torch.equal(masks([1, 2, 3]), masks([1, 3, 2]))


# Early stopping.


def test_a_member_that_has_stopped_stays_where_it_was_best() -> None:
    stack = minifw.stack([mlp(seed) for seed in range(MEMBERS)])
    seen: list[dict[str, Tensor]] = []

    class Scores(minifw.run.Callback):
        def on_epoch_end(self, run: Any) -> None:
            values = [[3, 5, 5], [2, 4, 6], [4, 3, 7], [5, 2, 8], [6, 1, 9], [7, 0, 1]]
            run.history[-1]["score"] = values[len(seen)]
            seen.append({name: t.clone() for name, t in run.model.state_dict().items()})

    stopping = minifw.stack([EarlyStopping("score", patience=2)] * MEMBERS)
    generators = list(map(seeded, range(MEMBERS)))
    criterion = minifw.stack([nn.MSELoss()] * MEMBERS)
    callbacks = [Scores(), stopping]
    train(stack, criterion, DATA, generators, "Adam", epochs=6, callbacks=callbacks)
    assert [2, 6, 1] == [one.best_epoch for one in stopping.members]
    assert [4, None, 3] == [one.stopped_epoch for one in stopping.members]
    assert [2, 0, 5] == [one.best for one in stopping.members]
    for name, tensor in stack.state_dict().items():
        assert torch.equal(seen[1][name][0], tensor[0]), name
        assert torch.equal(seen[4][name][0], tensor[0]), name
        assert torch.equal(seen[5][name][1], tensor[1]), name
    assert not torch.equal(seen[3]["0.weight"][0], seen[4]["0.weight"][0])
    assert not torch.equal(seen[4]["0.weight"][1], seen[5]["0.weight"][1])


# State.


def test_a_stack_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    class Kill(minifw.run.Callback):
        def on_epoch_end(self, run: Any) -> None:
            if len(run.history) == 4:
                raise KeyboardInterrupt

    def run(*callbacks: Any, path: Path) -> Any:
        stack = minifw.stack([mlp(seed) for seed in range(MEMBERS)])
        criterion = minifw.stack([nn.MSELoss()] * MEMBERS)
        generators = list(map(seeded, range(MEMBERS)))
        callbacks = (minifw.stack([EarlyStopping(patience=2)] * MEMBERS), *callbacks)
        train(stack, criterion, DATA, generators, "Adam", callbacks=callbacks, checkpoint=path)
        return stack

    expected = run(path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Kill(), path=tmp_path / "killed")
    actual = run(path=tmp_path / "killed")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name


def test_states_have_the_members_in_front_and_load() -> None:
    models = [mlp(seed) for seed in range(MEMBERS)]
    stack, other = minifw.stack(models), minifw.stack([mlp(9)] * MEMBERS)
    for key, tensor in stack.state_dict().items():
        assert torch.equal(tensor, torch.stack([model.state_dict()[key] for model in models]))
    other.load_state_dict(stack.state_dict())
    for model, again in zip(models, minifw.unstack(other), strict=True):
        assert repr(model) == repr(again)
        assert [type(m) for m in model.modules()] == [type(m) for m in again.modules()]
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[key])


def test_stacks_and_members_are_copies() -> None:
    shared = nn.Linear(2, 2)
    models = [nn.Sequential(copy.deepcopy(shared), nn.Softmax(1)) for _ in range(2)]
    for model in models:
        model.append(model[0])
        model[0].weight.grad = torch.ones(2, 2)
        model[0].bias.requires_grad = False
    stack = minifw.stack(models)
    assert stack[0] is stack[2]
    assert stack[1].dim == 2
    assert stack[0].weight.grad is None
    assert [True, False] == [parameter.requires_grad for parameter in stack.parameters()]
    members = minifw.unstack(stack)
    assert [1, 1] == [member[1].dim for member in members]
    stack[0].weight.data.zero_()
    for model in (*models, *members):
        assert torch.equal(shared.weight.data, model[0].weight.data)


def test_members_keep_their_generators() -> None:
    models = [mlp(seed) for seed in range(MEMBERS)]
    for model, member in zip(models, minifw.unstack(minifw.stack(models)), strict=True):
        assert model[4].generator is member[4].generator is member[6].generator


# Errors.


class Rule(nn.Module):
    def rule(self, input: Tensor) -> Any:
        return input[0], lambda grad: grad


class Scaled(nn.Module):
    def __init__(self) -> None:
        self.scale, self.multiply = nn.Parameter(torch.ones(2)), nn.Multiply()

    def forward(self, input: Tensor) -> Any:
        return self.multiply(input, self.scale)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.Sequential(nn.Tanh(), Rule()), ["1 Rule()", "rule is its own"]),
        (Scaled, ["Scaled", "holds parameters"]),
        (lambda: nn.Sequential(nn.Dropout()), ["0 Dropout(p=0.5)", "generator"]),
        (nn.Softmax, ["Softmax(dim=None)", "give it"]),
        (lambda: nn.BCELoss(torch.ones(2)), ["BCELoss()", "weights"]),
        (lambda: minifw.stack([nn.Tanh()]), ["Tanh()", "of a stack already"]),
    ],
    ids=["rule", "parameter", "dropout", "softmax", "loss", "stack"],
)
def test_what_cannot_be_stacked_is_named(make: Callable[[], Any], named: list[str]) -> None:
    with pytest.raises(TypeError, match="cannot be stacked") as raised:
        minifw.stack([make(), make()])
    for part in named:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Linear(2, 4),
        lambda: nn.Linear(2, 3, bias=False),
        lambda: nn.Linear(2, 3, dtype=torch.float64),
        lambda: nn.Linear(2, 3).requires_grad_(False),
        lambda: nn.Linear(2, 3).eval(),
        nn.Tanh,
    ],
)
def test_models_of_other_shapes_are_refused(other: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"models of one shape, got.* and, at 1, "):
        minifw.stack([nn.Linear(2, 3), other()])


def stacked_fit(**changes: Any) -> None:
    stack = minifw.stack([nn.Linear(2, 1, dtype=torch.float64) for _ in range(MEMBERS)])
    options = {
        "criterion": minifw.stack([nn.MSELoss()] * MEMBERS),
        "generator": list(map(seeded, range(MEMBERS))),
        "data": DATA,
    } | changes
    minifw.fit(stack, optimizer=optim.SGD(stack.parameters()), epochs=1, batch_size=5, **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": nn.MSELoss()}, "criterion that is a stack of 3 members"),
        ({"generator": seeded(0)}, "generator for each member"),
        ({"generator": [seeded(0)]}, "for each of 3 members, got 1"),
        ({"callbacks": [EarlyStopping("loss")]}, "stack it too"),
        ({"scheduler": 1, "scheduler_monitor": "loss"}, "scheduler that needs no value"),
        ({"data": (DATA[0][:, :0], DATA[1][:, :0])}, "at least one sample"),
    ],
    ids=["criterion", "generator", "generators", "early stopping", "plateau", "no data"],
)
def test_runs_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stacked_fit(**changes)


def test_bad_stacks_and_inputs() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        minifw.stack([])
    with pytest.raises(ValueError, match=r"made by minifw\.stack, got Tanh"):
        minifw.unstack(nn.Tanh())
    stack = minifw.stack([nn.Linear(2, 1), nn.Linear(2, 1)])
    for shape in ((3, 5, 2), (2, 5, 3), (2,)):
        with pytest.raises(RuntimeError, match=r"expected input of shape \(2, \*, 2\)"):
            stack(torch.ones(shape))


# The sweep.


def test_the_sweep_trains_minifw_stacked_and_gives_what_lone_runs_give() -> None:
    settings = Settings(epochs=5, dtype="float64")
    tasks = [Task("dropout-bce", "minifw", seed) for seed in range(STACK + 2)]
    chosen = [tasks[0], tasks[1], tasks[-1]]
    found = {run.task: run for run in sweep(tasks, settings, jobs=1)}
    assert set(tasks) == set(found)
    for task in chosen:
        (alone,) = sweep([task], settings, jobs=1)
        there, here = (run.history.drop(columns="seconds") for run in (alone, found[task]))
        torch.testing.assert_close(
            torch.tensor(here.to_numpy()), torch.tensor(there.to_numpy()), rtol=1e-12, atol=1e-12
        )
        assert alone.test_accuracy == found[task].test_accuracy
        assert (alone.regions == found[task].regions).all()
