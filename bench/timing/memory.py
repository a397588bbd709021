"""Memory: the peak bytes of tensors during training."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_memory"]

_STDERR = 2  # the descriptor: output of C++ does not pass through sys.stderr


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Context that discards the standard error stream."""
    before, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(before, _STDERR)
        os.close(before)
        os.close(nowhere)


def peak_memory(train: Callable[[], object]) -> int:
    """Return the peak bytes of the tensors that ``train`` allocates.

    torch's profiler counts every allocation. Tensors allocated before the call, such as the data,
    do not count, so ``train`` must make the model too, or a copy.
    """
    # The profiler prints a message when it starts.
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train()
    results: Any = profiler.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    allocated: list[int] = [event.nbytes() for event in events]
    return max(itertools.accumulate(allocated))
