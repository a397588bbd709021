"""The same training in every peer: PyTorch, JAX, NumPy, tinygrad and minifw.

A peer is a function from a job to a trainer, written as its documentation advises. It imports its
library when it is started, so that a missing library affects no other peer.
"""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reference.frameworks import MINIFW, PYTORCH, Framework
from reference.jobs import Job

__all__ = [
    "LR",
    "PEERS",
    "Array",
    "Peer",
    "Trainer",
    "jax_job",
    "jax_scan",
    "jax_step",
    "numpy_job",
]

LR = 0.1

Array = npt.NDArray[np.float32]


class Trainer(NamedTuple):
    """A peer that is ready to train.

    Attributes:
        epoch: trains on every batch once, waits for the result, and returns the loss of the last
            batch; in a stack, of each member.
        weights: returns the current weights, in the order of the job's.
    """

    epoch: Callable[[], Array]
    weights: Callable[[], list[Array]]


@dataclass(frozen=True)
class Peer:
    """One way to train.

    Attributes:
        summary: one line for tables.
        start: prepares the training.
        modules, programs: what must be installed.
    """

    summary: str
    start: Callable[[Job], Trainer]
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Names of required modules and programs that are not installed."""
        return [
            *(name for name in self.modules if importlib.util.find_spec(name) is None),
            *(name for name in self.programs if shutil.which(name) is None),
        ]


def _framework(job: Job, framework: Framework, **options: bool) -> Trainer:
    model, criterion = job.model(framework.nn), framework.nn.MSELoss()
    optimizer = framework.optim.SGD(model.parameters(), lr=LR, **options)
    pairs = list(zip(job.inputs, job.targets, strict=True))

    def epoch() -> Array:
        for input, target in pairs:
            loss = framework.train_step(model, criterion, optimizer, input, target)
        return loss.numpy()

    return Trainer(epoch, lambda: [value.numpy() for value in model.state_dict().values()])


def _torch_compile(job: Job) -> Trainer:
    model, criterion = job.model(torch.nn), torch.nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    compute_loss = torch.compile(lambda x, y: criterion(model(x), y))
    pairs = list(zip(job.inputs, job.targets, strict=True))

    def epoch() -> Array:
        for input, target in pairs:
            optimizer.zero_grad()
            loss = compute_loss(input, target)
            loss.backward()
            optimizer.step()
        return np.asarray(loss.detach())

    return Trainer(epoch, lambda: [value.numpy() for value in model.state_dict().values()])


def numpy_job(job: Job) -> Trainer:
    """NumPy, for one network or a stack of them."""
    weights = [weight.numpy().copy() for weight in job.weights]
    pairs = list(zip(job.inputs.numpy(), job.targets.numpy(), strict=True))
    layers = range(0, len(weights), 2)

    def step(input: Array, target: Array) -> Array:
        inputs = [input]
        for layer in layers:
            weight, bias = weights[layer : layer + 2]
            output = inputs[-1] @ weight.swapaxes(-1, -2) + bias[..., None, :]
            inputs.append(np.maximum(output, 0))
        error = output - target  # the last layer has no ReLU
        samples, features = error.shape[-2:]
        grad = error * (2 / (samples * features))
        for layer in reversed(layers):
            weight, bias = weights[layer : layer + 2]
            input = inputs[layer // 2]
            grad_weight, grad_bias = grad.swapaxes(-1, -2) @ input, grad.sum(-2)
            if layer:
                grad = grad @ weight * (input > 0)
            weight -= LR * grad_weight
            bias -= LR * grad_bias
        return np.asarray(np.square(error).mean((-1, -2)))

    def epoch() -> Array:
        for input, target in pairs:
            loss = step(input, target)
        return loss

    return Trainer(epoch, lambda: weights)


def jax_step(weights: list[Any], batch: tuple[Any, Any]) -> tuple[list[Any], Any]:
    """One step of one network in JAX: new weights and loss, for jit, vmap and scan."""
    import jax

    def compute_loss(weights: list[Any]) -> Any:
        output, target = batch
        for layer in range(0, len(weights), 2):
            if layer:
                output = jax.nn.relu(output)
            output = output @ weights[layer].T + weights[layer + 1]
        return jax.numpy.square(output - target).mean()

    loss, grads = jax.value_and_grad(compute_loss)(weights)
    return [weight - LR * grad for weight, grad in zip(weights, grads, strict=True)], loss


def jax_job(
    job: Job, step: Callable[..., Any] = jax_step, scan: Callable[..., Any] | None = None
) -> Trainer:
    """JAX: one call of the jitted ``step`` per batch, or of the jitted ``scan`` per epoch."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    run = jax.jit(scan or step, donate_argnums=0)
    weights = [jax.numpy.array(weight.numpy()) for weight in job.weights]
    inputs, targets = jax.numpy.array(job.inputs.numpy()), jax.numpy.array(job.targets.numpy())
    calls = [(inputs, targets)] if scan else list(zip(inputs, targets, strict=True))

    def epoch() -> Array:
        nonlocal weights
        for batch in calls:
            weights, loss = run(weights, batch)
        jax.block_until_ready(weights)
        return np.asarray(loss[-1] if scan else loss)

    return Trainer(epoch, lambda: list(map(np.asarray, weights)))


def jax_scan(weights: list[Any], batches: tuple[Any, Any]) -> Any:
    """An epoch of one network in JAX: new weights and the losses of its steps."""
    import jax

    return jax.lax.scan(jax_step, weights, batches)


def _tinygrad(job: Job) -> Trainer:
    from tinygrad import Context, Tensor, TinyJit
    from tinygrad.nn.optim import SGD

    def tensor(value: torch.Tensor) -> Any:
        return Tensor(value.numpy().copy(), device="CPU").realize()

    weights = list(map(tensor, job.weights))
    optimizer = SGD(weights, lr=LR)
    pairs = list(zip(map(tensor, job.inputs), map(tensor, job.targets), strict=True))

    def step(output: Any, target: Any) -> Any:
        optimizer.zero_grad()
        for layer in range(0, len(weights), 2):
            if layer:
                output = output.relu()
            output = output.linear(weights[layer].T, weights[layer + 1])
        loss = (output - target).square().mean().backward()
        return loss.realize(*optimizer.schedule_step())

    run = TinyJit(step)

    def epoch() -> Array:
        with Context(TRAINING=1):
            for input, target in pairs:
                loss = run(input, target)
        return np.asarray(loss.numpy())

    return Trainer(epoch, lambda: [weight.numpy() for weight in weights])


PEERS = {
    "minifw": Peer("through minifw.train_step", partial(_framework, framework=MINIFW)),
    "pytorch": Peer("eager, SGD by its default", partial(_framework, framework=PYTORCH)),
    "pytorch-foreach": Peer(
        "eager, SGD(foreach=True)", partial(_framework, framework=PYTORCH, foreach=True)
    ),
    "pytorch-fused": Peer(
        "eager, SGD(fused=True)", partial(_framework, framework=PYTORCH, fused=True)
    ),
    "pytorch-compile": Peer("torch.compile of model and loss", _torch_compile, programs=("g++",)),
    "numpy": Peer("written by hand", numpy_job),
    "jax": Peer("jit of a step", jax_job, ("jax",)),
    "jax-scan": Peer("jit of an epoch, by scan", partial(jax_job, scan=jax_scan), ("jax",)),
    "tinygrad": Peer("TinyJit of a step", _tinygrad, ("tinygrad",), ("clang",)),
}
