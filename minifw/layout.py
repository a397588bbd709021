"""Layout: how a training run lays out its samples in tensors, and what depends on that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from minifw.data import Data, batches
from minifw.metrics import Metric
from minifw.run import Callback

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """Samples along the first dimension; :mod:`minifw.stacking` has another."""

    dim = 0  # of the samples

    def check(self, generator: Any, monitor: str | None, callbacks: Sequence[Callback]) -> None:
        """Raise ValueError for arguments of ``fit`` that do not fit the layout."""

    def batches(self, data: Data, batch_size: int, generator: Any) -> Iterator[Data]:
        """Shuffle the samples and split them into batches."""
        generators: Generator | None = generator
        return batches(data, batch_size, generators)

    def measure(self, metric: Metric, outputs: Tensor, targets: Tensor) -> Any:
        """Return the value of a metric."""
        return metric(outputs, targets)

    def __str__(self) -> str:
        return "no stack"


def layout_of(part: object) -> Layout:
    """Return the layout of a model or criterion, of minifw or of another framework."""
    return getattr(part, "_layout", Layout())
