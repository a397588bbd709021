"""The sweep: every recipe, on every framework, from every seed, on as many processes as asked."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from joblib import Parallel, delayed

from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import fit_stacked, prepare

__all__ = ["GRID", "STACK", "Finished", "Settings", "Task", "sweep"]

STACK = 32  # runs of minifw that are trained as one, at most
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
    """Do ``tasks`` on ``jobs`` processes and yield each as it is finished.

    Those of one recipe on minifw are done together, up to :data:`STACK` of them as one stack.
    """
    parts: list[list[Task]] = []
    for (_, framework), group in itertools.groupby(tasks, lambda of: (of.recipe, of.framework)):
        alike = list(group)
        stacks = math.ceil(len(alike) / STACK) if framework == "minifw" else len(alike)
        # In turn, so that all stacks are about as large, whatever the number of processes.
        parts += [alike[first::stacks] for first in range(stacks)]
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    for finished in parallel(delayed(_do)(part, settings) for part in parts):
        yield from finished


def _do(tasks: list[Task], settings: Settings) -> list[Finished]:
    """Do one task, or several of one recipe on minifw."""
    torch.set_num_threads(settings.threads)
    # glibc returns memory to the system, to fetch it again at once, until it has seen a block of
    # this size; measuring a stack on all its points takes half the time afterwards.
    torch.empty(2**24, dtype=torch.uint8)
    runs = [
        prepare(
            RECIPES[task.recipe],
            FRAMEWORKS[task.framework],
            task.seed,
            settings.initialisation,
            settings.torch_dtype(),
            settings.device,
        )
        for task in tasks
    ]
    epochs = settings.epochs_of(tasks[0].recipe)
    histories = fit_stacked(runs, epochs) if len(runs) > 1 else [runs[0].fit(epochs)]
    side = torch.linspace(0, 1, GRID)
    y, x = torch.meshgrid(side, side, indexing="ij")
    points = torch.stack([x, y], dim=-1).reshape(-1, 2)
    return [
        Finished(
            task=task,
            history=pd.DataFrame(history),
            train_accuracy=run.accuracy(run.train),
            test_accuracy=run.accuracy(run.test),
            inside=run.inside(points).reshape(GRID, GRID).cpu().numpy(),
        )
        for task, run, history in zip(tasks, runs, histories, strict=True)
    ]
