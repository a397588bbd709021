"""Measurements of scaling: time, memory and FLOP/s of a step, for a network of any size."""

import math
import statistics
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any

import pandas as pd
import torch
from torch import Generator

from bench.timing.interleave import COMPARED, SIDES
from minifw.testing.timing.memory import peak_memory
from minifw.testing.timing.rounds import compare_sides, interleave, with_repeats
from reference.frameworks import FRAMEWORKS, Framework
from reference.jobs import Job

__all__ = ["DISK", "MEASURED", "Network", "difference", "matrix_product_peak", "measure"]

BATCHES = 4  # different ones: on a single repeated batch, a CPU predicts every branch
WARM_UP = 2  # untimed steps of a trial: the first allocates gradients, the second frees some
TRIAL_SECONDS = 0.01  # the least time of the timed steps of a trial together
# So small that the weights, and so the arithmetic, stay the same during the measurement.
LR = 1e-6
# In float64. Sums in another order differ by about 1e-12 after all layers; a wrong gradient is off
# by a share of its size.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Network:
    """A network like that of the disk task: 2 inputs, hidden layers with ReLU, 1 output, MSE.

    Attributes:
        width: of each hidden layer.
        depth: hidden layers.
        batch: samples a step.
    """

    width: int
    depth: int
    batch: int

    @property
    def _layers(self) -> list[tuple[int, int]]:
        return list(pairwise((2, *[self.width] * self.depth, 1)))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum((inputs + 1) * outputs for inputs, outputs in self._layers)

    @property
    def flops(self) -> int:
        """Additions and multiplications in the matrix products of a training step.

        A layer has three of them, of 2 * batch * inputs * outputs: the output, the gradient of the
        weight and that of the input, which the first layer does not compute.
        """
        products = [2 * self.batch * inputs * outputs for inputs, outputs in self._layers]
        return 3 * sum(products) - products[0]

    def job(self, dtype: torch.dtype = torch.float32) -> Job:
        """Initial weights (He's, so that signals keep their size at any depth), and batches."""
        generator = Generator().manual_seed(0)
        weights = []
        for inputs, outputs in self._layers:
            bound = math.sqrt(6 / inputs)
            weight = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
            weights += [weight.to(dtype), torch.zeros(outputs, dtype=dtype)]
        points, labels = (
            torch.rand(BATCHES, self.batch, features, generator=generator).to(dtype)
            for features in (2, 1)
        )
        return Job(tuple(weights), points, labels)


DISK = Network(width=25, depth=3, batch=100)


def _steps(template: Any, framework: Framework, job: Job, counted: int) -> float:
    """The median seconds of ``counted`` steps, on a copy of a model."""
    model = deepcopy(template)
    step = partial(
        framework.train_step,
        model,
        framework.nn.MSELoss(),
        framework.optim.SGD(model.parameters(), lr=LR),
    )
    todo = list(islice(cycle(zip(job.inputs, job.targets, strict=True)), WARM_UP + counted))
    for input, target in todo[:WARM_UP]:
        step(input, target)
    seconds = []
    for input, target in todo[WARM_UP:]:
        start = time.perf_counter()
        step(input, target)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def difference(network: Network, frameworks: Iterable[Framework] = FRAMEWORKS.values()) -> str:
    """Name the first gradient in which the frameworks differ, in float64; "" if none differs."""
    job = network.job(torch.float64)
    gradients = []
    for framework in frameworks:
        model, criterion = job.model(framework.nn).to(dtype=torch.float64), framework.nn.MSELoss()
        model.load_state_dict(dict(zip(model.state_dict(), job.weights, strict=True)))
        framework.backward(model, criterion, criterion(model(job.inputs[0]), job.targets[0]))
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    ours, theirs = gradients
    for name, expected in theirs.items():
        error, size = float((ours[name] - expected).abs().max()), float(expected.abs().max())
        if not error <= TOLERANCE * size or size == 0:
            return f"{name}.grad is {error:.2g} off; its largest entry is {size:.2g}"
    return ""


# What measure returns.
MEASURED = [
    *("width", "depth", "batch", "parameters", "flops", "wrong"),
    *COMPARED,
    *(f"{side}_{value}" for value in ("bytes", "flop_s") for side in ("minifw", "pytorch")),
]


def measure(network: Network, rounds: int) -> dict[str, Any]:
    """Verify both frameworks on a network, and measure a training step of it.

    Returns:
        The network; "wrong"; and if that is "", the comparison of
        :func:`minifw.testing.timing.rounds.compare_sides`, the peak "bytes" of tensors and
        "flop_s", the FLOP per second, of each side.
    """
    row: dict[str, Any] = {
        **vars(network),
        "parameters": network.parameters,
        "flops": network.flops,
        "wrong": difference(network),
    }
    if row["wrong"]:
        return row
    job = network.job()
    trials = {
        name: partial(_steps, job.model(framework.nn), framework, job)
        for name, framework in FRAMEWORKS.items()
    }
    counted = max(1, round(TRIAL_SECONDS / min(trial(counted=1) for trial in trials.values())))
    calls = {name: partial(trial, counted=counted) for name, trial in trials.items()}
    row |= compare_sides(pd.DataFrame(interleave(with_repeats(calls), rounds)), SIDES)
    for name, trial in trials.items():
        row[f"{name}_bytes"] = peak_memory(partial(trial, counted=1))[0]
        row[f"{name}_flop_s"] = network.flops / row[name]
    return row


def matrix_product_peak() -> float:
    """The highest FLOP per second of torch.mm on square matrices of several sizes."""
    best = 0.0
    for side in (512, 1024, 2048):
        left, right = torch.rand(2, side, side)
        out = torch.empty(side, side)
        for _ in range(2**33 // side**3):  # about as long for each size
            start = time.perf_counter()
            torch.mm(left, right, out=out)
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best
