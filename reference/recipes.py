"""The reports' experiments, each written once and run on either framework.

A recipe is a function of the namespace it runs in (``minifw.nn`` or ``torch.nn``): what is compared
has not been written twice. Where a report is silent the choice is ours, and a comment says so.

All train on 1,000 points of the disk and are tested on 1,000 others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import Generator, Tensor

from minifw.data import disk

__all__ = ["POINTS", "RECIPES", "Data", "Recipe", "Reported"]

POINTS = 1000

Data = tuple[Tensor, Tensor]
Initialiser = Callable[[Any, Any, Generator], None]


@dataclass(frozen=True)
class Reported:
    """Final accuracies, in [0, 1], that a report gives for one framework; None: it gives none."""

    train: float | None
    test: float | None


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: as the command line and the tables give it.
        report: number and title of the report that it comes from.
        summary: network, loss and schedule in a line.
        model: builds the network from the namespace nn.
        loss: name of the loss in the namespace nn.
        epochs, batch_size, lr: as trained by the report.
        labels: label outside the disk, label inside.
        lr_lambda: factor of lr for an epoch counted from 0. Default: always 1.
        initialise: draws the first parameters, or None for the default of Linear, which torch and
            report 000 share: U(-k, k), k = 1 / sqrt(fan_in).
        reported: by framework, the accuracies that the report gives.
    """

    name: str
    report: str
    summary: str
    model: Callable[[Any], Any]
    loss: str
    epochs: int
    batch_size: int
    lr: float = 0.1
    labels: tuple[float, float] = (0.0, 1.0)
    lr_lambda: Callable[[int], float] = lambda epoch: 1.0
    initialise: Initialiser | None = None
    reported: dict[str, Reported] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Outputs above it are taken for the label inside."""
        return sum(self.labels) / 2

    @property
    def steps_an_epoch(self) -> int:
        """Batches that the training points make."""
        return math.ceil(POINTS / self.batch_size)

    def data(self, generator: Generator) -> tuple[Data, Data]:
        """Draw training and test data."""
        return disk(POINTS, self.labels, generator), disk(POINTS, self.labels, generator)

    def initial_state(self, nn: Any, generator: Generator) -> dict[str, Tensor]:
        """Draw the first parameters of the recipe, as a state_dict that either framework loads."""
        model = self.model(nn)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                if self.initialise is None:
                    bound = 1 / math.sqrt(module.in_features)
                    nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
                else:
                    self.initialise(nn, module, generator)
        return dict(model.state_dict())


def _mlp(nn: Any, *activations: str) -> Any:
    """2 -> 25 -> 25 -> 25 -> 1, an activation after each layer for which one is named."""
    sizes = (2, 25, 25, 25, 1)
    modules: list[Any] = []
    for index, (in_features, out_features) in enumerate(pairwise(sizes)):
        modules.append(nn.Linear(in_features, out_features))
        if index < len(activations):
            modules.append(getattr(nn, activations[index])())
    return nn.Sequential(*modules)


def _dropout_mlp(nn: Any) -> Any:
    return nn.Sequential(
        nn.Linear(2, 25),
        nn.ReLU(),
        nn.Linear(25, 25),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(25, 25),
        nn.Dropout(0.5),
        nn.Tanh(),
        nn.Linear(25, 1),
        nn.Sigmoid(),
    )


def _xavier_uniform(nn: Any, linear: Any, generator: Generator) -> None:
    """U(-sqrt k, sqrt k), k = 6 / (fan_in + fan_out); report 001 keeps the bias in the weight."""
    bound = math.sqrt(6 / (linear.in_features + linear.out_features))
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)


def _milestones(epoch: int) -> float:
    """0.1, then 0.03 from epoch 100 and 0.01 from epoch 175, as factors of 0.1."""
    return 1.0 if epoch < 100 else 0.3 if epoch < 175 else 0.1


_REPORT_000 = "000, Mini deep-learning framework"
_REPORT_001 = "001, Project 2 Deep Learning"
_REPORT_002 = "002, Mini Deep Learning Framework without Autograd"


def _milestones_recipe(name: str, activations: tuple[str, ...], reported: Reported) -> Recipe:
    return Recipe(
        name=name,
        report=_REPORT_002,
        summary=f"{' '.join(activations)}, linear output; MSE; SGD 0.1, 0.03, 0.01",
        model=lambda nn: _mlp(nn, *activations),
        loss="MSELoss",
        epochs=250,
        batch_size=50,
        lr_lambda=_milestones,
        reported={"minifw": reported},
    )


_RECIPES = (
    Recipe(
        name="relu-mse",
        report=_REPORT_000,
        summary="ReLU hidden, linear output; MSE; SGD 0.1",
        model=lambda nn: _mlp(nn, "ReLU", "ReLU", "ReLU"),
        loss="MSELoss",
        epochs=200,
        batch_size=100,
        reported={"minifw": Reported(train=0.968, test=0.958)},
    ),
    Recipe(
        name="dropout-bce",
        report=_REPORT_000,
        summary="ReLU, Dropout, Tanh, Sigmoid output; BCE; SGD 0.1",
        model=_dropout_mlp,
        loss="BCELoss",
        epochs=200,
        batch_size=100,
        reported={"minifw": Reported(train=0.965, test=0.965)},
    ),
    Recipe(
        name="xavier-tanh",
        report=_REPORT_001,
        summary="ReLU hidden, Tanh output; Xavier uniform; MSE on -1/1; SGD 0.1",
        model=lambda nn: _mlp(nn, "ReLU", "ReLU", "ReLU", "Tanh"),
        loss="MSELoss",
        epochs=200,
        batch_size=50,
        labels=(-1.0, 1.0),
        initialise=_xavier_uniform,
        reported={"minifw": Reported(None, 0.969), "pytorch": Reported(None, 0.978)},
    ),
    # The activations of models 1 and 2 are in a figure that the text of the report lacks: ours.
    _milestones_recipe("milestones-relu", ("ReLU", "ReLU", "ReLU"), Reported(0.989, 0.978)),
    _milestones_recipe("milestones-tanh", ("Tanh", "Tanh", "Tanh"), Reported(0.968, 0.959)),
    _milestones_recipe("milestones-sigmoid", ("Tanh", "Sigmoid", "Sigmoid"), Reported(0.51, 0.517)),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}
