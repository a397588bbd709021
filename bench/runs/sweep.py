"""The sweep: every recipe on every framework from every seed, in parallel."""

import hashlib
import itertools
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from joblib import delayed

from bench import ROOT
from bench.cli.provenance import provenance
from bench.cli.workers import workers
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import Regions, fit_stacked, prepare

__all__ = [
    "GRID",
    "REGION_EPOCHS",
    "STACK",
    "Finished",
    "Part",
    "Settings",
    "Task",
    "Trained",
    "environment",
    "partition",
    "sweep",
    "train",
    "train_part",
]

STACK = 32  # the most runs of minifw that are trained as one
GRID = 101  # points along each side of the grid on which the decision region is evaluated
REGION_EPOCHS = (1, 10, 50)  # when it is evaluated, and at the end of the run

# Modules of torch.nn draw from torch's global generator, which two threads of a cluster's worker
# would share.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Settings:
    """The settings that all runs of a sweep share.

    Attributes:
        epochs: epochs a run; None for the recipe's.
        initialization: "recipe" or "default", as :func:`reference.run.prepare`.
        dtype: name of a torch dtype.
        device: name of a torch device.
        threads: threads of torch in a run.
    """

    epochs: int | None = None
    initialization: str = "recipe"
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
    """One run to make, by names, so that it can be sent to another process."""

    recipe: str
    framework: str
    seed: int


@dataclass(frozen=True)
class Part:
    """Runs that are made together: one on PyTorch, one or a stack on minifw."""

    recipe: str
    framework: str
    seeds: tuple[int, ...]

    def tasks(self) -> list[Task]:
        """The runs."""
        return [Task(self.recipe, self.framework, seed) for seed in self.seeds]

    def cost(self, settings: Settings) -> float:
        """The approximate time, in epochs of one network on PyTorch.

        Measured over all recipes: an epoch of a stack takes 1/2 plus 1/8 a member.
        """
        epoch = 1 if self.framework == "pytorch" else 0.5 + len(self.seeds) / 8
        return epoch * settings.epochs_of(self.recipe)


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        task: which run.
        history: a row an epoch: epoch, seconds, loss, train_accuracy, validation_accuracy.
        train_accuracy, test_accuracy: of the trained model, with its final weights.
        region_epochs: epochs after which regions were evaluated; the last is of the trained model.
        regions: bool (len(region_epochs), GRID, GRID), whether the model classified a point as
            inside; second index y, third index x.
    """

    task: Task
    history: pd.DataFrame = field(repr=False)
    train_accuracy: float
    test_accuracy: float
    region_epochs: tuple[int, ...]
    regions: npt.NDArray[np.bool_] = field(repr=False)


@dataclass(frozen=True)
class Trained:
    """A finished part: its runs, in the order of its seeds, and the environment."""

    part: Part
    runs: list[Finished]
    environment: dict[str, str]


@cache
def environment() -> dict[str, str]:
    """What the numbers of a run depend on besides its settings.

    These are torch, numpy, the processor, and a digest of the sources that make a run.
    """
    sources = [
        *(path for path in ROOT.glob("minifw/**/*.py") if "testing" not in path.parts),
        *ROOT.glob("reference/**/*.py"),
        ROOT / "bench" / "runs" / "sweep.py",
    ]
    digest = hashlib.sha256()
    for source in sorted(sources):
        text = source.read_bytes()
        digest.update(f"{source.relative_to(ROOT).as_posix()} {len(text)}\n".encode() + text)
    made = provenance()
    return {
        **{name: made[name] for name in ("torch", "numpy", "processor")},
        "sources": digest.hexdigest()[:16],
    }


def partition(tasks: Iterable[Task], settings: Settings) -> list[Part]:
    """Divide ``tasks`` into parts, the longest first, so that all processes end together.

    Runs of one recipe on minifw form stacks of up to :data:`STACK`.
    """
    parts = []
    for (recipe, framework), group in itertools.groupby(
        tasks, lambda task: (task.recipe, task.framework)
    ):
        seeds = tuple(task.seed for task in group)
        stacks = math.ceil(len(seeds) / STACK) if framework == "minifw" else len(seeds)
        # Dealt out, so that stacks have about the same size, whatever the number of processes.
        parts += [Part(recipe, framework, seeds[first::stacks]) for first in range(stacks)]
    return sorted(parts, key=lambda part: part.cost(settings), reverse=True)


def sweep(tasks: Iterable[Task], settings: Settings, jobs: int) -> Iterator[Finished]:
    """Make the runs ``tasks`` on ``jobs`` processes and yield each when it ends."""
    for trained in train(partition(tasks, settings), settings, jobs):
        yield from trained.runs


def train(parts: Iterable[Part], settings: Settings, jobs: int) -> Iterator[Trained]:
    """Train ``parts`` on ``jobs`` processes and yield each when it ends."""
    parallel = workers(jobs, return_as="generator_unordered")
    yield from parallel(delayed(train_part)(part, settings) for part in parts)


def train_part(part: Part, settings: Settings) -> Trained:
    """Train one part, in this process."""
    with _ONE_AT_A_TIME:
        torch.set_num_threads(settings.threads)
        # Until it has allocated a block of this size, glibc returns memory to the system and
        # fetches it again at once; evaluating a stack takes half the time afterwards.
        torch.empty(2**24, dtype=torch.uint8)
        runs = [
            prepare(
                RECIPES[part.recipe],
                FRAMEWORKS[part.framework],
                seed,
                settings.initialization,
                settings.torch_dtype(),
                settings.device,
            )
            for seed in part.seeds
        ]
        epochs = settings.epochs_of(part.recipe)
        side = torch.linspace(0, 1, GRID)
        y, x = torch.meshgrid(side, side, indexing="ij")
        points = torch.stack([x, y], dim=-1).reshape(-1, 2)
        regions = Regions(runs, points, REGION_EPOCHS)
        histories = (
            fit_stacked(runs, epochs, [regions])
            if len(runs) > 1
            else [runs[0].fit(epochs, callbacks=[regions])]
        )
        finished = []
        for index, (run, history) in enumerate(zip(runs, histories, strict=True)):
            before = [epoch for epoch in regions.seen if epoch < len(history)]
            seen = [*(regions.seen[epoch][index] for epoch in before), run.inside(points)]
            finished.append(
                Finished(
                    task=Task(part.recipe, part.framework, run.seed),
                    history=pd.DataFrame(history),
                    train_accuracy=run.accuracy(run.train),
                    test_accuracy=run.accuracy(run.test),
                    region_epochs=(*before, len(history)),
                    regions=torch.stack(seen).reshape(-1, GRID, GRID).cpu().numpy(),
                )
            )
        return Trained(part, finished, environment())
