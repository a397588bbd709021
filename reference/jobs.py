"""The jobs of the peers: a network of linear layers and ReLU, initial weights, and batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from minifw.data import batches
from reference.frameworks import PYTORCH
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = ["Job", "disk_job", "stacked_disk_job", "wide_job"]


@dataclass(frozen=True)
class Job:
    """A network of linear layers with ReLU between them, to be trained by MSE and SGD.

    Attributes:
        weights: weight (out_features, in_features) and bias (out_features) of each layer.
        inputs, targets: the batches of an epoch, each (steps, batch, features).

    In a stack, weights have a leading dimension of members, and batches have it after the steps.
    """

    weights: tuple[Tensor, ...]
    inputs: Tensor
    targets: Tensor

    @classmethod
    def stack(cls, jobs: Sequence["Job"]) -> "Job":
        """Combine jobs into one of a stack, a member each."""
        return cls(
            tuple(map(torch.stack, zip(*(job.weights for job in jobs), strict=True))),
            torch.stack([job.inputs for job in jobs], dim=1),
            torch.stack([job.targets for job in jobs], dim=1),
        )

    def members(self) -> list["Job"]:
        """Return the jobs of the members of a stack."""
        return [
            Job(
                tuple(weight[member] for weight in self.weights),
                self.inputs[:, member].contiguous(),
                self.targets[:, member].contiguous(),
            )
            for member in range(self.inputs.shape[1])
        ]

    def model(self, nn: Any) -> Any:
        """Return the network, in the namespace ``nn``, with the initial weights."""
        layers = []
        for weight in self.weights[::2]:
            out_features, in_features = weight.shape
            layers += [nn.Linear(in_features, out_features), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        model.load_state_dict(dict(zip(model.state_dict(), self.weights, strict=True)))
        return model


def disk_job(seed: int) -> Job:
    """The recipe relu-mse: 2-25-25-25-1, the first epoch of batches of 100."""
    recipe = RECIPES["relu-mse"]
    run = prepare(recipe, PYTORCH, seed)
    inputs, targets = zip(*batches(run.train, recipe.batch_size, run.batch_order), strict=True)
    return Job(tuple(run.model.state_dict().values()), torch.stack(inputs), torch.stack(targets))


def stacked_disk_job(members: int) -> Job:
    """The recipe relu-mse from ``members`` seeds, each with its own data and initial weights."""
    return Job.stack([disk_job(seed) for seed in range(members)])


def wide_job(width: int, batch: int, layers: int) -> Job:
    """A network whose arithmetic dominates, one batch an epoch."""
    generator, bound = Generator().manual_seed(0), 1 / math.sqrt(width)

    def uniform(*shape: int) -> Tensor:
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    weights = [tensor for _ in range(layers) for tensor in (uniform(width, width), uniform(width))]
    inputs, targets = torch.rand(2, 1, batch, width, generator=generator)
    return Job(tuple(weights), inputs, targets)
