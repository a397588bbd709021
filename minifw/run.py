"""Run: all that a training run consists of, so that it can be stopped, saved and gone on with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator

from minifw.checkpoint import load, save

if TYPE_CHECKING:
    import pandas

    from minifw.callbacks import Callback

__all__ = ["History", "Run"]


class History(list[dict[str, Any]]):
    """The rows of a run, one an epoch; of a stack, with a list of one value a member."""

    def member(self, member: int, epochs: int | None = None) -> "History":
        """The rows of one member of a stack, all or as many as given."""
        return History(
            {
                name: value[member] if isinstance(value, list) else value
                for name, value in row.items()
            }
            for row in self[:epochs]
        )

    def to_frame(self) -> "pandas.DataFrame":
        """The rows as a pandas DataFrame, a column a key."""
        import pandas

        return pandas.DataFrame(list(self))

    def latest(self, column: str) -> Any:
        """The value of ``column`` in the last row.

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
    """What callbacks are told of a run; they may set ``stop``.

    Attributes:
        model: what is trained.
        optimizer: by what.
        scheduler: of its learning rate; None for none.
        generator: source of the batch order, or one a member; None for torch's global generator.
        callbacks: those of the run.
        epochs: passes over the data, if nothing stops it before.
        history: the rows so far.
        done: passes over the data so far, the present one in part.
        stop: whether to end after the present epoch.
    """

    model: Any
    optimizer: Any
    scheduler: Any
    generator: Generator | Sequence[Generator] | None
    callbacks: Sequence["Callback"]
    epochs: int
    history: History = field(default_factory=History)
    done: float = 0.0
    stop: bool = False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything on which the rest of the run depends: see :func:`minifw.save`.

        That is the state of model, optimizer, schedule and callbacks, the history, and the random
        generators: torch's global ones, the run's, and those that modules hold as attributes.
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
        """Go on from what :meth:`save` wrote.

        Raises:
            ValueError: it was written by a run of other parts.
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
        """Each once: a module may draw from the generator of the run."""
        held = [value for module in self.model.modules() for value in vars(module).values()]
        found: dict[int, Generator] = {}
        for value in [self.generator, *held]:
            for one in value if isinstance(value, Sequence) else [value]:
                if isinstance(one, Generator):
                    found[id(one)] = one
        return list(found.values())

    def _parts(self) -> list[str]:
        """The kinds of what :meth:`save` writes, in order."""
        parts = self._stateful() + self._generators()
        return [type(part).__name__ for part in parts]
