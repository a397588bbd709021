"""Lockstep: a framework trained beside PyTorch from one start, step by step.

What rounding alone does to a run is read off a control: PyTorch against PyTorch with every first
weight moved by one ULP. At the first step at which the subject is farther from the reference than
that explains, the parts of the step are looked at one by one.

A framework of one's own needs a shim, a class with two methods::

    class Mine:
        def __init__(self):
            self.model = Sequential(Linear(2, 25), Tanh(), Linear(25, 1))
            self.loss, self.optimizer = MSE(), SGD(self.model.param(), lr=0.1)

        def weights(self):                  # the arrays themselves, which are then filled in place
            return [w for w, _ in self.model.param()]

        def train_step(self, x, y):         # zero_grad, forward, backward and update
            self.optimizer.zero_grad()
            loss = self.loss.forward(self.model.forward(x), y)
            self.model.backward(self.loss.backward())
            self.optimizer.step()
            return loss                     # or None

        def gradients(self):                # optional: of the latest step, as weights
            return [g for _, g in self.model.param()]

``weights`` are in the order of the reference's parameters and of their shapes, up to a
transposition and dimensions of size 1. A shim whose weights cannot be filled in place has a method
``set_weights(arrays)`` besides. Arrays are tensors or NumPy arrays, and so are the batches then::

    report = lockstep(Mine, lambda: torch.nn.Sequential(...), torch.nn.MSELoss(),
                      lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    assert report.status == "PASSED", report
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from minifw.data import batches, disk
from minifw.testing.case import seeded
from minifw.testing.check import first_line
from minifw.testing.optimizer_subjects import calling
from minifw.testing.optimizers import mover
from minifw.testing.subjects import UsageError
from minifw.testing.verdict import Status, Verdict

__all__ = ["Lockstep", "Shim", "distances", "lockstep", "move_weights", "race"]

# How much farther the subject may be than the control has been so far: their roundings differ, and
# where a run is chaotic a factor between two errors is little more than luck.
ALLOWED = 10.0
FLOOR_ULP = 4.0

Step = TypeVar("Step")


@dataclass(frozen=True)
class Lockstep:
    """How one run went.

    Attributes:
        name, dtype: what was run, in what.
        steps: training steps done.
        distance: distance of the weights at the end, as a share of their tensor's largest entry.
        control_distance: largest distance of the control, likewise.
        allowed: what ``distance`` may be for that.
        diverged_at: the first step, counted from 1, at which the subject was farther from the
            reference than is allowed; 0 for none.
        cause: what is to blame; its reason says whether it looks like rounding or like a fault.
        notes: facts found on the way: transposed weights, another convention of the loss.
    """

    name: str
    dtype: str
    steps: int
    distance: float
    control_distance: float
    allowed: float
    diverged_at: int = 0
    cause: Verdict | None = None
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """PASSED if the runs never diverged, or diverged by rounding."""
        return Status.PASSED if self.cause is None else self.cause.status

    def __str__(self) -> str:
        where = f"{self.name} in {self.dtype}, {self.steps} steps"
        if self.cause is None:
            said = (
                f"{where}: {self.distance:.2g} apart at the end; "
                f"PyTorch from PyTorch moved by one ULP, {self.control_distance:.2g}"
            )
        else:
            said = (
                f"{where}: diverged at step {self.diverged_at}: "
                f"{self.cause.tensor}: {self.cause.reason}"
            )
        return "\n".join([said, *(f"  note: {note}" for note in self.notes)])


def race(
    name: str,
    dtype: torch.dtype,
    steps: Iterable[Step],
    advance: Callable[[Step], None],
    apart: Callable[[], tuple[float, float]],
    blame: Callable[[int], Verdict],
) -> Lockstep:
    """Advance all sides by each step until the subject parts from the reference.

    Args:
        name, dtype: of the run.
        steps: what ``advance`` is called on.
        advance: does a step on subject, reference and control.
        apart: the distances of the subject and of the control from the reference.
        blame: finds what is wrong in the step of that number.
    """
    eps, kind = torch.finfo(dtype).eps, str(dtype).removeprefix("torch.")
    farthest, distance, allowed, done = 0.0, 0.0, 0.0, 0
    for done, step in enumerate(steps, start=1):
        advance(step)
        distance, control = apart()
        farthest = max(farthest, control)
        allowed = ALLOWED * farthest + FLOOR_ULP * eps
        if not distance <= allowed:  # which NaN is not either
            return Lockstep(name, kind, done, distance, farthest, allowed, done, blame(done))
    return Lockstep(name, kind, done, distance, farthest, allowed)


def move_weights(values: Iterable[Tensor], seed: int) -> None:
    """Move each weight to a neighbor."""
    generator = Generator().manual_seed(seed)
    for value in values:
        up = torch.rand(value.shape, generator=generator, dtype=torch.float32) < 0.5
        there = torch.where(up, torch.inf, -torch.inf).to(value)
        value.copy_(torch.nextafter(value, there))


def distances(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """By tensor, the largest distance as a share of the tensor's largest entry."""
    return {
        name: float((ours[name] - there).abs().max() / there.abs().max().clamp(min=1e-30))
        for name, there in theirs.items()
    }


class Shim(Protocol):
    """What a framework of one's own is trained through; see the module's docstring."""

    def weights(self) -> Sequence[Any]:
        """Return the weights' arrays, in the order of the reference's parameters."""

    def train_step(self, x: Any, y: Any) -> Any:
        """Do a step on a batch; return the loss before it, or None."""


@dataclass
class _Trained:
    """A PyTorch run."""

    model: torch.nn.Module
    criterion: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def train(self, x: Tensor, y: Tensor, move: Callable[[Tensor], Tensor] | None = None) -> float:
        """Do a step; ``move`` is applied to the gradients. Return the loss."""
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        for parameter in self.model.parameters():
            if move and parameter.grad is not None:
                parameter.grad = move(parameter.grad)
        self.optimizer.step()
        return float(loss.detach())

    def values(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.model.named_parameters()}

    def gradients(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in self.model.named_parameters()
        }


class _Foreign:
    """A shim, with its arrays as the reference has them."""

    def __init__(self, shim: Any, like: Mapping[str, Tensor]) -> None:
        self.shim = shim
        arrays = list(shim.weights())
        if len(arrays) != len(like):
            raise UsageError(
                f"weights() returns {len(arrays)} arrays, the reference has {len(like)} "
                f"parameters: {', '.join(like)}"
            )
        self.numpy = isinstance(arrays[0], np.ndarray)
        self.like = like
        self.notes: list[str] = []
        self.turned: set[str] = set()
        for (name, there), array in zip(like.items(), arrays, strict=True):
            if _plain(array) != _plain(there):
                if _plain(array) != _plain(there)[::-1]:
                    raise UsageError(
                        f"weight {name}: expected shape {list(there.shape)} or its transposition, "
                        f"got {list(array.shape)}"
                    )
                self.turned.add(name)
                self.notes.append(f"{name} is transposed: {list(array.shape)}")
        if self.turned:
            # Whoever transposes a matrix that shows it does so with square ones too.
            self.turned |= {name for name, t in like.items() if t.ndim == 2 and min(t.shape) > 1}
        self.dtype = torch.as_tensor(arrays[0]).dtype

    def _seen(self, arrays: Sequence[Any]) -> dict[str, Tensor]:
        """The arrays, copied, in the reference's shapes."""
        found = {}
        for (name, there), array in zip(self.like.items(), arrays, strict=True):
            tensor = torch.as_tensor(array).detach().clone()
            if name in self.turned:
                tensor = tensor.reshape(_plain(tensor)).t()
            found[name] = tensor.reshape(there.shape).to(there.dtype)
        return found

    def values(self) -> dict[str, Tensor]:
        return self._seen(self.shim.weights())

    def gradients(self) -> dict[str, Tensor] | None:
        if not hasattr(self.shim, "gradients"):
            return None
        return self._seen(self.shim.gradients())

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Fill the weights.

        Raises:
            UsageError: they are not as filled afterwards.
        """
        arrays = list(self.shim.weights())
        filled = []
        for (name, value), array in zip(values.items(), arrays, strict=True):
            turned = value.reshape(_plain(value)).t() if name in self.turned else value
            filled.append(self.array(turned.reshape(tuple(array.shape)).to(self.dtype)))
        if hasattr(self.shim, "set_weights"):
            self.shim.set_weights(filled)
        else:
            for array, new in zip(arrays, filled, strict=True):
                array[...] = new
        after = self.values()
        for name, value in values.items():
            if not torch.equal(after[name], value.to(self.dtype).to(value.dtype)):
                raise UsageError(
                    f"weight {name} cannot be filled in place: weights() must return the arrays "
                    "themselves, or the shim needs set_weights(arrays)"
                )

    def array(self, tensor: Tensor) -> Any:
        """A copy of a tensor, as the shim has its arrays."""
        copied = tensor.detach().clone(memory_format=torch.contiguous_format)
        return copied.numpy() if self.numpy else copied

    def train(self, x: Tensor, y: Tensor) -> float | None:
        loss = self.shim.train_step(self.array(x), self.array(y))
        return None if loss is None else float(loss)


def _plain(array: Any) -> tuple[int, ...]:
    """The shape without dimensions of size 1, at least of a vector."""
    return tuple(size for size in array.shape if size != 1) or (1,)


def lockstep(
    make_subject: Callable[[], Any],
    make_model: Callable[[], torch.nn.Module],
    criterion: torch.nn.Module,
    make_optimizer: Callable[[Any], torch.optim.Optimizer],
    *,
    data: tuple[Tensor, Tensor] | None = None,
    steps: int = 200,
    batch_size: int = 50,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    name: str = "",
) -> Lockstep:
    """Train a framework of one's own beside PyTorch, and PyTorch beside itself.

    Args:
        make_subject: makes the shim; see the module's docstring.
        make_model: makes the reference.
        criterion: its loss.
        make_optimizer: of the reference's parameters.
        data: inputs and targets. Default: 1,000 points of the disk, with labels -1 and 1 of shape
            (n, 1).
        steps: training steps, in epochs of all data in an order drawn at random.
        batch_size: samples of a step.
        dtype: of everything. Default: that of the shim's weights, made in float64 if they are made
            in torch's default dtype.
        seed: of weights and batches.
        name: of the run. Default: that of ``make_subject``.

    Raises:
        UsageError: the shim's weights do not match the reference's, or cannot be filled.
    """
    with seeded(seed), calling(dtype or torch.float64), torch.enable_grad():
        model = make_model()
        shim = make_subject()
        first = torch.as_tensor(next(iter(shim.weights()))).dtype
        dtype = dtype or first
        model = model.to(dtype)
        reference = _Trained(model, criterion, make_optimizer(model.parameters()))
        control = copy.deepcopy(model)
        moved = _Trained(control, criterion, make_optimizer(control.parameters()))
        move_weights([p.data for p in control.parameters()], seed)
        subject = _Foreign(shim, reference.values())
        subject.load(reference.values())
        points, labels = data or disk(1000, (-1.0, 1.0), Generator().manual_seed(seed))
        full = (
            points.to(dtype),
            labels.to(dtype) if labels.is_floating_point() else labels,
        )
        trial = _Trial(subject, reference, moved, dtype)

        def order() -> Iterator[tuple[Tensor, Tensor]]:
            generator, done = Generator().manual_seed(seed), 0
            while True:
                for batch in batches(full, batch_size, generator):
                    if done == steps:
                        return
                    yield batch
                    done += 1

        title = name or getattr(make_subject, "__name__", "subject")
        run = race(title, dtype, order(), trial.advance, trial.apart, trial.blame)
    notes = (*subject.notes, *trial.notes())
    return Lockstep(**{**vars(run), "notes": notes})


class _Trial:
    """Subject, reference and control, and what the latest step began with."""

    def __init__(
        self, subject: _Foreign, reference: _Trained, control: _Trained, dtype: torch.dtype
    ) -> None:
        self.subject, self.reference, self.control = subject, reference, control
        self.dtype = dtype
        self.before: dict[str, Tensor] = {}
        self.twin = reference
        self.batch: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self.losses: list[tuple[float | None, float]] = []
        self.earlier: dict[str, Tensor] | None = None
        self.gradients: dict[str, Tensor] | None = None
        self.raised = ""

    def advance(self, batch: tuple[Tensor, Tensor]) -> None:
        """Do a step on all three."""
        self.batch = batch
        self.before = self.subject.values()
        self.twin = copy.deepcopy(self.reference)
        theirs = self.reference.train(*batch)
        self.control.train(*batch)
        self.earlier = self.gradients
        try:
            ours = self.subject.train(*batch)
            self.gradients = self.subject.gradients()
        except Exception as error:
            self.raised = first_line(error)
            return
        finally:
            torch.set_grad_enabled(True)
        self.losses.append((ours, theirs))

    def apart(self) -> tuple[float, float]:
        """The distances of subject and control from the reference."""
        theirs = self.reference.values()
        control = max(distances(self.control.values(), theirs).values())
        if self.raised:
            return math.inf, control
        ours = distances(self.subject.values(), theirs).values()
        return (math.nan if any(map(math.isnan, ours)) else max(ours)), control

    def notes(self) -> Iterator[str]:
        """What is said of the loss, which may have another convention than PyTorch's."""
        pairs = [(ours, theirs) for ours, theirs in self.losses if ours is not None]
        if not pairs:
            yield "train_step returns no loss, so the loss was not compared"
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        if ratios and abs(ratios[0] - 1) > 1e-3 and max(ratios) - min(ratios) < 1e-3 * ratios[0]:
            yield f"the loss that is returned is {ratios[0]:.4g} times PyTorch's"

    def blame(self, step: int) -> Verdict:
        """Compare loss, gradients and update of the latest step, each from the subject's own."""
        if self.raised:
            return Verdict("train_step", Status.ERROR, f"raises {self.raised}")
        with torch.no_grad():
            for name, parameter in self.twin.model.named_parameters():
                parameter.copy_(self.before[name])
        fresh = copy.deepcopy(self.twin)
        shaken = [copy.deepcopy(self.twin) for _ in range(4)]
        loss = fresh.train(*self.batch)
        expected = fresh.gradients()
        losses, gradients = [], []
        for seed, twin in enumerate(shaken):
            move = mover(self.dtype, seed)
            with torch.no_grad():
                for parameter in twin.model.parameters():
                    parameter.copy_(move(parameter))
            losses.append(twin.train(move(self.batch[0]), self.batch[1]))
            gradients.append(twin.gradients())
        ours = self.losses[-1][0]
        eps = torch.finfo(self.dtype).eps
        off = max(abs(other - loss) for other in losses)
        if ours is not None and not abs(ours - loss) <= ALLOWED * off + FLOOR_ULP * eps * abs(loss):
            scale = f", {ours / loss:.4g} times as much" if loss else ""
            reason = f"the loss is {ours:.6g}, PyTorch's of the same weights {loss:.6g}{scale}"
            # A loss by another convention is no fault if the gradient is right.
            if self.gradients is None:
                return Verdict("loss", Status.FAILED, f"looks like a fault: {reason}")
            if wrong := self._gradient(expected, gradients):
                also = f"{wrong.tensor}: {wrong.reason}"
                return Verdict("loss", Status.FAILED, f"looks like a fault: {reason}; {also}")
        return self._gradient(expected, gradients) or self._update(fresh)

    def _gradient(
        self, expected: dict[str, Tensor], moved: Sequence[dict[str, Tensor]]
    ) -> Verdict | None:
        """The first wrong gradient as a backward pass goes, from the last to the first."""
        if self.gradients is None:
            return None
        eps = torch.finfo(self.dtype).eps
        top = max(float(gradient.abs().max()) for gradient in expected.values())
        for name in reversed(expected):
            there, here = expected[name], self.gradients[name]
            control = max(float((other[name] - there).abs().max()) for other in moved)
            allowed = ALLOWED * control + FLOOR_ULP * eps * max(
                float(there.abs().max()), 0.01 * top
            )
            error = float((here - there).abs().max())
            if not error <= allowed:
                reason = f"off by {error:.3g} where {allowed:.3g} is allowed"
                return Verdict(
                    f"gradient of {name}",
                    Status.FAILED,
                    f"looks like a fault: {reason}{self._looks(name, here, there)}",
                )
        return None

    def _looks(self, name: str, here: Tensor, there: Tensor) -> str:
        """What a wrong gradient looks like, or ""."""
        near = 1e-4 * float(there.abs().max())
        if self.earlier and float((here - self.earlier[name] - there).abs().max()) < near:
            return "; it is added to that of the step before: is zero_grad missing?"
        ratios = (here / there)[there.abs() > 100 * near]
        ratio = float(ratios.mean())
        if float((ratios - ratio).abs().max()) < 1e-4 * abs(ratio):
            samples = len(self.batch[0])
            return f"; it is {ratio:.4g} times PyTorch's (the batch has {samples} samples)"
        return ""

    def _update(self, fresh: _Trained) -> Verdict:
        """Give PyTorch's optimizer the subject's gradients, and compare the weights after it."""
        twin = copy.deepcopy(self.twin)
        known = self.gradients is not None
        for name, parameter in twin.model.named_parameters():
            grads = self.gradients or fresh.gradients()
            parameter.grad = grads[name].clone()
        twin.optimizer.step()
        eps = torch.finfo(self.dtype).eps
        for name, share in distances(self.subject.values(), twin.values()).items():
            if not share <= (16 if known else 1e4) * eps:
                what = "update" if known else "gradient or update"
                hint = "" if known else "; give the shim gradients() to tell which"
                moved, expected = (
                    values[name] - self.before[name]
                    for values in (self.subject.values(), twin.values())
                )
                ratio = float(moved.sum() / expected.sum())
                if float((moved - ratio * expected).abs().max()) < 1e-6 * float(moved.abs().max()):
                    hint = f"; the step is {ratio:.4g} times PyTorch's{hint}"
                if not moved.any():
                    hint += (
                        "; the step changes nothing: does weights() return the arrays themselves?"
                    )
                return Verdict(
                    f"{what} of {name}",
                    Status.FAILED,
                    f"looks like a fault: {share:.2g} of its largest entry off{hint}",
                )
        reason = "looks like rounding: every part of the step is right"
        return Verdict("model", Status.PASSED, reason)
