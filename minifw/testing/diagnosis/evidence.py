"""What a diagnosis is made from: the wrong tensor, the right one, and what both are computed of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Evidence", "Kind", "attempt", "evidence_of", "plain", "proportion", "size", "times"]

# A mistake explains an error only if it leaves a small part of it.
EXPLAINED = 1 / 16


def size(tensor: Tensor) -> float:
    """The largest entry without its sign; 0 if there is none."""
    return tensor.abs().max().item() if tensor.numel() else 0.0


def attempt(
    shape: torch.Size, function: Callable[..., Tensor], *arguments: Tensor
) -> Tensor | None:
    """The function's value; None where it would not have that shape, which is looked up first."""
    try:
        # A product of the wrong two matrices may be too large to compute.
        fits = function(*(t.to("meta") for t in arguments)).shape == shape
        return function(*arguments) if fits else None
    except (RuntimeError, IndexError):
        return None


def proportion(actual: Tensor, term: Tensor) -> float:
    """The factor by which ``term`` is nearest to ``actual``; NaN if ``term`` is zero."""
    square = (term * term).sum().item()
    return (actual * term).sum().item() / square if square else math.nan


def times(number: float, what: str) -> str:
    """The number times something, in words: "4 times PyTorch's", "1/4 of PyTorch's"."""
    if 0 < abs(number) < 1 and abs(1 / number - round(1 / number)) < 1e-5 * abs(1 / number):
        return f"{'-' if number < 0 else ''}1/{abs(round(1 / number))} of {what}"
    return f"{number:.4g} times {what}"


def plain(tensor: Tensor) -> Tensor:
    """The tensor, dense and on the CPU, in float64 or, of integers, in int64."""
    tensor = tensor.detach().cpu().to_dense()
    return tensor.double() if tensor.is_floating_point() else tensor.long()


@dataclass(frozen=True, eq=False)
class Evidence:
    """One wrong tensor, in float64.

    Attributes:
        noun: "gradient" or "output" or "value".
        actual, expected: of the same shape.
        finite: where both are finite; elsewhere ``actual`` is as expected, or both are 0.
        inputs: of the forward pass; integers stay integers.
        cotangents, output: of the backward pass and the right output; none unless of a gradient.
        bound: the largest error that is allowed; 0 if unknown.
        dtype: of the wrong tensor.
    """

    noun: str
    actual: Tensor
    expected: Tensor
    finite: Tensor
    inputs: tuple[Tensor, ...] = ()
    cotangents: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    bound: float = 0.0
    dtype: torch.dtype = field(default=torch.float64)

    @cached_property
    def error(self) -> Tensor:
        """The actual minus the expected."""
        return self.actual - self.expected

    @cached_property
    def limit(self) -> float:
        """The error above which an entry is wrong."""
        scale = size(self.expected)
        if self.bound:
            return max(4 * self.bound, 1e-13 * scale)
        relative = max(1e-6, 8 * torch.finfo(self.dtype).eps) if self.dtype.is_floating_point else 0
        return min(relative * scale, size(self.error) * EXPLAINED)

    @cached_property
    def tolerance(self) -> float:
        """What may be left of the error by a mistake that explains it."""
        scale = max(size(self.expected), size(self.actual))
        grown = scale / size(self.expected) if size(self.expected) else 1.0
        return min(max(self.limit * grown, 1e-13 * scale), size(self.error) * EXPLAINED)

    @cached_property
    def wrong(self) -> Tensor:
        """The entries that are wrong."""
        return (self.error.abs() > self.limit) & self.finite

    @cached_property
    def right(self) -> Tensor:
        """The entries that are right, where an error as of the wrong ones would be seen."""
        entries = torch.maximum(self.actual.abs(), self.expected.abs())
        shares = (self.error.abs() / entries)[self.wrong]
        share = min(1.0, shares.median().item()) if len(shares) else 1.0
        return (entries * share > 4 * self.limit) & ~self.wrong & self.finite

    @cached_property
    def known(self) -> int:
        """The number of entries that carry information."""
        return int((self.wrong | self.right).sum())

    def fits(
        self, candidate: Tensor | None, target: Tensor | None = None, per: float = 1.0
    ) -> bool:
        """Whether the candidate equals the target (``actual`` by default) in every entry.

        Args:
            candidate: what a mistake would have computed.
            target: what it is compared with.
            per: the factor by which both are larger than the gradient.
        """
        target = self.actual if target is None else target
        if candidate is None or candidate.shape != target.shape:
            return False
        distance = torch.where(self.finite, candidate - target, 0.0).abs()
        # Written so that a NaN does not fit.
        return bool((distance <= self.tolerance * per).all())

    def proportional(self, term: Tensor | None, target: Tensor) -> bool:
        """Whether the target is the term times a number."""
        if term is None or term.shape != target.shape or self.known < 4:
            return False
        return self.fits(proportion(target, term) * term, target)

    def input_name(self, index: int) -> str:
        """What a sentence calls the input."""
        return "the input" if len(self.inputs) == 1 else f"input {index}"

    def only(self, places: Tensor) -> "Evidence":
        """The evidence of some entries."""
        return replace(
            self,
            actual=self.actual[places],
            expected=self.expected[places],
            finite=self.finite[places],
        )


Kind = Callable[[Evidence], str]


def evidence_of(
    tensor: str,
    actual: Tensor,
    expected: Tensor,
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    output: Tensor | None,
    bound: float,
) -> Evidence:
    """The evidence of two tensors of the same shape; arguments as of ``diagnose``."""
    wrong, right = plain(actual).double(), plain(expected).double()
    finite = wrong.isfinite() & right.isfinite()
    of_gradient = tensor.endswith(".grad")
    return Evidence(
        noun="gradient" if of_gradient else "output" if tensor == "output" else "value",
        actual=torch.where(finite, wrong, torch.where(right.isfinite(), right, 0.0)),
        expected=torch.where(right.isfinite(), right, 0.0),
        finite=finite,
        inputs=tuple(plain(t) for t in inputs),
        cotangents=tuple(plain(t).double() for t in cotangents) if of_gradient else (),
        output=plain(output).double() if of_gradient and output is not None else None,
        bound=bound if math.isfinite(bound) else 0.0,
        dtype=actual.dtype,
    )
