"""The store: every finished run, written to an SQLite file as soon as it ends."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateTable

from bench.cli.provenance import provenance
from bench.runs.sweep import GRID, Finished, Part, Settings, Task, Trained, environment

__all__ = ["FILE", "RunStore", "StoreError"]

FILE = "history.sqlite"  # in the output folder

_METADATA = MetaData()
# A run is identified by its whole key. The rounding of a stack depends on its members, so they are
# part of the key: a run of one stack never stands for a run of another.
_RUNS = Table(
    "runs",
    _METADATA,
    Column("recipe", String, primary_key=True),
    Column("framework", String, primary_key=True),
    Column("seed", Integer, primary_key=True),
    Column("stack", String, primary_key=True),  # all seeds of the part
    Column("epochs", Integer, primary_key=True),  # requested; an early stop may leave fewer
    Column("initialization", String, primary_key=True),
    Column("dtype", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("threads", Integer, primary_key=True),
    Column("torch", String, primary_key=True),
    Column("numpy", String, primary_key=True),
    Column("processor", String, primary_key=True),
    Column("sources", String, primary_key=True),
    Column("train_accuracy", Float, nullable=False),
    Column("test_accuracy", Float, nullable=False),
    Column("curve", JSON, nullable=False),  # the columns of the run's history
    Column("region_epochs", JSON, nullable=False),
    Column("regions", LargeBinary, nullable=False),  # numpy.packbits of them
    Column("made", String, nullable=False),
    Column("commit", String, nullable=False),
)
_TIMINGS = Table(
    "timings",
    _METADATA,
    Column("recipe", String, nullable=False),
    Column("part", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("side", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("dtype", String, nullable=False),
    Column("device", String, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("torch", String, nullable=False),
    Column("numpy", String, nullable=False),
    Column("processor", String, nullable=False),
    Column("sources", String, nullable=False),
    Column("made", String, nullable=False),
    Column("commit", String, nullable=False),
)


class StoreError(RuntimeError):
    """The store cannot be used; the message says why, and the remedy, in one line."""


class RunStore:
    """Finished runs and timings in an SQLite file; a context manager that closes it.

    Each method that adds rows is one transaction of SQLite's journal, synchronized with the disk:
    whenever the process is killed, the rows are stored whole or not at all.

    Args:
        path: the file; created if missing.
        fresh: rename a file that cannot be used, and create another. Default: False.

    Attributes:
        put_aside: the new path of a file that was renamed because it could not be used.

    Raises:
        StoreError: here and in every method, if the file cannot be read or written, or holds
            something else.
    """

    def __init__(self, path: Path, fresh: bool = False) -> None:
        self.path = path
        self.put_aside: Path | None = None
        # Seconds to wait while another process writes.
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})
        try:
            self._prepare()
        except StoreError:
            self._engine.dispose()
            if not fresh or not path.is_file():
                raise
            now = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            self.put_aside = path.rename(path.with_name(f"{path.name}.{now}"))
            self._prepare()

    def _prepare(self) -> None:
        """Check that the file is intact and of this version; create missing tables."""
        with self._transaction() as connection:
            damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if damage != "ok":
                raise self._error(damage)
            inspector = inspect(connection)
            for name in inspector.get_table_names():
                found = [column["name"] for column in inspector.get_columns(name)]
                expected = _METADATA.tables.get(name)
                if expected is None or found != list(expected.columns.keys()):
                    raise self._error(f"its table {name!r} is not one of this version's")
            for table in _METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def _error(self, reason: object) -> StoreError:
        line = " ".join(str(reason).split())
        return StoreError(
            f"cannot use the store {str(self.path)!r} ({line}); "
            "--fresh renames it and starts another"
        )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (DatabaseError, json.JSONDecodeError) as error:
            raise self._error(getattr(error, "orig", error)) from None

    def find(
        self, parts: Iterable[Part], settings: Settings, processors: Iterable[str]
    ) -> dict[Part, list[Finished]]:
        """Return the runs of each part that was done before, in the order of its seeds.

        A part counts if it was done as a whole, with the same settings, versions and sources, on
        one of ``processors``.
        """
        found = {}
        with self._transaction() as connection:
            for part in parts:
                for processor in processors:
                    key = _key(part, settings, environment() | {"processor": processor})
                    query = select(_RUNS).where(*(_RUNS.c[name] == key[name] for name in key))
                    rows = {row.seed: row for row in connection.execute(query)}
                    if rows.keys() == set(part.seeds):
                        found[part] = [_finished(rows[seed]) for seed in part.seeds]
                        break
        return found

    def add(self, trained: Trained, settings: Settings) -> None:
        """Keep the runs of a part, in place of the same runs if they were done before."""
        key = _key(trained.part, settings, trained.environment) | _made()
        rows = [
            {
                **key,
                "seed": run.task.seed,
                "train_accuracy": run.train_accuracy,
                "test_accuracy": run.test_accuracy,
                "curve": run.history.to_dict("list"),
                "region_epochs": run.region_epochs,
                "regions": np.packbits(run.regions).tobytes(),
            }
            for run in trained.runs
        ]
        with self._transaction() as connection:
            connection.execute(insert(_RUNS).prefix_with("OR REPLACE"), rows)

    def add_timings(self, timings: pd.DataFrame, settings: Settings) -> None:
        """Keep timings: a row a recipe, part, round and side, with its seconds."""
        shared = {
            **{name: asdict(settings)[name] for name in ("dtype", "device", "threads")},
            **environment(),
            **_made(),
        }
        with self._transaction() as connection:
            timings.assign(**shared).to_sql("timings", connection, if_exists="append", index=False)

    def runs(self) -> pd.DataFrame:
        """A row a run: its key, accuracies, date and commit."""
        leave_out = ("curve", "region_epochs", "regions")
        return self._frame(*(column for column in _RUNS.c if column.name not in leave_out))

    def curves(self) -> pd.DataFrame:
        """A row an epoch of a run: the key of the run, then the columns of its history."""
        runs = self._frame(*_RUNS.primary_key, _RUNS.c.curve)
        if runs.empty:
            return runs
        # A column of lists, all of a run as long as each other: so that a row becomes one an epoch.
        columns = pd.DataFrame(runs.pop("curve").tolist(), index=runs.index)
        return runs.join(columns).explode(list(columns), ignore_index=True).infer_objects()

    def timings(self) -> pd.DataFrame:
        """A row a timing, as they were added, with settings, versions, machine and date."""
        return self._frame(*_TIMINGS.c)

    def _frame(self, *columns: "Column[Any]") -> pd.DataFrame:
        with self._transaction() as connection:
            return pd.read_sql(select(*columns), connection)


def _made() -> dict[str, str]:
    return {"made": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", "commit": provenance()["commit"]}


def _key(part: Part, settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """All of the key but the seed."""
    return {
        "recipe": part.recipe,
        "framework": part.framework,
        "stack": ",".join(map(str, part.seeds)),
        **asdict(settings),
        "epochs": settings.epochs_of(part.recipe),
        **environment,
    }


def _finished(row: Row[Any]) -> Finished:
    shape = (len(row.region_epochs), GRID, GRID)
    bits = np.unpackbits(np.frombuffer(row.regions, np.uint8), count=int(np.prod(shape)))
    return Finished(
        task=Task(row.recipe, row.framework, row.seed),
        history=pd.DataFrame(row.curve),
        train_accuracy=row.train_accuracy,
        test_accuracy=row.test_accuracy,
        region_epochs=tuple(row.region_epochs),
        regions=bits.reshape(shape).astype(bool),
    )
