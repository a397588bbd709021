"""Run: the state of a training run, so that it can be stopped, saved and resumed; its callbacks."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator

from minifw.checkpoint import load, save
from minifw.settings import describe, options

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


class _ChangedError(ValueError):
    """The checkpoint is of a run with other settings."""


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
        arguments: of ``fit``, those that the result depends on besides; by name.
        begun: the settings that the run was begun with, which a schedule may have changed since.
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
    arguments: Mapping[str, Any] = field(default_factory=dict)
    begun: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """Set ``begun``."""
        self.begun = self._settings()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of the run to a file, by :func:`minifw.save`.

        The file holds the state of model, optimizer, schedule and callbacks, the history, the
        random generators (torch's global ones, the run's, and those in attributes of modules), and
        the settings of the run, as it was begun and as it is.
        """
        now = self._settings() | self._data
        save(self._state() | {"parts": self._parts(), "settings": [now | self.begun, now]}, path)

    def resume(self, path: str | os.PathLike[str], allow_changes: bool = False) -> None:
        """Restore the state that :meth:`save` wrote, or leave everything as it is.

        Args:
            path: the file.
            allow_changes: whether settings may differ from those of the run that wrote the file;
                those of this run then hold. The learning rate of a schedule keeps its share of the
                initial one. Default: False.

        Raises:
            ValueError: a run with other parts or settings wrote the file, or the file holds
                something else.
            RuntimeError, OSError: as :func:`minifw.load`.
        """
        name, state = os.fspath(path), load(path)
        found = state.get("parts") if isinstance(state, dict) else None
        if found != self._parts():
            raise ValueError(
                f"{name}: expected a run of {self._parts()}, got {found}; call fit with the "
                "arguments that the run was begun with, or pass another checkpoint"
            )
        before = copy.deepcopy(self._state())
        try:
            begun, then = (dict(settings) for settings in state["settings"])
            now = self._settings() | self._data
            names = dict.fromkeys([*begun, *now])
            changed = [n for n in names if now.get(n) not in (begun.get(n), then.get(n))]
            if changed and not allow_changes:
                differences = "; ".join(
                    f"{n} was {begun.get(n, 'not there')}, is {now.get(n, 'not there')}"
                    for n in changed
                )
                raise _ChangedError(
                    f"{name}: expected a run with the settings of this one, but {differences}; "
                    "pass fit the arguments that the run was begun with, another checkpoint, or "
                    "allow_changes=True to resume with the new settings"
                )
            self._adopt(state, set(changed))
            self._restore(state)
        except _ChangedError:
            raise
        except Exception as error:
            self._restore(before)
            raise ValueError(
                f"{name}: expected the state of this run, got another "
                f"({type(error).__name__}: {error}); pass another checkpoint"
            ) from None
        self.begun |= {n: begun[n] for n in self.begun if n in begun and n not in changed}

    def _state(self) -> dict[str, Any]:
        return {
            "states": [part.state_dict() for part in self._stateful()],
            "history": self.history,
            "stop": self.stop,
            "generators": [generator.get_state() for generator in self._generators()],
            "global": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        for part, part_state in zip(self._stateful(), state["states"], strict=True):
            part.load_state_dict(part_state)
        self.history[:] = map(dict, state["history"])
        self.done, self.stop = len(self.history), bool(state["stop"])
        for generator, generator_state in zip(self._generators(), state["generators"], strict=True):
            generator.set_state(generator_state)
        torch.set_rng_state(state["global"])
        torch.cuda.set_rng_state_all(state["cuda"])

    def _adopt(self, state: Mapping[str, Any], changed: set[str]) -> None:
        """Put this run's changed settings into ``state``, which would overwrite them."""
        for index, group in enumerate(getattr(self.optimizer, "param_groups", ())):
            saved = state["states"][1]["param_groups"][index]
            place = f"optimizer.param_groups[{index}]"
            decay = saved["lr"] / saved["initial_lr"] if saved.get("initial_lr") else 1.0
            saved |= {k: v for k, v in options(group).items() if f"{place}.{k}" in changed}
            if f"{place}.lr" in changed:
                saved["lr"] *= decay
        if self.scheduler is not None:
            given = options(vars(self.scheduler))
            state["states"][2].update(
                {k: v for k, v in given.items() if f"scheduler.{k}" in changed}
            )
        for index, generator in enumerate(self._generators()):
            if f"generators[{index}]" in changed:
                state["generators"][index] = generator.get_state()

    def _settings(self) -> dict[str, str]:
        """Return what the parts were made with, and what a callback has counted left out."""
        callbacks = [callback for callback in self.callbacks if callback.state_dict()]
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "callbacks": callbacks,
            "generators": self._generators(),
        }
        settings = {n: text for part in parts.items() for n, text in describe(*part)}
        for index, callback in enumerate(callbacks):
            for key in callback.state_dict():
                settings.pop(f"callbacks[{index}].{key}", None)
        return settings

    @cached_property
    def _data(self) -> dict[str, str]:
        """The settings in the arguments: data is read once."""
        return {n: text for argument in self.arguments.items() for n, text in describe(*argument)}

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
