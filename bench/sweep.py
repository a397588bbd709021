"""The sweep: every recipe, on every framework, from every seed, on as many processes as asked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from joblib import Parallel, delayed

from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = ["GRID", "Finished", "Settings", "Task", "sweep"]

GRID = 101  # points along each side of the unit square at which the decision region is read


@dataclass(frozen=True)
class Settings:
    """What all runs of a sweep share.

    Attributes:
        epochs: epochs a run; None for each recipe's own.
        initialisation: "recipe" or "default", as :func:`reference.run.prepare`.
        dtype: name of a torch dtype.
        device: name of a torch device.
        threads: threads that torch may use in a run.
    """

    epochs: int | None = None
    initialisation: str = "recipe"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1

    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def epochs_of(self, recipe: str) -> int:
        """Epochs of a run of ``recipe``."""
        return self.epochs or RECIPES[recipe].epochs


@dataclass(frozen=True)
class Task:
    """One run to do, by names, so that it can be sent to another process."""

    recipe: str
    framework: str
    seed: int


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        task: which.
        history: a row an epoch: epoch, seconds, loss, train_accuracy, validation_accuracy.
        train_accuracy, test_accuracy: of the trained model, with the weights that it ends with.
        inside: bool (GRID, GRID), whether the trained model takes a point for inside; first index
            y, second index x.
    """

    task: Task
    history: pd.DataFrame = field(repr=False)
    train_accuracy: float
    test_accuracy: float
    inside: npt.NDArray[np.bool_] = field(repr=False)


def sweep(tasks: Iterable[Task], settings: Settings, jobs: int) -> Iterator[Finished]:
    """Do ``tasks`` on ``jobs`` processes and yield each as it is finished."""
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(delayed(_do)(task, settings) for task in tasks)


def _do(task: Task, settings: Settings) -> Finished:
    torch.set_num_threads(settings.threads)
    run = prepare(
        RECIPES[task.recipe],
        FRAMEWORKS[task.framework],
        task.seed,
        settings.initialisation,
        settings.torch_dtype(),
        settings.device,
    )
    history = pd.DataFrame(run.fit(settings.epochs_of(task.recipe)))
    side = torch.linspace(0, 1, GRID)
    y, x = torch.meshgrid(side, side, indexing="ij")
    inside = run.inside(torch.stack([x, y], dim=-1).reshape(-1, 2)).reshape(GRID, GRID)
    return Finished(
        task=task,
        history=history,
        train_accuracy=run.accuracy(run.train),
        test_accuracy=run.accuracy(run.test),
        inside=inside.cpu().numpy(),
    )
