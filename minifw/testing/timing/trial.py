"""A trial: one subject, made anew, timed over steps of a forward and a backward pass."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from minifw.testing.case import seeded
from minifw.testing.comparison import Drawn
from minifw.testing.example import DTYPES, copied
from minifw.testing.passes import Pass
from minifw.testing.subjects import Subject
from minifw.testing.subjects.environment import called_in
from minifw.testing.timing.memory import peak_memory

__all__ = ["MAKERS", "PARTS", "Trial", "clock_of", "memory_of", "run_trial"]

PARTS = ("forward", "backward", "both")
WARM_UP = 2  # untimed steps: the first allocates, the second frees some
SECONDS = 0.01  # the least time of the timed steps of a trial together
MOST_STEPS = 1000
COLD = 2**28  # bytes written between steps on CUDA, so that the L2 cache holds no input


class Clock(Protocol):
    """Marks moments, and says how many seconds lie between two of them."""

    def settle(self) -> None:
        """Wait until what was started has ended, and empty the caches where that is usual."""

    def mark(self) -> Any:
        """Return this moment."""

    def seconds(self, first: Any, last: Any) -> float:
        """The time between two moments."""


class CpuClock:
    """The processor's clock."""

    mark = staticmethod(time.perf_counter)

    def settle(self) -> None:
        pass

    def seconds(self, first: float, last: float) -> float:
        return last - first


class CudaClock:
    """CUDA's events, which are on the device's own time line."""

    def __init__(self) -> None:
        self._cold = torch.empty(COLD, dtype=torch.uint8, device="cuda")

    def settle(self) -> None:
        self._cold.zero_()
        torch.cuda.synchronize()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3


def clock_of(device: str) -> Clock:
    """The clock of a device."""
    return CudaClock() if device.startswith("cuda") else CpuClock()


class Trial(NamedTuple):
    """What a trial measured.

    Attributes:
        seconds: median of the steps, by the names in :data:`PARTS`.
        named: outputs and gradients of the last timed step, by name.
    """

    seconds: dict[str, float]
    named: dict[str, Tensor]


def run_trial(subject: Subject, drawn: Drawn, others: Drawn, clock: Clock) -> Trial:
    """Time a subject on inputs that change from step to step.

    Args:
        subject: made for this trial alone.
        drawn: the inputs of the last step, which it has not seen before.
        others: those of the steps before it.
        clock: of the device.
    """
    example, dtype = drawn.example, DTYPES[drawn.example.dtype]
    timed: list[list[float]] = []
    with ExitStack() as stack:
        stack.enter_context(seeded(example.seed))
        stack.enter_context(called_in(dtype))
        draws = others.inputs_in(dtype)
        cotangents = _cotangents(subject, drawn, draws[0])

        def step(inputs: Sequence[Any]) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
            inputs = tuple(map(copied, inputs)) if drawn.comparison.in_place else inputs
            forward, backward = subject.step(inputs)
            clock.settle()
            moments = [clock.mark()]
            outputs = forward()
            moments.append(clock.mark())
            grads = backward(*cotangents)
            moments.append(clock.mark())
            parts = zip((0, 1, 0), (1, 2, 2), strict=True)
            timed.append([clock.seconds(moments[first], moments[last]) for first, last in parts])
            return outputs, grads

        gc.disable()
        stack.callback(gc.enable)
        for number in range(WARM_UP):
            step(draws[number % 2])
        timed.clear()
        while sum(both for *_, both in timed) < SECONDS and len(timed) < MOST_STEPS:
            step(draws[len(timed) % 2])
        with seeded(example.seed):  # as in the check that the step is verified by
            outputs, grads = step(drawn.inputs_in(dtype)[0])
    medians = map(statistics.median, zip(*timed, strict=True))
    return Trial(dict(zip(PARTS, medians, strict=True)), _named(subject, drawn, outputs, grads))


def _cotangents(subject: Subject, drawn: Drawn, inputs: Sequence[Any]) -> list[Tensor]:
    """Those of the check that the last step is verified by; ``inputs`` are of the same shapes."""
    outputs = subject.forward_only(*map(copied, inputs))
    return Pass(subject, drawn.comparison.inputs, drawn.example).draw(outputs, "")


def _named(
    subject: Subject, drawn: Drawn, outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> dict[str, Tensor]:
    """Outputs and gradients under the names that a pass gives them."""
    steps = Pass(subject, drawn.comparison.inputs, drawn.example)
    steps.note_outputs(outputs)
    steps.note_gradients()
    inputs = zip(grads, drawn.comparison.inputs, strict=False)
    return steps.named | {
        f"input.{place}.grad": grad.detach().clone()
        for place, (grad, spec) in enumerate(inputs)
        if grad is not None and not spec.constant
    }


def memory_of(subject: Subject, drawn: Drawn) -> dict[str, int]:
    """The peak bytes that a forward and a backward pass allocate, by the names in PARTS.

    What the forward pass keeps counts in the backward pass; inputs and parameters do not count.
    """
    dtype = DTYPES[drawn.example.dtype]
    with seeded(drawn.example.seed), called_in(dtype):
        inputs = tuple(map(copied, drawn.inputs_in(dtype)[0]))
        cotangents = _cotangents(subject, drawn, inputs)
        forward, backward = subject.step(inputs)
        kept: list[Any] = []
        # What is handed out is held, as it would be by whoever called.
        parts: list[Callable[[], object]] = [
            lambda: kept.append(forward()),
            lambda: kept.append(backward(*cotangents)),
        ]
        peaks = peak_memory(*parts, device=drawn.comparison.device)
    return dict(zip(PARTS, (*peaks, max(peaks)), strict=True))


def compiled(reference: Subject) -> Subject:
    """A reference whose forward pass :func:`torch.compile` has compiled."""
    made = reference.made
    reference.made = made if isinstance(made, torch.nn.Module) else torch.compile(made)
    if isinstance(made, torch.nn.Module):
        made.compile()
    return reference


MAKERS: dict[str, Callable[[Drawn, torch.dtype], Subject]] = {
    "subject": lambda drawn, dtype: drawn.subject(dtype),
    "reference": lambda drawn, dtype: drawn.reference(dtype),
    "compiled": lambda drawn, dtype: compiled(drawn.reference(dtype)),
}
