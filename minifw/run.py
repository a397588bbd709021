"""Run: the state of a training run, so that it can be stopped, saved and resumed; its callbacks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator

from minifw.checkpoint import load, save

if TYPE_CHECKING:
    import pandas

__all__ = ["Callback", "History", "Run"]


class Callback:
    """Base class of the callbacks that ``fit`` calls; a subclass overrides what it needs."""

    def on_train_begin(self, run: "Run") -> None:
        """Called before the first epoch, and before a checkpoint is read."""

    def on_step_end(self, run: "Run") -> None:
        """Called after every step of the optimizer; the epoch's "seconds" include its time."""

    def on_epoch_end(self, run: "Run") -> None:
        """Called after every epoch, with its row in ``run.history`` and the schedule stepped."""

    def on_train_end(self, run: "Run") -> None:
        """Called at the end of a run, also after an error or an interrupt."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""


class History(list[dict[str, Any]]):
    """The rows of a run, one an epoch. In a stack's, some values are lists, one entry a member."""

    def member(self, member: int, epochs: int | None = None) -> "History":
        """Return the rows of one member of a stack, up to ``epochs``. Default: all."""
        return History(
            {
                name: value[member] if isinstance(value, list) else value
                for name, value in row.items()
            }
            for row in self[:epochs]
        )

    def to_frame(self) -> "pandas.DataFrame":
        """Return the rows as a pandas DataFrame with a column for each key."""
        import pandas

        return pandas.DataFrame(list(self))

    def latest(self, column: str) -> Any:
        """Return the value of ``column`` in the last row.

        Raises:
            ValueError: there is no such column.
        """
        row = self[-1]
        if column not in row:
            raise ValueError(
                f"expected one of the history's columns, {list(row)}, to monitor, got {column!r}; "
                "name one of them, or pass fit the validation_data or metric that it comes from"
            )
        return row[column]


@dataclass
class Run:
    """The state of a training run, as callbacks see it; they may set ``stop``.

    Attributes:
        model: the model that is trained.
        optimizer: the optimizer that changes it.
        scheduler: the schedule of the learning rate, or None.
        generator: source of the batch order, a list of one a member for a stack; None for torch's
            global generator.
        callbacks: the callbacks of the run.
        epochs: passes over the data, unless the run stops earlier.
        history: the rows so far.
        done: passes over the data so far, with a fraction for the current one.
        stop: whether to end after the current epoch.
    """

    model: Any
    optimizer: Any
    scheduler: Any
    generator: Generator | Sequence[Generator] | None
    callbacks: Sequence[Callback]
    epochs: int
    history: History = field(default_factory=History)
    done: float = 0.0
    stop: bool = False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of the run to a file, by :func:`minifw.save`.

        The file holds the state of model, optimizer, schedule and callbacks, the history, and the
        random generators: torch's global ones, the run's, and those in attributes of modules.
        """
        state = {
            "parts": self._parts(),
            "states": [part.state_dict() for part in self._stateful()],
            "history": self.history,
            "stop": self.stop,
            "generators": [generator.get_state() for generator in self._generators()],
            "global": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        }
        save(state, path)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Restore the state that :meth:`save` wrote.

        Raises:
            ValueError: a run with other parts wrote the file.
            RuntimeError, OSError: as :func:`minifw.load`, and as ``load_state_dict`` of the model.
        """
        state = load(path)
        found = state.get("parts") if isinstance(state, dict) else None
        if found != self._parts():
            raise ValueError(
                f"{os.fspath(path)}: expected a run of {self._parts()}, got {found}; call fit with "
                "the arguments that the run was begun with, or pass another checkpoint"
            )
        for part, part_state in zip(self._stateful(), state["states"], strict=True):
            part.load_state_dict(part_state)
        self.history[:] = state["history"]
        self.done, self.stop = len(self.history), state["stop"]
        for generator, generator_state in zip(self._generators(), state["generators"], strict=True):
            generator.set_state(generator_state)
        torch.set_rng_state(state["global"])
        torch.cuda.set_rng_state_all(state["cuda"])

    def _stateful(self) -> list[Any]:
        schedulers = [] if self.scheduler is None else [self.scheduler]
        callbacks = [callback for callback in self.callbacks if callback.state_dict()]
        return [self.model, self.optimizer, *schedulers, *callbacks]

    def _generators(self) -> list[Generator]:
        """Return each generator once, although a module may share that of the run."""
        values = [self.generator]
        values += [value for module in self.model.modules() for value in vars(module).values()]
        lists = [value if isinstance(value, Sequence) else [value] for value in values]
        # dict.fromkeys: in order, each once.
        return list(dict.fromkeys(g for each in lists for g in each if isinstance(g, Generator)))

    def _parts(self) -> list[str]:
        """Return the class names of the parts that :meth:`save` writes, in order."""
        parts = self._stateful() + self._generators()
        return [type(part).__name__ for part in parts]
