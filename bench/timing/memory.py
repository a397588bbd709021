"""Memory: the bytes of tensors that a piece of training holds at most."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_memory"]

_STDERR = 2  # the descriptor: what C++ writes does not pass through sys.stderr


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Context in which the standard error stream leads nowhere."""
    before, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(before, _STDERR)
        os.close(before)
        os.close(nowhere)


def peak_memory(train: Callable[[], object]) -> int:
    """Return the bytes of tensors, of those made in the call, that are held at most at once.

    They are counted by torch's profiler, which sees every allocation. What is made before the call,
    such as the data, is not among them: so ``train`` makes the model too, or a copy of it.
    """
    # The profiler announces itself.
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train()
    results: Any = profiler.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    allocated: list[int] = [event.nbytes() for event in events]
    return max(itertools.accumulate(allocated))
