"""Callbacks: what fit calls as a run goes on."""

import copy
import math
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from minifw.run import Run

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Callback", "EarlyStopping", "ProgressBar"]


class Callback:
    """Base class of the callbacks; a subclass overrides what it needs."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch of a run, and before the checkpoint is read, if it goes on."""

    def on_step_end(self, run: Run) -> None:
        """After every step of the optimizer; its time counts in the "seconds" of the epoch."""

    def on_epoch_end(self, run: Run) -> None:
        """After every epoch, when its row is in ``run.history`` and the schedule has stepped."""

    def on_train_end(self, run: Run) -> None:
        """At the end of a run, be it by an error or an interrupt."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""


class EarlyStopping(Callback):
    """End a run that no longer improves; at its end, give the model its best weights back.

    The weights are those after the epoch with the best value of all, and they are restored whether
    or not the run was stopped. A member of a stack that no longer improves gets its own back at
    once and stays as it is; the run ends with the last of them.

    Args:
        monitor: the column of the history to watch. Default: "validation_loss".
        patience: epochs in a row without improvement after which the run ends. Default: 10.
        min_delta: by how much a value has to pass the last one that counted as an improvement in
            order to count itself. Default: 0.
        mode: whether "min" or "max" is best. Default: "min".

    Attributes:
        best (float): the best value; inf (-inf for "max") before the first.
        best_epoch (int | None): the epoch it is from.
        stopped_epoch (int | None): the epoch after which there had been no improvement for long.
        members (list[EarlyStopping]): of a run on a stack, one a member, with these attributes.

    Raises:
        ValueError: patience is below 1, min_delta negative, mode unknown; in the run, the history
            has no such column.

    Source: report 004.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "min",
    ) -> None:
        if patience < 1:
            raise ValueError(f"expected a patience of at least 1 epoch, got {patience}")
        if not min_delta >= 0:
            raise ValueError(f"expected a min_delta of at least 0, got {min_delta}")
        if mode not in ("min", "max"):
            raise ValueError(f"expected mode 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self._sign = 1 if mode == "min" else -1
        self._reset()

    def _reset(self) -> None:
        self.best = self._improved = self._sign * math.inf
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: dict[str, Any] | None = None
        self._waited = 0
        self.members: list[EarlyStopping] = []

    def on_train_begin(self, run: Run) -> None:
        self._reset()
        members = getattr(run.model, "members", None) or 0
        self.members = [copy.copy(self) for _ in range(members)]

    def _each(self, run: Run) -> list[tuple["EarlyStopping", dict[str, Tensor]]]:
        """Itself and the model's state, or each member and its part of it."""
        state = run.model.state_dict()
        return [
            (one, {name: tensor[index] for name, tensor in state.items()})
            for index, one in enumerate(self.members)
        ] or [(self, state)]

    def on_step_end(self, run: Run) -> None:
        if any(one.stopped_epoch for one in self.members):
            self._restore([(one, state) for one, state in self._each(run) if one.stopped_epoch])

    def on_epoch_end(self, run: Run) -> None:
        value, each = run.history.latest(self.monitor), self._each(run)
        for (one, state), of_one in zip(each, value if self.members else [value], strict=True):
            if not one.stopped_epoch:
                one._take(of_one, len(run.history), state)
        run.stop |= all(one.stopped_epoch for one, _ in each)
        self.on_step_end(run)

    def _take(self, value: float, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Note the value of an epoch and, if it is the best, the weights after it."""
        if self._sign * value < self._sign * self.best:
            self.best, self.best_epoch = value, epoch
            self._best_weights = {name: tensor.clone() for name, tensor in state.items()}
        if self._sign * value < self._sign * self._improved - self.min_delta:
            self._improved = value
            self._waited = 0
        else:
            self._waited += 1
            if self._waited >= self.patience:
                self.stopped_epoch = epoch

    def _restore(self, each: Iterable[tuple["EarlyStopping", dict[str, Tensor]]]) -> None:
        for one, state in each:
            if one._best_weights is not None:
                for name, tensor in one._best_weights.items():
                    state[name].copy_(tensor)

    def on_train_end(self, run: Run) -> None:
        self._restore(self._each(run))

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "stopped_epoch", "_improved", "_best_weights", "_waited")
        members = {"members": [one.state_dict() for one in self.members]} if self.members else {}
        return {name: getattr(self, name) for name in names} | members

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        members = state_dict.get("members", [])
        vars(self).update({**state_dict, "members": self.members})
        for one, state in zip(self.members, members, strict=True):
            one.load_state_dict(state)


class ProgressBar(Callback):
    """A bar on the terminal, with the time that is left.

    Args:
        after: seconds that a run has to last before it is drawn. Default: 2.
    """

    def __init__(self, after: float = 2.0) -> None:
        self.after = after

    def on_train_begin(self, run: Run) -> None:
        self._due = time.perf_counter() + self.after
        self._bar: Progress | None = None

    def on_step_end(self, run: Run) -> None:
        now = time.perf_counter()
        if now < self._due:
            return
        self._due = now + 0.1
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._bar.add_task("", total=run.epochs)
            self._bar.start()
        epoch = f"epoch {len(run.history) + 1} of {run.epochs}"
        self._bar.update(self._bar.task_ids[0], description=epoch, completed=run.done, refresh=True)

    def on_train_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
