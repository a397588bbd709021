"""Worker processes that end when the command that started them is gone."""

import os
import threading
import time
from typing import Any

from joblib import Parallel

__all__ = ["workers"]

SECONDS = 1.0  # between two looks


def workers(jobs: int, **options: Any) -> Parallel:
    """Return joblib's ``Parallel`` with ``jobs`` such processes, and its further ``options``."""
    return Parallel(jobs, initializer=_watch, initargs=(os.getpid(),), **options)


def _watch(parent: int) -> None:
    """Start to watch; a killed parent cannot say goodbye, and its workers would wait forever."""
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os._exit(1)
