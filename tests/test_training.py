"""fit, evaluate and accuracy."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import data, nn, optim
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


def test_fit_trains_both_frameworks_alike() -> None:
    histories, weights = [], []
    for framework in FRAMEWORKS.values():
        model = network(framework.nn)
        optimizer = framework.optim.SGD(model.parameters(), lr=0.1)
        history = minifw.fit(
            model,
            framework.nn.MSELoss(),
            optimizer,
            disk(50, 1),
            epochs=4,
            batch_size=20,
            scheduler=framework.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
            validation_data=disk(30, 2),
            metrics={"accuracy": minifw.accuracy(0.5)},
            generator=seeded(3),
            train_step=framework.train_step,
            no_grad=framework.no_grad,
        )
        assert 0.1 * 0.5**4 == optimizer.param_groups[0]["lr"]
        for row in history:
            assert row.pop("seconds") > 0
        histories.append(history)
        weights.append(model.state_dict())
    assert ["epoch", "loss", "train_accuracy", "validation_accuracy"] == list(histories[0][0])
    assert [1, 2, 3, 4] == [row["epoch"] for row in histories[0]]
    for ours, theirs in zip(*histories, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-12)
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-12, atol=1e-12)


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples() -> None:
    # With a rate of 0 the model stays, so the mean over unequal batches is that over all samples.
    model, pair = network(nn), disk(50, 4)
    history = minifw.fit(
        model,
        nn.MSELoss(),
        optim.SGD(model.parameters(), lr=0.0),
        pair,
        epochs=2,
        batch_size=20,
        generator=seeded(5),
    )
    expected = (model(pair[0]) - pair[1]).square().mean().item()
    assert [expected, expected] == pytest.approx([row["loss"] for row in history], rel=1e-12)
    assert ["epoch", "seconds", "loss"] == list(history[0])


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


def test_a_training_step_returns_the_loss_before_it() -> None:
    model, criterion = network(nn), nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, target = disk(20, 7)
    expected = criterion(model(x), target)
    model[0].weight.grad = torch.full((8, 2), 1e9, dtype=torch.float64)  # left by an earlier step
    before = model[0].weight.data.clone()
    assert torch.equal(expected, minifw.train_step(model, criterion, optimizer, x, target))
    assert 0 < (model[0].weight.data - before).abs().max() < 1


class Modes(nn.Module):
    """Notes the mode and whether its calls are recorded."""

    def __init__(self) -> None:
        self.linear, self.seen = nn.Linear(2, 1), []

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


def test_fit_trains_in_training_mode_and_measures_in_evaluation() -> None:
    model = Modes().eval()
    pair = data.disk(10, generator=seeded(9))
    minifw.fit(
        model,
        nn.MSELoss(),
        optim.SGD(model.parameters()),
        pair,
        epochs=1,
        batch_size=5,
        metrics={"accuracy": minifw.accuracy(0.5)},
        generator=seeded(10),
    )
    assert [True, True, False] == model.seen
    assert model.training


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


def test_fit_is_reproducible() -> None:
    def run() -> tuple[list[float], Tensor]:
        model = network(nn)
        history = minifw.fit(
            model,
            nn.MSELoss(),
            optim.SGD(model.parameters(), lr=0.1),
            disk(30, 11),
            epochs=2,
            batch_size=7,
            generator=seeded(12),
        )
        return [row["loss"] for row in history], model[0].weight.data

    (losses, weight), (again, weight_again) = run(), run()
    assert losses == again
    assert torch.equal(weight, weight_again)
