"""Peers that train many networks of one shape at once, each member on its own data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import minifw
from reference.jobs import Job
from reference.peers import (
    LR,
    PEERS,
    Array,
    Peer,
    Trainer,
    jax_job,
    jax_scan,
    jax_step,
    numpy_job,
)

__all__ = ["STACKED_PEERS"]


def _one_after_the_other(job: Job) -> Trainer:
    trainers = [PEERS["pytorch"].start(member) for member in job.members()]

    def weights() -> list[Array]:
        members = (trainer.weights() for trainer in trainers)
        return [np.stack(values) for values in zip(*members, strict=True)]

    return Trainer(lambda: np.stack([trainer.epoch() for trainer in trainers]), weights)


def _torch_vmap(job: Job) -> Trainer:
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap

    models = [member.model(torch.nn) for member in job.members()]
    model, criterion = models[0], torch.nn.MSELoss()
    weights = {name: value.detach() for name, value in stack_module_state(models)[0].items()}
    pairs = list(zip(job.inputs, job.targets, strict=True))

    def compute_loss(weights: dict[str, Tensor], input: Tensor, target: Tensor) -> Any:
        return criterion(functional_call(model, weights, (input,)), target)

    step: Callable[..., tuple[dict[str, Tensor], Tensor]] = vmap(grad_and_value(compute_loss))

    def epoch() -> Array:
        for input, target in pairs:
            grads, loss = step(weights, input, target)
            for name, weight in weights.items():
                weight.sub_(grads[name], alpha=LR)
        return loss.numpy()

    return Trainer(epoch, lambda: [weight.numpy() for weight in weights.values()])


def _jax_vmap(weights: list[Any], batch: tuple[Any, Any]) -> Any:
    import jax

    return jax.vmap(jax_step)(weights, batch)


def _jax_vmap_scan(weights: list[Any], batches: tuple[Any, Any]) -> Any:
    import jax

    return jax.vmap(jax_scan, in_axes=(0, 1), out_axes=(0, 1))(weights, batches)


def _minifw_stack(job: Job) -> Trainer:
    models = [member.model(minifw.nn) for member in job.members()]
    model, criterion = minifw.stack(models), minifw.stack([minifw.nn.MSELoss()] * len(models))
    optimizer = minifw.optim.SGD(model.parameters(), lr=LR)
    pairs = list(zip(job.inputs, job.targets, strict=True))

    def epoch() -> Array:
        for input, target in pairs:
            loss = minifw.train_step(model, criterion, optimizer, input, target)
        return loss.numpy()

    return Trainer(epoch, lambda: [value.numpy() for value in model.state_dict().values()])


STACKED_PEERS = {
    "minifw": Peer("minifw.stack", _minifw_stack),
    "pytorch": Peer("eager, one network after the other", _one_after_the_other),
    "pytorch-vmap": Peer("torch.func: vmap of functional_call's gradient", _torch_vmap),
    "numpy": Peer("batched matrix products, written by hand", numpy_job),
    "jax-vmap": Peer("jit of a step, by vmap", partial(jax_job, step=_jax_vmap), ("jax",)),
    "jax-vmap-scan": Peer(
        "jit of an epoch, by vmap over scan", partial(jax_job, scan=_jax_vmap_scan), ("jax",)
    ),
}
