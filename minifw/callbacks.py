"""Callbacks: early stopping and the progress bar."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minifw.run import Callback, Run

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Callback", "EarlyStopping", "ProgressBar"]


class EarlyStopping(Callback):
    """Stop a run that no longer improves, and restore the model's best weights at its end.

    The best weights are those after the epoch with the best value. They are restored whether or not
    the run was stopped.

    Args:
        monitor: the column of the history to watch. Default: "validation_loss".
        patience: epochs in a row without improvement after which the run ends. Default: 10.
        min_delta: smallest difference to the last improvement that counts as an improvement.
            Default: 0.
        mode: whether "min" or "max" is best. Default: "min".

    Attributes:
        best (float): the best value; inf (-inf for "max") before the first epoch.
        best_epoch (int | None): the epoch of the best value.
        stopped_epoch (int | None): the epoch after which the run was stopped.

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
        self.mode = mode
        self._sign = 1 if mode == "min" else -1
        self._reset()

    def _reset(self) -> None:
        self.best = self._improved = self._sign * math.inf
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: dict[str, Any] = {}
        self._waited = 0

    def on_train_begin(self, run: Run) -> None:
        self._reset()

    def on_epoch_end(self, run: Run) -> None:
        value, epoch = run.history.latest(self.monitor), run.history[-1]["epoch"]
        if self._sign * value < self._sign * self.best:
            self.best, self.best_epoch = value, epoch
            state = run.model.state_dict()
            self._best_weights = {name: tensor.clone() for name, tensor in state.items()}
        if self._sign * value < self._sign * self._improved - self.min_delta:
            self._improved = value
            self._waited = 0
        else:
            self._waited += 1
            if self._waited >= self.patience:
                self.stopped_epoch, run.stop = epoch, True

    def on_train_end(self, run: Run) -> None:
        state = run.model.state_dict()
        for name, tensor in self._best_weights.items():
            state[name].copy_(tensor)

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "stopped_epoch", "_improved", "_best_weights", "_waited")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        vars(self).update(state_dict)


class ProgressBar(Callback):
    """A progress bar on the terminal, with the remaining time.

    Args:
        after: seconds from the start of the run until it appears. Default: 2.
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
