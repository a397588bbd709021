"""What to time: at which sizes, beside what, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass

from minifw.testing.comparison import Comparison
from minifw.testing.example import Example, parse_input
from minifw.testing.subjects import UsageError

__all__ = ["TimingPlan"]


@dataclass(frozen=True)
class TimingPlan:
    """What to time.

    Attributes:
        inputs: a shape for each input, such as "64,1024", to time at besides the given ones; sizes
            of the constructor that are sizes of the inputs follow.
        sweep: "batch=1,16,256" for the leading dimension, or "3=64,256" for whatever is 3.
        compiled: whether to time the reference after :func:`torch.compile` besides.
        threads: of torch.
        rounds: at each size; at least 6 for an interval.
    """

    inputs: Sequence[str] = ()
    sweep: str = ""
    compiled: bool = False
    threads: int = 1
    rounds: int = 15

    def sizes(self, comparison: Comparison) -> dict[str, Example]:
        """The sizes by label: the given ones, those of ``inputs``, and those of the sweep.

        Raises:
            UsageError: the shapes do not fit to the inputs, or the sweep cannot be read.
        """
        label = " ".join(",".join(map(str, spec.shape)) for spec in comparison.inputs)
        sizes = {label: Example()}
        if self.inputs:
            sizes[" ".join(self.inputs)] = Example(sizes=_resized(comparison, self.inputs))
        if self.sweep:
            what, _, values = self.sweep.partition("=")
            try:
                numbers = [int(value) for value in values.split(",")]
                old = 0 if what.strip() == "batch" else int(what)
            except ValueError:
                numbers, old = [0], 0
            if min(numbers) < 1:
                raise UsageError(f"expected a sweep such as 'batch=1,16,256', got {self.sweep!r}")
            sizes |= {
                f"{what} {number}": Example(sizes={old: number}) if old else Example(batch=number)
                for number in numbers
            }
        return sizes


def _resized(comparison: Comparison, texts: Sequence[str]) -> dict[int, int]:
    """Which size becomes which."""
    given = [spec.shape for spec in comparison.inputs]
    try:
        wanted = [parse_input(text).shape for text in texts]
    except ValueError as error:
        raise UsageError(str(error)) from None
    if [len(shape) for shape in given] != [len(shape) for shape in wanted]:
        raise UsageError(
            f"expected a --time-input for each of the shapes {given}, with as many dimensions, "
            f"got {wanted}"
        )
    pairs = {
        pair for old, new in zip(given, wanted, strict=True) for pair in zip(old, new, strict=True)
    }
    sizes = dict(pairs)
    if len(sizes) < len(pairs):
        raise UsageError(
            f"of equal sizes in the inputs {given} some would be others in {wanted}; "
            "give inputs of sizes that differ"
        )
    return sizes
