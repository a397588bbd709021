"""The sweep on a Dask cluster: the same parts, on other machines."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from bench.runs.sweep import Part, Settings, Trained, environment, train_part

__all__ = ["ClusterError", "processors", "train_on_cluster"]

SECONDS = 5  # timeout for the scheduler, and for its first worker


class ClusterError(RuntimeError):
    """The cluster cannot be used; the message says why, and the remedy, in one line."""


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    try:
        import distributed
        from distributed.comm import get_address_host_port
    except ImportError:
        raise ClusterError(
            "--scheduler needs the extra dask: pip install -c constraints.txt -e '.[dask]'"
        ) from None
    # Its messages arrive as errors too.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        get_address_host_port(address)  # a client of no address does not close
        client = distributed.Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--scheduler: no Dask scheduler answers at {address!r} ({error}); "
            "start one with `dask scheduler`, and give the address that it prints"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS)
        except TimeoutError:
            raise ClusterError(
                f"--scheduler: the scheduler at {address!r} has no workers; "
                f"start some with `dask worker {address}`"
            ) from None
        try:
            yield client
        except (OSError, CancelledError, distributed.KilledWorker) as error:
            line = " ".join(str(error).split())
            raise ClusterError(
                f"--scheduler: the cluster at {address!r} was lost ({line}); the same command "
                "resumes from the finished runs"
            ) from None


def processors(address: str) -> list[str]:
    """The processors of the cluster's workers, without duplicates."""
    with _connect(address) as client:
        answers = client.run(environment, on_error="return").values()
    for answer in answers:
        # OSError: that worker has just disconnected.
        if isinstance(answer, Exception) and not isinstance(answer, OSError):
            raise ClusterError(
                f"--scheduler: a worker cannot import this project ({answer}); install it, as it "
                "is here and with its extra dask, where the workers run"
            )
    return sorted({answer["processor"] for answer in answers if isinstance(answer, dict)})


def train_on_cluster(address: str, parts: Iterable[Part], settings: Settings) -> Iterator[Trained]:
    """Train ``parts`` on the cluster; yield each as it finishes, as :func:`bench.runs.sweep.train`.

    Another worker repeats the parts of a worker that is lost.

    Raises:
        ClusterError: there is no such cluster, or its workers have other sources or versions.
    """
    with _connect(address) as client:
        from distributed import as_completed

        futures = client.map(train_part, list(parts), settings=settings, pure=False)
        for future in as_completed(futures, loop=client.loop):
            trained = future.result()
            _check(trained)
            yield trained


def _check(trained: Trained) -> None:
    """Raise if a part was done in an environment that may give other numbers."""
    here = environment()
    for name in ("torch", "numpy", "sources"):
        if trained.environment[name] != here[name]:
            raise ClusterError(
                f"--scheduler: a worker has {name} {trained.environment[name]}, this process "
                f"{here[name]}; install the same on both"
            )
