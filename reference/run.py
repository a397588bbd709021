"""One run: a recipe, on a framework, from a seed."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from minifw import EarlyStopping, History, accuracy, evaluate, fit, nn, optim, stack, unstack
from minifw.run import Callback
from reference.frameworks import PYTORCH, Framework
from reference.recipes import Data, Recipe

__all__ = ["INITIALIZATIONS", "RecipeRun", "Regions", "data_generator", "fit_stacked", "prepare"]

# "recipe": the same initial weights on every framework; "default": the framework's.
INITIALIZATIONS = ("recipe", "default")

_STREAMS = ("data", "weights", "batch order", "dropout masks")


def _generator(seed: int, stream: str) -> Generator:
    """A generator for one use of randomness, independent of how much the others draw."""
    return Generator().manual_seed(len(_STREAMS) * seed + _STREAMS.index(stream))


def data_generator(seed: int) -> Generator:
    """The generator that draws the training and test data of a run."""
    return _generator(seed, "data")


@contextlib.contextmanager
def _global_generator(seed: int, stream: str, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator, from which torch.nn modules draw, with one stream."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_generator(seed, stream).initial_seed())
        yield


@dataclass(frozen=True)
class RecipeRun:
    """Everything that a recipe trains with, on one framework from one seed.

    Attributes:
        recipe, framework, seed: of the run.
        model, criterion, optimizer, scheduler: of the framework.
        train, test, validation: inputs and targets.
        train_points: the points of the unit square behind the inputs of ``train``.
        batch_order: generator of the batch order.
    """

    recipe: Recipe
    framework: Framework
    seed: int
    model: Any
    criterion: Any
    optimizer: Any
    scheduler: Any
    train: Data
    test: Data
    validation: Data
    train_points: Tensor
    batch_order: Generator

    def fit(self, epochs: int, measure: bool = True, callbacks: Sequence[Callback] = ()) -> History:
        """Train for ``epochs``, or until an early stop, and return the history.

        The history has accuracies if ``measure``. It validates on the test data, or on validation
        data if the recipe stops early.
        """
        patience = self.recipe.patience
        stopping = [] if patience is None else [EarlyStopping(patience=patience)]
        with _global_generator(self.seed, "dropout masks", self.train[0].device):
            return fit(
                self.model,
                self.criterion,
                self.optimizer,
                self.train,
                epochs=epochs,
                batch_size=self.recipe.batch_size,
                scheduler=self.scheduler,
                validation_data=self.test if patience is None else self.validation,
                metrics={"accuracy": accuracy(self.recipe.threshold)} if measure else {},
                callbacks=[*stopping, *callbacks],
                generator=self.batch_order,
                train_step=self.framework.train_step,
                no_grad=self.framework.no_grad,
            )

    def accuracy(self, data: Data) -> float:
        """The accuracy of the model, as it is now, on ``data``."""
        metrics = {"accuracy": accuracy(self.recipe.threshold)}
        measured = evaluate(self.model, data, metrics, self.framework.no_grad)
        return float(measured["accuracy"])

    def inside(self, points: Tensor) -> Tensor:
        """Whether the model, as it is now, classifies points as inside the disk."""
        inputs = self.recipe.inputs(points.to(self.train_points), self.train_points)
        mode = self.model.training
        self.model.eval()
        with self.framework.no_grad():
            inside = self.recipe.inside(self.model(inputs))
        self.model.train(mode)
        return inside


def prepare(
    recipe: Recipe,
    framework: Framework,
    seed: int,
    initialization: str = "recipe",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    data: Sequence[Data] | None = None,
) -> RecipeRun:
    """Prepare a run; a seed determines data, batches, dropout masks and initial weights.

    Args:
        recipe: what to train.
        framework: minifw or PyTorch.
        seed: of all randomness.
        initialization: "recipe", the initial weights of the recipe, the same on every framework,
            or "default", the framework's. Default: "recipe".
        dtype: of data and parameters; both are drawn in float32, so that dtypes share draws.
        device: of data and parameters.
        data: training, test and validation points with their labels. Default: drawn by the recipe.

    Raises:
        ValueError: initialization is unknown.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"expected an initialization of {INITIALIZATIONS}, got {initialization!r}")
    device = torch.device(device)
    with _global_generator(seed, "weights", device):
        model = recipe.model(framework.nn)
        if initialization == "recipe":
            # Always drawn by PyTorch, so that both frameworks load the same.
            state = recipe.initial_state(PYTORCH.nn, _generator(seed, "weights"))
            model.load_state_dict(state)
    model.to(device=device, dtype=dtype)
    optimizer = recipe.optimizer(framework.optim, model.parameters())
    parts = [
        # Classes are integers, whatever the dtype.
        (points.to(device, dtype), labels.to(device, dtype if labels.is_floating_point() else None))
        for points, labels in data or recipe.data(data_generator(seed))
    ]
    train_points = parts[0][0]
    train, test, validation = (
        (recipe.inputs(points, train_points), labels) for points, labels in parts
    )
    return RecipeRun(
        recipe=recipe,
        framework=framework,
        seed=seed,
        model=model,
        criterion=getattr(framework.nn, recipe.loss)(),
        optimizer=optimizer,
        scheduler=framework.optim.lr_scheduler.LambdaLR(optimizer, recipe.lr_lambda),
        train=train,
        test=test,
        validation=validation,
        train_points=train_points,
        batch_order=_generator(seed, "batch order"),
    )


class Regions(Callback):
    """Records, after some epochs, which points each run classifies as inside the disk.

    Args:
        runs: one run, or the runs of a stack.
        points: of the unit square.
        epochs: when to record.

    Attributes:
        seen: by epoch, bool (runs, points). For a member of a stack that has stopped early, with
            its final weights.
    """

    def __init__(self, runs: Sequence[RecipeRun], points: Tensor, epochs: Sequence[int]) -> None:
        self.runs = runs
        self.points = points
        self.epochs = epochs
        self.seen: dict[int, Tensor] = {}

    def on_epoch_end(self, run: Any) -> None:
        epoch = len(run.history)
        if epoch in self.epochs:
            if len(self.runs) > 1:
                _load_members(self.runs, run.model)
            self.seen[epoch] = torch.stack([member.inside(self.points) for member in self.runs])


def _load_members(runs: Sequence[RecipeRun], stacked: Any) -> None:
    """Copy the weights of each member of the stack to its run."""
    for run, member in zip(runs, unstack(stacked), strict=True):
        run.model.load_state_dict(member.state_dict())


def fit_stacked(
    runs: Sequence[RecipeRun], epochs: int, callbacks: Sequence[Callback] = ()
) -> list[History]:
    """Train runs of one recipe on minifw as a stack, and return the history of each.

    Each run ends as :meth:`RecipeRun.fit` would have left it, up to rounding; its seconds are its
    share of those of the stack.
    """
    recipe = runs[0].recipe
    for run in runs:
        # Seeded as run.fit seeds the global generator.
        masks = Generator(run.train_points.device)
        masks.manual_seed(_generator(run.seed, "dropout masks").initial_seed())
        for module in run.model.modules():
            if isinstance(module, nn.Dropout):
                module.generator = masks
    model = stack([run.model for run in runs])
    optimizer = recipe.optimizer(optim, model.parameters())
    train = _stack_data([run.train for run in runs])
    validation = [run.test if recipe.patience is None else run.validation for run in runs]
    stopping = []
    if recipe.patience is not None:
        stopping = [stack([EarlyStopping(patience=recipe.patience)] * len(runs))]
    history = fit(
        model,
        stack([run.criterion for run in runs]),
        optimizer,
        train,
        epochs=epochs,
        batch_size=recipe.batch_size,
        scheduler=optim.lr_scheduler.LambdaLR(optimizer, recipe.lr_lambda),
        validation_data=_stack_data(validation),
        metrics={"accuracy": accuracy(recipe.threshold)},
        callbacks=[*stopping, *callbacks],
        generator=[run.batch_order for run in runs],
    )
    for row in history:
        row["seconds"] /= len(runs)
    _load_members(runs, model)
    ends = (
        [member.stopped_epoch for member in stopping[0].members] if stopping else [None] * len(runs)
    )
    return [history.member(index, end) for index, end in enumerate(ends)]


def _stack_data(parts: Sequence[Data]) -> Data:
    inputs, targets = zip(*parts, strict=True)
    return torch.stack(inputs), torch.stack(targets)
