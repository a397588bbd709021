"""Decision regions: the share of seeds that classify a point as inside, and their file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.runs.sweep import Finished

__all__ = ["average_regions", "load_regions", "save_regions"]

_COLUMNS = ["recipe", "framework", "epoch"]


def average_regions(finished: Iterable[Finished]) -> pd.DataFrame:
    """One row a recipe, framework and epoch, with "share": an array (GRID, GRID) from 0 to 1.

    The last row of a recipe and framework is of the trained models, whenever each stopped. A run
    that stopped before an epoch counts there with its final region.
    """
    groups: dict[tuple[str, str], list[Finished]] = {}
    for run in finished:
        groups.setdefault((run.task.recipe, run.task.framework), []).append(run)
    rows = []
    for recipe_and_framework, runs in groups.items():
        longest = max((run.region_epochs for run in runs), key=lambda epochs: (len(epochs), epochs))
        for epoch in longest:
            masks = [
                run.regions[run.region_epochs[:-1].index(epoch)]
                if epoch in run.region_epochs[:-1] and epoch != longest[-1]
                else run.regions[-1]
                for run in runs
            ]
            rows.append((*recipe_and_framework, epoch, np.mean(masks, axis=0, dtype=np.float32)))
    return pd.DataFrame(rows, columns=[*_COLUMNS, "share"])


def save_regions(regions: pd.DataFrame, path: Path) -> None:
    """Write the result of :func:`average_regions`: arrays named "recipe/framework/epoch"."""
    names = regions[_COLUMNS].astype(str).agg("/".join, axis="columns")
    arrays: dict[str, Any] = dict(zip(names, regions["share"], strict=True))
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_regions(path: Path) -> pd.DataFrame:
    """Read what :func:`save_regions` wrote."""
    with np.load(path) as arrays:
        rows = [(*name.rsplit("/", 2), share) for name, share in arrays.items()]
    return pd.DataFrame(rows, columns=[*_COLUMNS, "share"]).astype({"epoch": int})
