"""Timing: epochs of both frameworks in turn, in one process, so that they meet the same noise."""

import torch

from bench.sweep import Settings
from reference.frameworks import FRAMEWORKS
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = ["time_epochs"]


def time_epochs(
    recipe: str, frameworks: list[str], rounds: int, settings: Settings
) -> list[dict[str, float]]:
    """Return, a round, the seconds that an epoch of training takes on each framework.

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
        return [
            {name: runs[name].fit(epochs=1, measure=False)[0]["seconds"] for name in order}
            for order in (frameworks if index % 2 else frameworks[::-1] for index in range(rounds))
        ]
    finally:
        torch.set_num_threads(before)
