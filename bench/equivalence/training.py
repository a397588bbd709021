"""Checks of training against a plain PyTorch loop: steps, runs, early stopping, clipping."""

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

from bench.equivalence.unit import Unit, compare, holds
from minifw.testing.case import seeded
from minifw.testing.verdict import Verdict, judge

__all__ = ["STOPS", "UNITS"]

Data = tuple[Tensor, Tensor]

# Value by epoch, arguments of EarlyStopping, number of epochs, and the epoch of the best weights.
STOPS: dict[str, tuple[list[float], dict[str, Any], int, int]] = {
    "stopped": ([3, 2, 1, 2, 3, 4, 0], {"patience": 3}, 6, 3),
    "not stopped": ([3, 1, 2, 3], {"patience": 3}, 4, 2),
    "best at the end": ([3, 2, 1], {"patience": 1}, 3, 3),
    "best at the start": ([1, 2, 3], {"patience": 2}, 3, 1),
    "ties keep the first": ([1, 1, 1, 1], {"patience": 3}, 4, 1),
    "max": ([1, 3, 2, 2, 9], {"mode": "max", "patience": 2}, 4, 2),
    "too little to go on for": ([9, 8.5, 8.2, 8.1, 7], {"min_delta": 1, "patience": 3}, 4, 4),
    "little by little is enough": ([9, 8.5, 7.9, 7.5, 6.8], {"min_delta": 1, "patience": 2}, 5, 5),
    "max by a margin": ([1, 1.5, 1.9, 5], {"mode": "max", "min_delta": 1, "patience": 2}, 3, 3),
    "NaN is no improvement": ([2, math.nan, 1, math.nan, math.nan], {"patience": 2}, 5, 3),
}


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _network(nn: Any, seed: int = 0) -> Any:
    """The same initial weights in either framework; both draw the same dropout masks."""
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
    model.to(torch.float64)
    generator = _seeded(seed)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model


def _data(n: int, seed: int) -> Data:
    inputs = torch.rand(n, 2, generator=_seeded(seed), dtype=torch.float64)
    return inputs, (inputs.sum(1, keepdim=True) > 1).double()


def _near(tensor: str, actual: Tensor, expected: Tensor) -> Verdict:
    """Equal except for the rounding of sums in another order."""
    return judge(tensor, actual, expected, expected, (), 0.0)


def _weights(model: Any) -> Tensor:
    return torch.cat([parameter.data.flatten() for parameter in model.parameters()])


def _loop(
    batch_size: int, epochs: int, train: Data, validation: Data, lr: float = 0.1
) -> tuple[Tensor, Tensor]:
    """A plain PyTorch run: the weights, and a row an epoch.

    The rows hold mean loss, loss and accuracy on the validation data, and the learning rate.
    """
    model = _network(torch.nn)
    criterion, (inputs, targets) = torch.nn.MSELoss(), train
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    order, rows = _seeded(3), []
    with seeded(5):
        for _ in range(epochs):
            model.train()
            total = 0.0
            for batch in torch.split(torch.randperm(len(inputs), generator=order), batch_size):
                optimizer.zero_grad()
                loss = criterion(model(inputs[batch]), targets[batch])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            scheduler.step()
            model.eval()
            with torch.no_grad():
                outputs = model(validation[0])
                measured = criterion(outputs, validation[1]).item()
            right = ((outputs > 0.5) == (validation[1] > 0.5)).double().mean().item()
            rows.append([total / len(inputs), measured, right, optimizer.param_groups[0]["lr"]])
    return _weights(model).detach(), torch.tensor(rows, dtype=torch.float64)


def _fit(framework: ModuleType, model: Any, train: Data, **options: Any) -> tuple[Any, list[float]]:
    """The same run by ``fit``: its history, and the learning rate after each epoch."""
    optimizer = framework.optim.SGD(model.parameters(), lr=options.pop("lr", 0.1), momentum=0.9)
    scheduler, rates = framework.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), []

    class Rates(framework.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_epoch_end(self, run: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    with seeded(5):
        history = framework.fit(
            model,
            options.pop("criterion", None) or framework.nn.MSELoss(),
            optimizer,
            train,
            scheduler=scheduler,
            generator=_seeded(3),
            callbacks=[*options.pop("callbacks", []), Rates()],
            train_step=framework.train_step,
            no_grad=framework.no_grad,
            **options,
        )
    return history, rates


def _run(framework: ModuleType) -> Iterator[Verdict]:
    """Weights, losses, metrics and rates of a whole run."""
    train, validation = _data(50, 1), _data(30, 2)
    for batch_size in (20, 50):
        weights, rows = _loop(batch_size, 4, train, validation)
        model = _network(framework.nn)
        history, rates = _fit(
            framework,
            model,
            train,
            epochs=4,
            batch_size=batch_size,
            validation_data=validation,
            metrics={"accuracy": framework.accuracy(0.5)},
        )
        yield _near("weights", _weights(model), weights)
        yield compare("epochs", [row["epoch"] for row in history], [1, 2, 3, 4])
        names = ("loss", "validation_loss", "validation_accuracy")
        actual = [[row[name] for name in names] for row in history]
        for column, name in enumerate(names):
            here = torch.tensor([row[column] for row in actual], dtype=torch.float64)
            yield _near(name, here, rows[:, column])
        yield compare("learning rates", rates, rows[:, 3], 1e-12)


def _no_rest(framework: ModuleType) -> Iterator[Verdict]:
    """A second run equals the first, even with the same callbacks."""
    stopping, seen = framework.EarlyStopping("loss", patience=2), []
    for _ in range(2):
        model = _network(framework.nn)
        _fit(framework, model, _data(50, 1), epochs=4, batch_size=20, callbacks=[stopping])
        seen.append(_weights(model).clone())
    yield compare("weights", seen[1], seen[0])


def _modes(framework: ModuleType) -> Iterator[Verdict]:
    """In training mode while training, in evaluation mode while measuring."""
    seen: list[bool] = []

    class Modes(framework.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear = framework.nn.Linear(2, 1, dtype=torch.float64)

        def forward(self, input: Any) -> Any:
            seen.append(self.training)
            return self.linear(input)

    model = Modes().eval()
    _fit(framework, model, _data(10, 9), epochs=2, batch_size=5, validation_data=_data(4, 8))
    yield compare("modes", list(map(int, seen)), [1, 1, 0] * 2)
    yield holds("modes", model.training and model.linear.training, "it is left in evaluation mode")


def _accumulated(framework: ModuleType) -> Iterator[Verdict]:
    """Several micro-batches a step equal one batch."""
    # 50 samples: the last step, and in it the last micro-batch, is shorter than the others.
    for reduction in ("mean", "sum"):
        for micro, accumulate in ((1, 50), (7, 3), (9, 2), (10, 5), (16, 4), (50, 2)):
            seen = []
            for batch_size, steps in ((micro * accumulate, 1), (micro, accumulate)):
                model = _network(framework.nn)
                model[2].p = 0.0  # masks of two halves differ from that of the whole
                history, _ = _fit(
                    framework,
                    model,
                    _data(50, 1),
                    criterion=framework.nn.MSELoss(reduction=reduction),
                    lr=0.1 if reduction == "mean" else 0.001,
                    epochs=2,
                    batch_size=batch_size,
                    accumulate=steps,
                )
                losses = torch.tensor([row["loss"] for row in history], dtype=torch.float64)
                seen.append((_weights(model), losses))
            (weights, losses), (weights_of_parts, losses_of_parts) = seen
            yield _near("weights", weights_of_parts, weights)
            yield _near("loss", losses_of_parts, losses)


def _sizes(framework: ModuleType) -> Iterator[Verdict]:
    """Each forward pass processes one micro-batch."""
    sizes: list[int] = []

    class Sizes(framework.nn.Module):  # type: ignore[misc, name-defined]
        def rule(self, input: Tensor) -> Any:
            sizes.append(len(input))
            return input, lambda grad: grad

    model = framework.nn.Sequential(Sizes(), framework.nn.Linear(2, 1, dtype=torch.float64))
    _fit(framework, model, _data(50, 1), epochs=1, batch_size=7, accumulate=3)
    yield compare("sizes", sizes, [7] * 7 + [1])


def _step(framework: ModuleType) -> Iterator[Verdict]:
    """One step ignores earlier gradients and returns the loss before the update."""
    input, target = _data(20, 7)
    losses, weights = [], []
    for nn, optim in ((torch.nn, torch.optim), (framework.nn, framework.optim)):
        model, criterion = _network(nn), nn.MSELoss()
        model[2].p = 0.0
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter.data, 1e9)
        if nn is torch.nn:
            optimizer.zero_grad()
            loss = criterion(model(input), target)
            loss.backward()
            optimizer.step()
        else:
            loss = framework.train_step(model, criterion, optimizer, input, target)
        losses.append(loss.detach())
        weights.append(_weights(model).detach())
    yield _near("loss", losses[1], losses[0])
    yield _near("weights", weights[1], weights[0])


class _Script:
    """Makes a callback that writes values into the history and records the weights."""

    def __init__(self, framework: ModuleType, values: list[float]) -> None:
        self.weights: list[Tensor] = []

        class Callback(framework.callbacks.Callback):  # type: ignore[misc, name-defined]
            def on_epoch_end(_, run: Any) -> None:  # noqa: N805 -- self is the script
                self.weights.append(_weights(run.model).detach().clone())
                run.history[-1]["score"] = values[len(run.history) - 1]

        self.callback = Callback()


def _stopped(
    framework: ModuleType, stopping: Any, values: list[float], epochs: int, best: int
) -> Iterator[Verdict]:
    model, script = _network(framework.nn), _Script(framework, values)
    callbacks = [script.callback, stopping]
    history, _ = _fit(
        framework, model, _data(50, 1), epochs=len(values), batch_size=20, callbacks=callbacks
    )
    yield compare("epochs", [len(history)], [epochs])
    yield compare("best", [stopping.best_epoch or 0, stopping.best], [best, values[best - 1]])
    yield compare("weights", _weights(model).detach(), script.weights[best - 1])
    moved = all(not torch.equal(*pair) for pair in itertools.pairwise(script.weights))
    yield holds("weights", moved, "an epoch has changed nothing")


def _stops(framework: ModuleType) -> Iterator[Verdict]:
    """It stops at the right epoch, and the best weights are restored, stopped or not."""
    for values, options, epochs, best in STOPS.values():
        stopping = framework.EarlyStopping("score", **options)
        yield from _stopped(framework, stopping, values, epochs, best)


def _starts_afresh(framework: ModuleType) -> Iterator[Verdict]:
    """The state of an earlier run is reset."""
    stopping = framework.EarlyStopping("score", patience=1)
    yield from _stopped(framework, stopping, [0.0, 1.0], 2, 1)
    yield from _stopped(framework, stopping, [5.0, 4.0, 6.0], 3, 2)


def _evaluated(framework: ModuleType) -> Iterator[Verdict]:
    """It uses evaluation mode, restores the mode and leaves no pending call."""
    data = _data(10, 8)
    for mode in (True, False):
        model = _network(framework.nn).train(mode)
        mean = {"mean": lambda output, target: output.mean().item()}
        measured = framework.evaluate(model, data, mean)
        expected = _network(torch.nn).eval()(data[0]).mean().item()
        yield compare("metric", [measured["mean"]], [expected], 1e-12)
        back = all(module.training is mode for module in model.modules())
        yield holds("modes", back, "the mode is not restored")
        try:
            model.backward(torch.ones(10, 1, dtype=torch.float64))
        except RuntimeError:
            continue
        yield holds("calls", False, "a pending call is left")


def _clipped(
    framework: ModuleType, clip: Callable[[Any, list[Any]], Any], special: bool
) -> Iterator[Verdict]:
    """Gradients and the norm are equal bit for bit; gradients handed out do not change."""
    for dtype in (torch.float64, torch.float32):
        found, handed_out, generator = [], [], _seeded(0)
        drawn = [torch.randn(shape, generator=generator).to(dtype) for shape in ((7, 3), (4,))]
        if special:
            drawn[0][0] = torch.tensor([math.nan, math.inf, -math.inf])
        for nn in (torch.nn, framework.nn):
            shapes = [(7, 3), (4,), ()]
            params = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
            handed_out = copy.deepcopy(drawn)
            for parameter, grad in zip(params, handed_out, strict=False):
                parameter.grad = grad
            norm = clip(nn.utils, params)
            found.append([torch.zeros(()) if norm is None else norm, *(p.grad for p in params)])
        for there, here in zip(*found, strict=True):
            if there is None:
                yield holds("gradients", here is None, "a gradient where there was none")
            else:
                yield compare("gradients", here, there)
        for grad, before in zip(handed_out, drawn, strict=True):
            yield compare("gradients handed out", grad, before)


def _clipped_norms(framework: ModuleType) -> Iterator[Verdict]:
    for norm_type in (2, 1.0, 0.5, 3, math.inf, "inf"):
        for max_norm in (0.1, 1, 100.0, 0):
            yield from _clipped(
                framework,
                functools.partial(_clip_norm, max_norm=max_norm, norm_type=float(norm_type)),
                special=False,
            )


def _clip_norm(utils: Any, params: list[Any], max_norm: float, norm_type: float) -> Any:
    return utils.clip_grad_norm_(params, max_norm, norm_type)


def _clipped_values(framework: ModuleType) -> Iterator[Verdict]:
    for value in (0.5, 1, 0, 1e9):
        clip = functools.partial(_clip_value, clip_value=value)
        yield from _clipped(framework, clip, special=True)


def _clip_value(utils: Any, params: list[Any], clip_value: float) -> Any:
    return utils.clip_grad_value_(iter(params), clip_value)


_NETWORK = ("nn.Linear", "nn.Tanh", "nn.Dropout", "nn.Sequential", "nn.MSELoss", "optim.SGD")

UNITS = (
    Unit("train_step", ("train_step", *_NETWORK), {"one step": _step}),
    Unit(
        "fit",
        ("fit", "train_step", "optim.lr_scheduler.ExponentialLR", *_NETWORK),
        {
            "whole run": _run,
            "accumulated run": _accumulated,
            "micro-batches": _sizes,
            "modes of a run": _modes,
            "second fit": _no_rest,
        },
    ),
    Unit(
        "EarlyStopping",
        ("EarlyStopping", "fit"),
        {"best weights": _stops, "stopping twice": _starts_afresh},
    ),
    Unit("evaluate", ("evaluate",), {"evaluation": _evaluated}),
    Unit("clip_grad_norm_", ("nn.utils.clip_grad_norm_",), {"clipped norms": _clipped_norms}),
    Unit("clip_grad_value_", ("nn.utils.clip_grad_value_",), {"clipped values": _clipped_values}),
)
