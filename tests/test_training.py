"""fit, evaluate, metrics and callbacks: what the checks of test_units.py leave open."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import EarlyStopping, data, metrics, nn, optim
from minifw.run import Callback, Run
from reference.frameworks import FRAMEWORKS


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def network(nn: Any, seed: int = 0) -> Any:
    """The same first weights in either framework."""
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(torch.float64)
    generator = seeded(seed)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model


def disk(n: int, seed: int) -> tuple[Tensor, Tensor]:
    points, labels = data.disk(n, generator=seeded(seed))
    return points.double(), labels.double()


def test_fit_learns_the_disk() -> None:
    generator = seeded(6)
    model = nn.Sequential(
        nn.Linear(2, 25, generator=generator), nn.ReLU(), nn.Linear(25, 1, generator=generator)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    history = minifw.fit(
        model,
        nn.MSELoss(),
        optimizer,
        data.disk(500, generator=generator),
        epochs=40,
        batch_size=25,
        validation_data=data.disk(500, generator=generator),
        metrics={"accuracy": minifw.accuracy(0.5)},
        generator=generator,
    )
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["validation_accuracy"] > 0.85


class Modes(nn.Module):
    """Notes the mode and whether its calls are recorded."""

    def __init__(self) -> None:
        self.linear = nn.Linear(2, 1)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Any:
        self.seen.append(self.training)
        return self.linear(x)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_puts_the_mode_back_and_keeps_nothing(mode: bool) -> None:
    model, (points, labels) = Modes().train(mode), data.disk(10, generator=seeded(8))
    measured = minifw.evaluate(
        model, (points, labels), {"mean": lambda output, target: output.mean().item()}
    )
    assert [False] == model.seen
    assert mode == model.training == model.linear.training
    assert {"mean": model(points).mean().item()} == measured
    model.backward(torch.ones(10, 1))
    with pytest.raises(RuntimeError, match="no call awaits"):
        model.backward(torch.ones(10, 1))
    with pytest.raises(RuntimeError, match="features"):
        minifw.evaluate(model, (labels, labels), {})
    assert mode == model.training


@pytest.mark.parametrize(
    ("outputs", "targets", "threshold", "expected"),
    [
        ([0.9, 0.1, 0.8, 0.4], [1, 0, 1, 0], 0.5, 1.0),
        ([0.9, 0.1, 0.2, 0.6], [1, 0, 1, 0], 0.5, 0.5),
        ([0.5, -0.5], [1, -1], 0.0, 1.0),
        ([0.5, -0.5], [-1, 1], 0.0, 0.0),
        ([0.5, 0.5], [0, 1], 0.5, 0.5),  # on the threshold counts as below
    ],
)
def test_accuracy(
    outputs: list[float], targets: list[float], threshold: float, expected: float
) -> None:
    metric = minifw.accuracy(threshold)
    assert expected == metric(torch.tensor(outputs), torch.tensor(targets).float())


CLASSES = [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 3.0, 2.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("outputs", "targets", "threshold", "wrong"),
    [
        ([[0.9], [0.1]], [[1.0], [1.0]], 0.5, 1),
        ([[0.9], [-0.1]], [[1.0], [-1.0]], 0.0, 0),
        (CLASSES, [0, 2, 1, 2], None, 0),
        (CLASSES, [0, 0, 0, 0], None, 3),
        (CLASSES, data.one_hot(torch.tensor([0, 2, 1, 0])).tolist(), None, 1),
    ],
)
def test_errors_are_counted(
    outputs: Any, targets: Any, threshold: float | None, wrong: int
) -> None:
    pair = torch.tensor(outputs), torch.tensor(targets)
    assert wrong == metrics.errors(threshold)(*pair)
    assert 1 - wrong / len(outputs) == metrics.accuracy(threshold)(*pair)


def train(model: Any, framework: Any = FRAMEWORKS["minifw"], **options: Any) -> Any:
    """A short run, the same for each framework but for what ``options`` say."""
    optimizer = framework.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"epochs": 5, "batch_size": 20, **options}
    if "scheduler" in options:
        options["scheduler"] = options["scheduler"](framework.optim.lr_scheduler, optimizer)
    return minifw.fit(
        model,
        options.pop("criterion", None) or framework.nn.MSELoss(),
        optimizer,
        disk(50, 1),
        **{"validation_data": disk(30, 2), "generator": seeded(3), **options},
        train_step=framework.train_step,
        no_grad=framework.no_grad,
    )


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_plateau_is_given_the_column_that_it_monitors(framework: Any) -> None:
    # With this threshold nothing counts as an improvement but the first value.
    model, schedules = network(framework.nn), []

    def schedule(lr_scheduler: Any, optimizer: Any) -> Any:
        options = {"patience": 1, "factor": 0.5, "threshold": 10, "threshold_mode": "abs"}
        schedules.append(lr_scheduler.ReduceLROnPlateau(optimizer, **options))
        return schedules[0]

    history = train(
        model, framework, scheduler=schedule, scheduler_monitor="validation_loss", epochs=7
    )
    assert history[0]["validation_loss"] == schedules[0].best
    assert [0.1 / 8] == schedules[0].get_last_lr()
    with pytest.raises(ValueError, match=r"'validation_loss'.* got 'validation_los'"):
        train(model, framework, scheduler=schedule, scheduler_monitor="validation_los")


def test_the_history_is_a_list_and_a_frame() -> None:
    history = train(network(nn), metrics={"accuracy": minifw.accuracy(0.5)})
    frame = history.to_frame()
    assert isinstance(history, list)
    columns = ["loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    assert ["epoch", "seconds", *columns] == list(history[0])
    assert ["epoch", "seconds", "loss"] == list(train(network(nn), validation_data=None)[0])
    assert all(row["seconds"] > 0 for row in history)
    assert [1, 2, 3, 4, 5] == [row["epoch"] for row in history]
    assert isinstance(frame, pd.DataFrame)
    assert (5, 6) == frame.shape
    assert history == frame.to_dict("records")


def test_validation_loss_is_the_criterion_in_evaluation_mode() -> None:
    model, criterion = nn.Sequential(nn.Dropout(0.5), *network(nn)), nn.MSELoss()
    history = train(model, criterion=criterion)
    points, labels = disk(30, 2)
    expected = criterion(model.eval()(points), labels).item()
    assert expected == history[-1]["validation_loss"]
    criterion.backward()
    with pytest.raises(RuntimeError, match="no call awaits"):
        criterion.backward()


class Script(Callback):
    """Puts a value of its own into the history, and notes the weights of each epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.weights: list[Any] = []
        self.calls: list[Any] = []

    def on_train_begin(self, run: Run) -> None:
        self.calls.append("begin")

    def on_step_end(self, run: Run) -> None:
        self.calls.append("step")

    def on_epoch_end(self, run: Run) -> None:
        self.calls.append("epoch")
        self.weights.append(run.model[0].weight.data.clone())
        run.history[-1]["score"] = self.values[len(run.history) - 1]

    def on_train_end(self, run: Run) -> None:
        self.calls.append("end")


def test_callbacks_are_called_in_order() -> None:
    script = Script([0.0] * 2)
    train(network(nn), callbacks=[script], epochs=2)
    assert ["begin", *["step", "step", "step", "epoch"] * 2, "end"] == script.calls


def test_early_stopping_gives_the_best_weights_back_after_an_interrupt() -> None:
    class Interrupt(Callback):
        def on_step_end(self, run: Run) -> None:
            if run.done > 3.5:
                raise KeyboardInterrupt

    model, script = network(nn), Script([2.0, 1.0, 3.0])
    with pytest.raises(KeyboardInterrupt):
        train(model, callbacks=[script, EarlyStopping("score"), Interrupt()])
    assert torch.equal(script.weights[1], model[0].weight.data)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: EarlyStopping(patience=0), "patience of at least 1 epoch, got 0"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta of at least 0, got -1"),
        (lambda: EarlyStopping(mode="least"), "'min' or 'max', got 'least'"),
        (lambda: train(network(nn), epochs=0), "at least 1, got 0"),
        (lambda: train(network(nn), accumulate=0), "at least 1 batch a step, got 0"),
        (
            lambda: train(network(nn), callbacks=[EarlyStopping()], validation_data=None),
            r"\['epoch', 'seconds', 'loss'\], to monitor, got 'validation_loss'",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(function: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function()


@pytest.mark.parametrize(
    ("terminal", "progress", "due", "drawn"),
    [
        (True, True, math.inf, True),
        (True, None, 0.0, True),
        (True, None, math.inf, False),
        (True, False, 0.0, False),
        (False, True, 0.0, False),
    ],
)
def test_a_progress_bar_is_drawn_on_a_terminal_when_asked_or_when_it_takes_long(
    terminal: bool,
    progress: bool | None,
    due: float,
    drawn: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = minifw.callbacks.ProgressBar
    monkeypatch.setattr("minifw.training.ProgressBar", lambda after: bar(after and due))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    train(network(nn), progress=progress)
    printed = capsys.readouterr()
    assert "" == printed.out
    assert drawn == ("epoch 1 of 5" in printed.err)
    assert drawn or "" == printed.err


def test_a_progress_bar_moves_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    seconds = itertools.count()  # every look at the clock is a second later
    monkeypatch.setattr("minifw.callbacks.time.perf_counter", lambda: next(seconds))
    train(network(nn), progress=True)
    assert "epoch 5 of 5" in capsys.readouterr().err


def test_importing_and_training_load_none_of_the_heavy_packages() -> None:
    script = """if True:
        import sys, minifw
        from minifw import nn, optim
        model = nn.Linear(2, 1)
        minifw.fit(
            model, nn.MSELoss(), optim.SGD(model.parameters()), minifw.data.disk(10),
            epochs=1, batch_size=5, callbacks=[minifw.EarlyStopping("loss")],
        )
        print([name for name in ("pandas", "rich", "safetensors") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "[]" == done.stdout.strip()
