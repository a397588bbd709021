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

__all__ = ["INITIALIZATIONS", "Regions", "Run", "data_generator", "fit_stacked", "prepare"]

# "recipe": the same first weights on every framework; "default": each framework's own.
INITIALIZATIONS = ("recipe", "default")

_STREAMS = ("data", "weights", "batch order", "dropout masks")


def _generator(seed: int, stream: str) -> Generator:
    """A generator for one use of randomness, so that none depends on how much another draws."""
    return Generator().manual_seed(len(_STREAMS) * seed + _STREAMS.index(stream))


def data_generator(seed: int) -> Generator:
    """The generator that draws the training and test data of a run."""
    return _generator(seed, "data")


@contextlib.contextmanager
def _global_generator(seed: int, stream: str, device: torch.device) -> Iterator[None]:
    """Let torch's global generator, which no torch.nn module can do without, draw one stream."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_generator(seed, stream).initial_seed())
        yield


@dataclass(frozen=True)
class Run:
    """All that a recipe trains with, set up on one framework from one seed.

    Attributes:
        recipe, framework, seed: what is trained, on what, from where.
        model, criterion, optimizer, scheduler: of that framework.
        train, test, validation: inputs and targets.
        train_points: the points of the unit square of which train holds the inputs.
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

        It has accuracies if ``measure``. Its validation is on the test points, unless the run is
        stopped early by it.
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
        """The share of ``data`` that the model, as it is now, gets right."""
        metrics = {"accuracy": accuracy(self.recipe.threshold)}
        measured = evaluate(self.model, data, metrics, self.framework.no_grad)
        return float(measured["accuracy"])

    def inside(self, points: Tensor) -> Tensor:
        """Whether the model, as it is now, takes points of the unit square for inside the disk."""
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
) -> Run:
    """Set up a run; the same seed gives the same data, batches, dropout masks and first weights.

    Args:
        recipe: what to train.
        framework: on what.
        seed: of all randomness.
        initialization: "recipe", the first weights of the recipe, the same on every framework, or
            "default", those that the framework draws by itself. Default: "recipe".
        dtype: of data and parameters; both are drawn in float32, so that it changes no draw.
        device: of data and parameters.
        data: training, test and validation points with their labels. Default: those that the recipe
            draws.

    Raises:
        ValueError: initialization is unknown.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"expected an initialization of {INITIALIZATIONS}, got {initialization!r}")
    device = torch.device(device)
    with _global_generator(seed, "weights", device):
        model = recipe.model(framework.nn)
        if initialization == "recipe":
            # Drawn by PyTorch, whichever framework loads it.
            state = recipe.initial_state(PYTORCH.nn, _generator(seed, "weights"))
            model.load_state_dict(state)
    model.to(device=device, dtype=dtype)
    optimizer = recipe.optimizer(framework.optim, model.parameters())
    parts = [
        # Classes are whole numbers and stay so.
        (points.to(device, dtype), labels.to(device, dtype if labels.is_floating_point() else None))
        for points, labels in data or recipe.data(data_generator(seed))
    ]
    train_points = parts[0][0]
    train, test, validation = (
        (recipe.inputs(points, train_points), labels) for points, labels in parts
    )
    return Run(
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
    """Notes, after some epochs, which points each run takes for inside the disk.

    Args:
        runs: one, or those of a stack.
        points: of the unit square.
        epochs: after which.

    Attributes:
        seen: by epoch, bool (runs, points). Those from the epoch on with which a member of a stack
            has stopped early are of the weights that it ends with.
    """

    def __init__(self, runs: Sequence[Run], points: Tensor, epochs: Sequence[int]) -> None:
        self.runs = runs
        self.points = points
        self.epochs = epochs
        self.seen: dict[int, Tensor] = {}

    def on_epoch_end(self, run: Any) -> None:
        epoch = len(run.history)
        if epoch in self.epochs:
            if len(self.runs) > 1:
                _load_members(self.runs, run.model)
            self.seen[epoch] = torch.stack([of.inside(self.points) for of in self.runs])


def _load_members(runs: Sequence[Run], stacked: Any) -> None:
    """Give each run the weights that its member of the stack has now."""
    for run, member in zip(runs, unstack(stacked), strict=True):
        run.model.load_state_dict(member.state_dict())


def fit_stacked(
    runs: Sequence[Run], epochs: int, callbacks: Sequence[Callback] = ()
) -> list[History]:
    """Train runs of one recipe on minifw as a stack, and return the history of each.

    Each run ends as :meth:`Run.fit` would have left it, up to rounding; its seconds are its share
    of those of the stack.
    """
    recipe = runs[0].recipe
    for run in runs:
        # As run.fit seeds the global one.
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
    ends = [one.stopped_epoch for one in stopping[0].members] if stopping else [None] * len(runs)
    return [history.member(index, end) for index, end in enumerate(ends)]


def _stack_data(parts: Sequence[Data]) -> Data:
    inputs, targets = zip(*parts, strict=True)
    return torch.stack(inputs), torch.stack(targets)
