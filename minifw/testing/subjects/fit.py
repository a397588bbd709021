"""How a subject's parameter lies in the reference's: up to the order of dimensions."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Fit", "fits"]


@dataclass(frozen=True)
class Fit:
    """The view of a subject's parameter that has the shape of the reference's.

    Attributes:
        slot: the subject's name of it.
        order: for each dimension of the reference's the dimension of the subject's, or None for a
            dimension of size 1 that the subject's does without. The subject's other dimensions are
            of size 1.
        part: where the subject keeps several parameters in one tensor, the part that is meant:
            "all but last", "last", "all but first" or "first" along ``along``.
        along: dimension that ``part`` is taken along.
    """

    slot: str
    order: tuple[int | None, ...]
    part: str = ""
    along: int = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        """The view; writing to it writes to ``tensor``."""
        if self.part:
            length = tensor.shape[self.along]
            start, size = {
                "all but last": (0, length - 1),
                "last": (length - 1, 1),
                "all but first": (1, length - 1),
                "first": (0, 1),
            }[self.part]
            tensor = tensor.narrow(self.along, start, size)
        used = [place for place in self.order if place is not None]
        spare = [place for place in range(tensor.dim()) if place not in used]
        if used == list(range(tensor.dim())) and len(used) == len(self.order):
            return tensor
        view = tensor.permute(*used, *spare)
        for _ in spare:
            view = view.select(-1, 0)
        for place, source in enumerate(self.order):
            if source is None:
                view = view.unsqueeze(place)
        return view

    def gradient(self, tensor: Tensor) -> Tensor:
        """The same view of a gradient, which may do without dimensions of size 1."""
        used = [place for place in self.order if place is not None]
        wanted = max([*used, self.along if self.part else 0], default=-1) + 1
        if tensor.dim() >= wanted:
            return self(tensor)
        return tensor

    def inverse(self, tensor: Tensor, dims: int) -> Tensor:
        """The view of the reference's that has the subject's shape, of ``dims`` dimensions."""
        places = [place for place, source in enumerate(self.order) if source is not None]
        for place in reversed(range(tensor.dim())):
            if place not in places:
                tensor = tensor.select(place, 0)
        sources = [source for source in self.order if source is not None]
        view = tensor.permute(*[sources.index(source) for source in sorted(sources)])
        for place in range(dims):
            if place not in sources:
                view = view.unsqueeze(place)
        return view

    def __str__(self) -> str:
        """In words, after the shapes: "transposed", "its last column"."""
        used = [place for place in self.order if place is not None]
        words = [f"{self.part} along dimension {self.along}"] if self.part else []
        if used != sorted(used):
            plain = len(used) == 2
            words.append("transposed" if plain else f"with dimensions in the order {tuple(used)}")
        return ", ".join(words)


def fits(slot: str, shape: Sequence[int], wanted: Sequence[int], part: str = "", along: int = 0,
         ) -> Iterator[Fit]:  # fmt: skip
    """All orders of dimensions in which ``shape`` is ``wanted``, the plainest first."""
    own = [place for place, size in enumerate(shape) if size != 1]
    theirs = [place for place, size in enumerate(wanted) if size != 1]
    if len(own) != len(theirs):
        return
    ones = [place for place, size in enumerate(shape) if size == 1]
    orders = sorted(
        itertools.permutations(own),
        key=lambda order: (order != tuple(own), order != tuple(own[::-1])),
    )
    for order in orders:
        if all(shape[a] == wanted[b] for a, b in zip(order, theirs, strict=True)):
            sources, spare = iter(order), iter(ones)
            yield Fit(
                slot,
                tuple(next(sources) if size != 1 else next(spare, None) for size in wanted),
                part,
                along,
            )
