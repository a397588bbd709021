"""The store: every finished run, written to a database as soon as it ends."""

import itertools
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Row,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from bench.cli.provenance import provenance
from bench.runs.schema import METADATA, RUNS, TIMINGS, checksum
from bench.runs.sweep import GRID, Finished, Part, Settings, Task, Trained, environment

__all__ = ["FILE", "TABLES", "RunStore", "StoreError", "StoreFailedError"]

FILE = "history.sqlite"  # in the output folder
TABLES = ("runs", "curves", "timings")
_CURVE = ("epoch", "seconds", "loss", "train_accuracy", "validation_accuracy")
_ROWS = 500  # that are in memory at once
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class StoreError(RuntimeError):
    """The store holds something else; the message says the remedy."""


class StoreFailedError(OSError):
    """The store is damaged, or cannot be read or written; the message says why, in one line.

    Attributes:
        damaged: whether the file is damaged.
    """

    damaged = False


class RunStore:
    """Finished runs and timings in a database; a context manager that closes it.

    Each method that adds rows is one transaction, synchronized with the disk: whenever the process
    is killed, the rows are stored whole or not at all. Every row carries a checksum. A row that
    does not match its own is left out and counted, so its run is repeated.

    Args:
        path: an SQLite file, created if missing.
        unusable: what to do with a file that cannot be used: "refuse" it, "rename" it and create
            another, or "rename damaged" ones only. Default: "refuse".

    Attributes:
        put_aside: the new path of a file that was renamed because it could not be used.
        damaged: the checksums of the rows that were left out.

    Raises:
        StoreError: the database holds something else.
        StoreFailedError: here and in every method, if it is damaged, or cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        unusable: Literal["refuse", "rename", "rename damaged"] = "refuse",
    ) -> None:
        self.put_aside: Path | None = None
        self.damaged: set[str] = set()
        self._open(path)
        try:
            self._prepare()
        except (StoreError, StoreFailedError) as error:
            self._engine.dispose()
            damaged = getattr(error, "damaged", isinstance(error, StoreError))
            if (
                not damaged
                or unusable == "refuse"
                or (unusable == "rename damaged" and isinstance(error, StoreError))
            ):
                raise
            now = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            self.put_aside = path.rename(path.with_name(f"{path.name}.{now}"))
            self._prepare()

    def _open(self, path: Path) -> None:
        # Not a text, which SQLAlchemy would split at a question mark.
        url = URL.create("sqlite", database=str(path.absolute()))
        # Seconds to wait while another process writes.
        self._engine = create_engine(url, connect_args={"timeout": 60})
        event.listen(self._engine, "connect", _read_any_text)
        self.name = str(path)

    def _prepare(self) -> None:
        """Check that the database is intact and of this version; create missing tables."""
        with self._transaction() as connection:
            damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if damage != "ok":
                raise self._failure(damage, damaged=True)
            inspector = inspect(connection)
            names = inspector.get_table_names()
            for name in names:
                found = [column["name"] for column in inspector.get_columns(name)]
                expected = METADATA.tables.get(name)
                if expected is None or found != list(expected.columns.keys()):
                    raise StoreError(
                        f"cannot use the store {self.name!r} (its table {name!r} is not one of "
                        "this version's); --fresh renames a file and starts another"
                    )
        if set(names) != set(METADATA.tables):
            with self._transaction() as connection:
                for table in METADATA.sorted_tables:
                    # Another process may have made it since the names were read.
                    connection.execute(CreateTable(table, if_not_exists=True))

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def _failure(self, reason: object, damaged: bool) -> StoreFailedError:
        remedy = (
            "compare.py --fresh renames it and starts another"
            if damaged
            else "see to the disk; the same command resumes from the finished runs"
        )
        line = " ".join(str(reason).split())
        failure = StoreFailedError(f"cannot use the store {self.name!r} ({line}); {remedy}")
        failure.damaged = damaged
        return failure

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            # The first byte: the others distinguish kinds of damage.
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            raise self._failure(error.orig, code in _DAMAGED) from None
        except (SQLAlchemyError, UnicodeDecodeError) as error:  # of a damaged schema
            raise self._failure(error, damaged=True) from None

    def _rows(self, table: Table, *where: ColumnElement[bool]) -> Iterator[Row[Any]]:
        """Iterate over the rows that fit their checksums; few are in memory at once."""
        query = select(table).where(*where).execution_options(yield_per=_ROWS)
        with self._transaction() as connection:
            for row in connection.execute(query):
                found = checksum(row[:-1])
                if found == row.checksum:
                    yield row
                else:
                    self.damaged.add(found)

    def _matching(
        self, parts: Iterable[Part], settings: Settings, processors: Sequence[str]
    ) -> Iterator[tuple[Part, Row[Any]]]:
        """Iterate over the rows of ``parts`` by one query a recipe and framework."""
        groups: dict[tuple[str, str], dict[str, Part]] = {}
        for part in parts:
            groups.setdefault((part.recipe, part.framework), {})[_stack(part)] = part
        for stacks in groups.values():
            seeds = [seed for part in stacks.values() for seed in part.seeds]
            key = _key(next(iter(stacks.values())), settings, environment())
            del key["stack"], key["processor"]
            rows = self._rows(
                RUNS,
                *(RUNS.c[name] == value for name, value in key.items()),
                RUNS.c.seed.between(min(seeds), max(seeds)),
                RUNS.c.processor.in_(processors),
            )
            for row in rows:
                if row.stack in stacks:
                    yield stacks[row.stack], row

    def find(
        self, parts: Iterable[Part], settings: Settings, processors: Sequence[str]
    ) -> dict[Part, str]:
        """Return the parts that were done before, each with the processor that did it.

        A part counts if it was done as a whole, with the same settings, versions and sources, on
        one of ``processors``.
        """
        seeds: dict[tuple[Part, str], set[int]] = {}
        for part, row in self._matching(parts, settings, processors):
            seeds.setdefault((part, row.processor), set()).add(row.seed)
        # In reverse, so that the first of the processors has the last word.
        return {
            part: processor
            for processor in reversed(processors)
            for (part, done_by), done in seeds.items()
            if done_by == processor and done == set(part.seeds)
        }

    def read(self, found: Mapping[Part, str], settings: Settings) -> Iterator[Finished]:
        """Iterate over the runs of the parts that :meth:`find` returned."""
        for part, row in self._matching(found, settings, sorted(set(found.values()))):
            if row.processor == found[part]:
                yield _finished(row)

    def add(self, trained: Trained, settings: Settings) -> None:
        """Keep the runs of a part, in place of the same runs if they were done before."""
        key = _key(trained.part, settings, trained.environment) | _made()
        rows = [
            {
                **key,
                "seed": run.task.seed,
                "train_accuracy": run.train_accuracy,
                "test_accuracy": run.test_accuracy,
                "curve": json.dumps(run.history.to_dict("list")),
                "region_epochs": json.dumps(run.region_epochs),
                "regions": np.packbits(run.regions).tobytes(),
            }
            for run in trained.runs
        ]
        statement = sqlite.insert(RUNS)
        replace = statement.on_conflict_do_update(
            index_elements=RUNS.primary_key.columns,
            set_={column.name: statement.excluded[column.name] for column in RUNS.c},
        )
        with self._transaction() as connection:
            connection.execute(replace, _with_checksums(RUNS, rows))

    def add_timings(self, timings: pd.DataFrame, settings: Settings) -> None:
        """Keep timings: a row a recipe, part, round and side, with its seconds."""
        shared = {
            **{name: asdict(settings)[name] for name in ("dtype", "device", "threads")},
            **environment(),
            **_made(),
        }
        rows = timings.assign(**shared).astype(object).to_dict("records")
        if rows:
            with self._transaction() as connection:
                connection.execute(insert(TIMINGS), _with_checksums(TIMINGS, rows))

    def frames(self, table: str) -> Iterator[pd.DataFrame]:
        """Iterate over a table in frames of a bounded size; the first may be empty.

        Args:
            table: "runs", a row a run: its key, accuracies, date and commit; "curves", a row an
                epoch of a run: the key of the run, then the columns of its history; or "timings",
                a row a timing, with settings, versions, machine and date.
        """
        key = [column.name for column in RUNS.primary_key]
        names = {
            "runs": [*key, "train_accuracy", "test_accuracy", "made", "commit"],
            "curves": [*key, *_CURVE],
            "timings": [column.name for column in TIMINGS.c][:-1],
        }[table]
        yield pd.DataFrame(columns=names)
        rows = self._rows(TIMINGS if table == "timings" else RUNS)
        while batch := list(itertools.islice(rows, _ROWS)):
            if table == "curves":
                yield pd.DataFrame(_epochs(batch, key), columns=names)
            else:
                yield pd.DataFrame(
                    [[row._mapping[n] for n in names] for row in batch], columns=names
                )

    def table(self, name: str) -> pd.DataFrame:
        """The frames of a table as one."""
        first, *others = self.frames(name)
        return pd.concat(others, ignore_index=True) if others else first


def _read_any_text(connection: Any, _: object) -> None:
    """Read damaged text too, rather than raise: the checksum tells."""
    connection.text_factory = lambda data: data.decode(errors="surrogateescape")


def _with_checksums(table: Table, rows: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The rows with their checksums, of values as the database will return them."""
    names = [column.name for column in table.c][:-1]
    types = {column.name: column.type.python_type for column in table.c}
    converted = [{n: None if row[n] is None else types[n](row[n]) for n in names} for row in rows]
    return [{**row, "checksum": checksum(row.values())} for row in converted]


def _epochs(rows: Iterable[Row[Any]], key: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """A row an epoch of each run: its key, then its curve, with NaN for what was not measured."""
    for row in rows:
        curve = json.loads(row.curve)
        shared = tuple(row._mapping[name] for name in key)
        columns = (curve.get(name, [math.nan] * len(curve["epoch"])) for name in _CURVE)
        yield from (shared + epoch for epoch in zip(*columns, strict=True))


def _made() -> dict[str, str]:
    return {"made": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", "commit": provenance()["commit"]}


def _stack(part: Part) -> str:
    return ",".join(map(str, part.seeds))


def _key(part: Part, settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """All of the key but the seed."""
    return {
        "recipe": part.recipe,
        "framework": part.framework,
        "stack": _stack(part),
        **asdict(settings),
        "epochs": settings.epochs_of(part.recipe),
        **environment,
    }


def _finished(row: Row[Any]) -> Finished:
    epochs = json.loads(row.region_epochs)
    shape = (len(epochs), GRID, GRID)
    bits = np.unpackbits(np.frombuffer(row.regions, np.uint8), count=int(np.prod(shape)))
    return Finished(
        task=Task(row.recipe, row.framework, row.seed),
        history=pd.DataFrame(json.loads(row.curve)),
        train_accuracy=row.train_accuracy,
        test_accuracy=row.test_accuracy,
        region_epochs=tuple(epochs),
        regions=bits.reshape(shape).astype(bool),
    )
