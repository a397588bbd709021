"""The tables of the store, and the checksum that each of their rows carries."""

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

__all__ = ["METADATA", "RUNS", "TIMINGS", "checksum"]

METADATA = MetaData()
# A run is identified by its whole key. The rounding of a stack depends on its members, so they are
# part of the key: a run of one stack never stands for a run of another. The key is also the index
# by which runs are found, so its first columns are those that distinguish most.
RUNS = Table(
    "runs",
    METADATA,
    Column("recipe", Text, primary_key=True),
    Column("framework", Text, primary_key=True),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("stack", Text, primary_key=True),  # all seeds of the part
    Column("epochs", Integer, primary_key=True, autoincrement=False),  # an early stop leaves fewer
    Column("initialization", Text, primary_key=True),
    Column("dtype", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("threads", Integer, primary_key=True, autoincrement=False),
    Column("torch", Text, primary_key=True),
    Column("numpy", Text, primary_key=True),
    Column("processor", Text, primary_key=True),
    Column("sources", Text, primary_key=True),
    Column("train_accuracy", Double, nullable=False),
    Column("test_accuracy", Double, nullable=False),
    Column("made", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("curve", Text, nullable=False),  # JSON: the columns of the run's history
    Column("region_epochs", Text, nullable=False),  # JSON
    Column("regions", LargeBinary, nullable=False),  # numpy.packbits of them
    Column("checksum", Text, nullable=False),
)
TIMINGS = Table(
    "timings",
    METADATA,
    Column("recipe", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("side", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("torch", Text, nullable=False),
    Column("numpy", Text, nullable=False),
    Column("processor", Text, nullable=False),
    Column("sources", Text, nullable=False),
    Column("made", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("checksum", Text, nullable=False),
)


def checksum(values: Iterable[Any]) -> str:
    """The checksum of a row: of its values, in the order of the columns, without the checksum."""
    digest = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode(errors="surrogateescape")
        digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()
