"""Measurements of the peer table: time and memory of a step, and the time of an import."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from minifw.testing.timing.memory import peak_memory
from minifw.testing.timing.rounds import interleave, repeat_name
from reference.jobs import Job
from reference.peers import PEERS, Array, Trainer
from reference.stacked_peers import STACKED_PEERS

__all__ = [
    "BASELINE",
    "REPEAT",
    "TOLERANCE",
    "VERIFIED_EPOCHS",
    "Measured",
    "Setting",
    "import_seconds",
    "measure",
    "peer_memory",
    "train",
]

BASELINE = "pytorch"
REPEAT = repeat_name(BASELINE)

VERIFIED_EPOCHS = 2
# Weights below 1 are rounded by at most 2^-25 a step, on either side: 1.2e-6 in 20 steps. A wrong
# gradient or learning rate moves them by 1e-3.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Setting:
    """One measurement, which can be sent to another process.

    Attributes:
        name: "network", "stack" or "wide".
        members: networks trained at once.
        peers: names in PEERS, or in STACKED_PEERS for a stack, to compare with BASELINE.
        make_job: makes the job that they train.
        threads: threads, and cores, of the process.
        epochs: epochs timed together.
    """

    name: str
    members: int
    peers: tuple[str, ...]
    make_job: Callable[[], Job]
    threads: int
    epochs: int

    def start(self, name: str, job: Job) -> Trainer:
        """Start a peer."""
        peers = STACKED_PEERS if self.name == "stack" else PEERS
        return peers[name].start(job)


@dataclass(frozen=True)
class Measured:
    """The result of a setting in one process.

    Attributes:
        failures: by name, why a peer was not timed: it raised, or its weights differ from
            PyTorch's.
        trials: a row a round and peer: round, peer, seconds a step a network, cores kept busy.
    """

    failures: dict[str, str]
    trials: pd.DataFrame


def train(trainer: Trainer) -> Array:
    """Train for VERIFIED_EPOCHS; return loss and weights, concatenated."""
    for _ in range(VERIFIED_EPOCHS):
        loss = trainer.epoch()
    return np.concatenate([loss.ravel(), *map(np.ravel, trainer.weights())])


def measure(setting: Setting, rounds: int) -> Measured:
    """Start all peers, verify each against PyTorch, and time the right ones, interleaved."""
    torch.set_num_threads(setting.threads)
    job = setting.make_job()
    trainers = {BASELINE: setting.start(BASELINE, job), REPEAT: setting.start(BASELINE, job)}
    expected = train(trainers[BASELINE])
    failures = {}
    for name in setting.peers:
        try:
            trainer = setting.start(name, job)
            deviation = np.abs(train(trainer) - expected).max()
        except Exception as error:
            # One failing peer must not prevent the others from being timed.
            failures[name] = " ".join(f"{type(error).__name__}: {error}".split())[:100]
            continue
        if deviation <= TOLERANCE:
            trainers[name] = trainer
        else:  # or NaN
            failures[name] = f"its weights differ from PyTorch's by {deviation:.1e}"
    steps = setting.epochs * len(job.inputs) * setting.members

    def trial(trainer: Trainer) -> dict[str, float]:
        trainer.epoch()  # not timed: refills the caches after another peer
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(setting.epochs):
            trainer.epoch()
        seconds = time.perf_counter() - wall
        return {"seconds": seconds / steps, "cores": (time.process_time() - cpu) / seconds}

    names = dict.fromkeys((*setting.peers, BASELINE, REPEAT))
    calls = {name: partial(trial, trainers[name]) for name in names if name in trainers}
    rows = [
        {"round": index, "peer": name, **result}
        for index, results in enumerate(interleave(calls, rounds))
        for name, result in results.items()
    ]
    return Measured(failures, pd.DataFrame(rows))


def peer_memory(setting: Setting, name: str) -> int:
    """Return the peak bytes of tensors of a peer in its first three epochs.

    They include model, gradients and update, not the data. Call it in a fresh process.
    """
    torch.set_num_threads(setting.threads)
    job = setting.make_job()

    def first_epochs() -> None:
        trainer = setting.start(name, job)
        for _ in range(3):
            trainer.epoch()

    return peak_memory(first_epochs)[0]


def import_seconds() -> float:
    """Return the seconds that a fresh process takes to import minifw once it has imported torch."""
    code = (
        "import time, torch; start = time.perf_counter(); import minifw; "
        "print(time.perf_counter() - start)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))
