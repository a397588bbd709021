"""Memory: the peak bytes of tensors in each part of a computation."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
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


def _on_cuda(parts: Sequence[Callable[[], object]]) -> list[int]:
    """As :func:`peak_memory`, from CUDA's allocator."""
    before, peaks = torch.cuda.memory_allocated(), []
    for part in parts:
        torch.cuda.reset_peak_memory_stats()
        part()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    return peaks


def peak_memory(*parts: Callable[[], object], device: str = "cpu") -> list[int]:
    """Make the calls in turn, and return the peak bytes of tensors during each of them.

    What was allocated before the first call, such as the data, does not count, so a call must make
    the model too if that is to count; what an earlier call left behind does. On a CPU torch's
    profiler counts every allocation of torch, and none of NumPy's; on CUDA its allocator does.
    """
    if device.startswith("cuda"):
        return _on_cuda(parts)
    # The profiler prints a message when it starts.
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for place, part in enumerate(parts):
            with torch.profiler.record_function(f"part {place}"):
                part()
    results: Any = profiler.profiler
    events = sorted(results.kineto_results.events(), key=lambda event: event.start_ns())
    starts = {event.name(): event.start_ns() for event in events}
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = list(itertools.accumulate(size for _, size in changes))
    peaks, first = [], 0
    for place in range(len(parts)):
        end = starts.get(f"part {place + 1}", float("inf"))
        last = sum(start < end for start, _ in changes)
        peaks.append(max([0, *held[first:last]]))
        first = max(last - 1, 0)  # what is held when the next part begins
    return peaks
