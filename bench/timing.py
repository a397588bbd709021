"""Timing: epochs of both frameworks in turn, in one process, so that they meet the same noise."""

from collections.abc import Iterator

import torch

from bench.sweep import Settings
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = ["time_epochs"]


def time_epochs(
    recipe: str, frameworks: list[str], rounds: int, settings: Settings
) -> Iterator[dict[str, float]]:
    """Yield, a round, the seconds that an epoch of training takes on each framework.

    Each round trains every framework for one epoch, in an order that turns from round to round;
    one epoch each goes before, uncounted. Measuring accuracy is not part of the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        runs = {
            name: prepare(
                RECIPES[recipe],
                FRAMEWORKS[name],
                seed=0,
                dtype=settings.torch_dtype(),
                device=settings.device,
            )
            for name in frameworks
        }
        for run in runs.values():
            run.fit(epochs=1, measure=False)
        for index in range(rounds):
            order = frameworks[index % len(frameworks) :] + frameworks[: index % len(frameworks)]
            yield {name: runs[name].fit(epochs=1, measure=False)[0]["seconds"] for name in order}
    finally:
        torch.set_num_threads(before)
