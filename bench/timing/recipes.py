"""Time of a recipe on both frameworks: an epoch, a step and its parts; the memory of a step.

A recipe that the frameworks train differently is not timed.
"""

import time
from collections.abc import Iterable
from copy import deepcopy
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.equivalence.lockstep import lockstep
from bench.runs.sweep import Settings
from bench.timing.interleave import COMPARED, SIDES, format_ratio, format_times
from minifw.data import batches
from minifw.testing.case import seeded
from minifw.testing.timing.memory import peak_memory
from minifw.testing.timing.rounds import compare_sides, interleave, threads, with_repeats
from minifw.testing.verdict import Status
from reference.frameworks import FRAMEWORKS, Framework
from reference.recipes import Recipe
from reference.run import RecipeRun, prepare

__all__ = [
    "SIZED",
    "TIMED",
    "TIMED_PARTS",
    "format_speed",
    "speed_sentences",
    "step_memory",
    "summarize_speed",
    "time_recipe",
]

# What a trial times: an epoch of fit, a step, and the parts of a step.
TIMED_PARTS = ("epoch", "step", "forward", "backward", "optimizer")
TIMED = ["recipe", "part", "round", "side", "seconds", "wrong"]  # columns of time_recipe
SIZED = ["recipe", "side", "bytes"]  # of step_memory
EPOCHS = 3
VERIFIED_EPOCHS = 3


def _prepare(recipe: Recipe, framework: Framework, settings: Settings) -> RecipeRun:
    return prepare(recipe, framework, seed=0, dtype=settings.torch_dtype(), device=settings.device)


def _trial(recipe: Recipe, framework: Framework, settings: Settings) -> dict[str, float]:
    """Seconds of each of TIMED_PARTS, in a new run after an epoch of warm-up.

    Each is the median over the trial, so that an interruption does not count.
    """
    synchronize = getattr(torch, torch.device(settings.device).type).synchronize

    def clock() -> float:
        synchronize()  # a device may still compute; on a CPU this does nothing
        return time.perf_counter()

    with seeded(0):  # outside of fit, PyTorch's Dropout draws from the global generator
        run = _prepare(recipe, framework, settings)
        _, *counted = run.fit(epochs=1 + EPOCHS, measure=False)
        # All batches of an epoch: on a single repeated batch, a CPU predicts every branch.
        epoch = list(batches(run.train, recipe.batch_size, run.batch_order))

        steps = []
        for input, target in epoch:
            start = clock()
            framework.train_step(run.model, run.criterion, run.optimizer, input, target)
            steps.append(clock() - start)

        stamps = []
        for input, target in epoch:
            start = clock()
            run.optimizer.zero_grad()
            emptied = clock()
            loss = run.criterion(run.model(input), target)
            forward = clock()
            framework.backward(run.model, run.criterion, loss)
            backward = clock()
            run.optimizer.step()
            stamps.append((start, emptied, forward, backward, clock()))
    zero_grad, forwards, backwards, updates = np.diff(stamps).T
    seconds = ([row["seconds"] for row in counted], steps, forwards, backwards, zero_grad + updates)
    return {part: float(np.median(each)) for part, each in zip(TIMED_PARTS, seconds, strict=True)}


def time_recipe(
    recipe: Recipe,
    rounds: int,
    settings: Settings,
    frameworks: Iterable[Framework] = FRAMEWORKS.values(),
) -> pd.DataFrame:
    """Time a recipe on frameworks that are first verified to train as PyTorch does.

    They are verified in lockstep, in float64 and in the dtype that is timed. Then each has two
    trials a round, which measures the noise; the first round is not counted.

    Args:
        recipe: what to train.
        rounds: rounds to count.
        settings: dtype, device and threads.
        frameworks: what to compare. Default: minifw and PyTorch.

    Returns:
        A row a part, round and side: recipe, part (one of TIMED_PARTS), round, side, "seconds" of
        an epoch or a step, and "wrong", which is empty. If a framework is not verified, there is a
        row a part without a time, in which "wrong" says why.
    """
    frameworks = list(frameworks)
    with threads(settings.threads):
        for framework, dtype in product(frameworks, {"float64", settings.dtype}):
            run = lockstep(recipe, framework, epochs=VERIFIED_EPOCHS, dtype=dtype)
            if run.status != Status.PASSED:
                wrong = [
                    (recipe.name, part, 0, framework.name, np.nan, str(run)) for part in TIMED_PARTS
                ]
                return pd.DataFrame(wrong, columns=TIMED)
        trials = with_repeats(
            {side.name: partial(_trial, recipe, side, settings) for side in frameworks}
        )
        interleave(trials, rounds=1)
        timed = [
            (recipe.name, part, number, side, seconds[part], "")
            for number, sides in enumerate(interleave(trials, rounds))
            for side, seconds in sides.items()
            for part in TIMED_PARTS
        ]
        return pd.DataFrame(timed, columns=TIMED)


def step_memory(recipe: Recipe, settings: Settings) -> pd.DataFrame:
    """Measure the peak memory of the tensors of a training step, without the data.

    Returns:
        A row a framework: recipe, side, and "bytes" of model, gradients, the optimizer's state and
        other tensors of a step.
    """

    def train(run: RecipeRun) -> None:
        model, criterion, optimizer = deepcopy((run.model, run.criterion, run.optimizer))
        # From the second step on, all state exists.
        for input, target in islice(batches(run.train, recipe.batch_size, run.batch_order), 3):
            run.framework.train_step(model, criterion, optimizer, input, target)

    with threads(settings.threads), seeded(0):
        sizes = [
            (recipe.name, name, *peak_memory(partial(train, _prepare(recipe, framework, settings))))
            for name, framework in FRAMEWORKS.items()
        ]
    return pd.DataFrame(sizes, columns=SIZED)


def summarize_speed(rows: pd.DataFrame, memory: pd.DataFrame) -> pd.DataFrame:
    """Summarize the rounds: one row a recipe and part.

    Args:
        rows: from :func:`time_recipe`, of one or more recipes.
        memory: from :func:`step_memory`.

    Returns:
        Columns: recipe, part, those of
        :func:`minifw.testing.timing.rounds.compare_sides`, and in the row of the step
        "minifw_bytes" and "pytorch_bytes". A recipe that is not timed has no numbers; the claim
        says why.
    """
    table = []
    for (recipe, part), group in rows.groupby(["recipe", "part"], sort=False):
        wrong = "".join(group["wrong"].dropna().unique())  # read from a file, "" is missing
        row: dict[str, Any] = {"recipe": recipe, "part": part, "claim": f"not timed: {wrong}"}
        if not wrong:
            row |= compare_sides(
                group.pivot(index="round", columns="side", values="seconds"), SIDES
            )
            sizes = memory[(memory["recipe"] == recipe) & (part == "step")]
            row |= {f"{size.side}_bytes": size.bytes for size in sizes.itertuples()}
        table.append(row)
    return pd.DataFrame(
        table, columns=["recipe", "part", *COMPARED, "minifw_bytes", "pytorch_bytes"]
    )


def format_speed(table: pd.DataFrame) -> pd.DataFrame:
    """The human-readable table of :func:`summarize_speed`."""

    def memory(row: "pd.Series[Any]") -> str:
        sizes = row[["minifw_bytes", "pytorch_bytes"]].dropna()
        return " / ".join(f"{size / 1024:.0f}" for size in sizes)

    return pd.DataFrame(
        [
            {
                "recipe": row["recipe"],
                "part": row["part"],
                "minifw (quartiles)": format_times(row, "minifw"),
                "PyTorch (quartiles)": format_times(row, "pytorch"),
                "speed-up over PyTorch (95 %)": format_ratio(row, "ratio"),
                "noise floor (95 %)": format_ratio(row, "noise"),
                "claim": row["claim"],
                "KiB, minifw / PyTorch": memory(row),
            }
            for _, row in table.iterrows()
        ]
    )


def speed_sentences(table: pd.DataFrame) -> list[str]:
    """Sentences that summarize the table of :func:`summarize_speed`."""
    sentences = []
    epochs = table[table["part"] == "epoch"]
    for _, row in epochs[epochs["ratio"].isna()].iterrows():
        sentences.append(f"Speed: {row['recipe']} is {row['claim']}.")
    timed = epochs.dropna(subset=["ratio"])
    if len(timed):
        claims = timed["claim"].value_counts()
        slowest, fastest = timed["ratio"].min(), timed["ratio"].max()
        sentences.append(
            "Speed: "
            + "; ".join(f"{claim} in {n} of {len(epochs)} recipes" for claim, n in claims.items())
            + f". The speed-up over PyTorch is {slowest:.2f} to {fastest:.2f}."
        )
        step = table[(table["part"] == "step") & (table["recipe"] == timed["recipe"].iloc[0])]
        for _, row in step.iterrows():
            sentences.append(
                f"A training step of {row['recipe']}: minifw {format_times(row, 'minifw')}, "
                f"PyTorch {format_times(row, 'pytorch')}; noise floor (a framework timed "
                f"against itself) {format_ratio(row, 'noise')}."
            )
    return sentences
