"""The reports' experiments, each written once and run on either framework.

A recipe is a function of a namespace, ``minifw.nn`` or ``torch.nn``, so that nothing is written
twice. Where a report is silent the choice is ours, and a comment says so.

All recipes train on 1,000 points and are tested on 1,000 others. A recipe that stops early uses
1,000 more as validation data, so that no choice depends on the test data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from torch import Generator, Tensor

from minifw.data import disk, normalize

__all__ = [
    "POINTS",
    "RECIPES",
    "SEARCHES",
    "Data",
    "Recipe",
    "Reported",
    "Search",
    "default_uniform",
]

POINTS = 1000

Data = tuple[Tensor, Tensor]
Initializer = Callable[[Any, Any, Generator], None]


def default_uniform(nn: Any, linear: Any, generator: Generator) -> None:
    """U(-k, k), k = 1 / sqrt(fan_in): the default of Linear, which torch and report 000 share."""
    bound = 1 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)


@dataclass(frozen=True)
class Reported:
    """Final accuracies, in [0, 1], that a report gives for one framework; None if it gives none.

    They are means over ``runs`` runs.
    """

    train: float | None
    test: float | None
    runs: int = 1


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: in command lines and tables.
        report: number and title of the report.
        summary: network, loss and schedule in a line.
        model: builds the network from the namespace nn.
        loss: name of the loss in the namespace nn.
        epochs: number of epochs in the report.
        batch_size: in the report.
        optimizer: builds the optimizer from the namespace optim and the parameters. Default: SGD of
            learning rate 0.1.
        labels: label outside the disk, label inside; or "classes", for a network of two outputs.
        normalized: whether inputs are scaled to mean 0 and standard deviation 1 over the training
            data.
        lr_lambda: factor of the learning rate by epoch, counted from 0. Default: 1.
        patience: epochs without a lower validation loss after which a run stops, with the weights
            of the lowest loss. Default: None, no early stopping.
        initialize: draws the initial parameters of a Linear. Default: :func:`default_uniform`.
        reported: by framework, the accuracies that the report gives.
    """

    name: str
    report: str
    summary: str
    model: Callable[[Any], Any]
    loss: str
    epochs: int
    batch_size: int
    optimizer: Callable[[Any, Any], Any] = lambda optim, parameters: optim.SGD(parameters, lr=0.1)
    labels: tuple[float, float] | Literal["classes"] = (0.0, 1.0)
    normalized: bool = False
    lr_lambda: Callable[[int], float] = lambda epoch: 1.0
    patience: int | None = None
    initialize: Initializer = default_uniform
    reported: dict[str, Reported] = field(default_factory=dict)

    @property
    def threshold(self) -> float | None:
        """Outputs above it mean inside; None for classes."""
        return None if self.labels == "classes" else sum(self.labels) / 2

    @property
    def steps_an_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(POINTS / self.batch_size)

    def data(self, generator: Generator) -> tuple[Data, Data, Data]:
        """Draw training, test and validation data: points of the unit square and their labels."""
        train, test, validation = (disk(POINTS, self.labels, generator) for _ in range(3))
        return train, test, validation

    def inputs(self, points: Tensor, train_points: Tensor) -> Tensor:
        """The inputs of the network for ``points``, if it is trained on ``train_points``."""
        return normalize(train_points, points)[1] if self.normalized else points

    def inside(self, outputs: Tensor) -> Tensor:
        """Whether the outputs mean that points lie in the disk: bool, of shape (points)."""
        if self.threshold is None:
            return outputs.argmax(1) == 1
        return outputs[:, 0] > self.threshold

    def initial_state(self, nn: Any, generator: Generator) -> dict[str, Tensor]:
        """Draw the initial parameters, as a state_dict that either framework loads."""
        model = self.model(nn)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                self.initialize(nn, module, generator)
        return dict(model.state_dict())


@dataclass(frozen=True)
class Search:
    """Hyperparameters of a recipe that cross-validation chooses.

    Attributes:
        make: makes the recipe from hyperparameters, given by name.
        grid: by name, the values to try.
        chosen: by name, the values that the recipe uses.
    """

    make: Callable[..., Recipe]
    grid: dict[str, tuple[float, ...]]
    chosen: dict[str, float]


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


def _softmax_sequential(nn: Any) -> Any:
    """Two layers, as the report says; their width is ours."""
    return nn.Sequential(nn.Linear(2, 25), nn.ReLU(), nn.Linear(25, 2))


def _softmax_custom(nn: Any) -> Any:
    """The same network as a module with a forward, not as a Sequential."""

    class Custom(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(2, 25)
            self.activation = nn.ReLU()
            self.output = nn.Linear(25, 2)

        def forward(self, input: Any) -> Any:
            return self.output(self.activation(self.hidden(input)))

    return Custom()


def _softmax_residual(nn: Any) -> Any:
    """The same with a residual layer in between; its place and width are ours."""

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(2, 25)
            self.residual = nn.Linear(25, 25)
            self.activation = nn.ReLU()
            self.add = nn.Add()
            self.output = nn.Linear(25, 2)

        def forward(self, input: Any) -> Any:
            hidden = self.activation(self.hidden(input))
            residual = self.activation(self.residual(hidden))
            return self.output(self.add(hidden, residual))

    return Residual()


def _he_xavier_normal(nn: Any, linear: Any, generator: Generator) -> None:
    """He's normal weights before a ReLU, Xavier's before the Tanh of the output; biases of zero."""
    if linear.out_features == 1:
        nn.init.xavier_normal_(linear.weight, generator=generator)
    else:
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(linear.bias)


_REPORT_000 = "000, Mini deep-learning framework"
_REPORT_001 = "001, Project 2 Deep Learning"
_REPORT_002 = "002, Mini Deep Learning Framework without Autograd"
_REPORT_003 = "003, Deep Learning Mini Project 2"
_REPORT_004 = "004, Implementing a deep learning framework"


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


def _softmax_recipe(name: str, network: str, model: Callable[[Any], Any]) -> Recipe:
    """Report 003 gives neither epochs, batch size, optimizer (SGD or Adam) nor its rate: ours."""
    return Recipe(
        name=name,
        report=_REPORT_003,
        summary=f"{network}; cross-entropy; Adam 0.01; normalized inputs",
        model=model,
        loss="CrossEntropyLoss",
        epochs=100,
        batch_size=50,
        optimizer=lambda optim, parameters: optim.Adam(parameters, lr=0.01),
        labels="classes",
        normalized=True,
    )


def _early_stopping(lr: float, momentum: float, decay: float) -> Recipe:
    """Report 004, which uses test data for early stopping.

    Here validation data is used. The report says that cross-validation chose the hyperparameters,
    without naming them. The grid, momentum, batch size, patience and epochs are ours.
    """
    return Recipe(
        name="early-stopping",
        report=_REPORT_004,
        summary="ReLU hidden, Tanh output; He and Xavier normal; MSE; SGD with time decay, "
        "early stopping",
        model=lambda nn: _mlp(nn, "ReLU", "ReLU", "ReLU", "Tanh"),
        loss="MSELoss",
        epochs=300,
        batch_size=50,
        optimizer=lambda optim, parameters: optim.SGD(parameters, lr=lr, momentum=momentum),
        lr_lambda=lambda epoch: 1 / (1 + decay * epoch),
        patience=30,
        initialize=_he_xavier_normal,
        reported={"minifw": Reported(train=0.995, test=0.991)},
    )


SEARCHES = {
    "early-stopping": Search(
        make=_early_stopping,
        grid={
            "lr": (0.03, 0.1, 0.3),
            "momentum": (0.0, 0.9),
            "decay": (0.003, 0.01, 0.03),
        },
        # Chosen by `python bench/tune.py early-stopping`: the first of three equally good settings
        # in results/tuning-early-stopping.md.
        chosen={"lr": 0.03, "momentum": 0.9, "decay": 0.003},
    )
}

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
        initialize=_xavier_uniform,
        reported={
            "minifw": Reported(None, 0.969, runs=10),
            "pytorch": Reported(None, 0.978, runs=10),
        },
    ),
    # The activations of models 1 and 2 are in a figure that is missing from the text: ours.
    _milestones_recipe("milestones-relu", ("ReLU", "ReLU", "ReLU"), Reported(0.989, 0.978)),
    _milestones_recipe("milestones-tanh", ("Tanh", "Tanh", "Tanh"), Reported(0.968, 0.959)),
    _milestones_recipe("milestones-sigmoid", ("Tanh", "Sigmoid", "Sigmoid"), Reported(0.51, 0.517)),
    _softmax_recipe("softmax-sequential", "2-25-2, ReLU hidden", _softmax_sequential),
    _softmax_recipe("softmax-custom", "the same as a module of one's own", _softmax_custom),
    _softmax_recipe("softmax-residual", "the same with a residual layer", _softmax_residual),
    *(search.make(**search.chosen) for search in SEARCHES.values()),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}
