"""The engine: is a hand-written backward pass equal to PyTorch's?

::

    from minifw.testing import verify

    report = verify(MyLinear, torch.nn.Linear, ["4,5"], (5, 3))
    assert report.status == "PASSED", report

Every check draws random parameters, inputs and cotangents, takes subject and reference through the
same calls, and judges every tensor that comes out: outputs, input gradients, parameter gradients,
buffers.
"""

import contextlib
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from minifw.testing.case import seeded
from minifw.testing.comparison import Comparison, Drawn, Move, draw, stay
from minifw.testing.example import DTYPES, Example
from minifw.testing.passes import NOTHING, NotApplicable, Pass, SideEffect
from minifw.testing.subjects import Subject
from minifw.testing.verdict import ROUGHEST, Status, Verdict, judge

__all__ = ["Expected", "check", "first_line"]


def _mover(dtype: torch.dtype, seed: int, lowest: int = 0) -> Move:
    """What moves each number by one ULP of ``dtype`` or leaves it, at random.

    Towards 0 alone, so that what has to be at most 1 stays so, and 0 stays 0; with a ``lowest`` of
    -1 also away from it.
    """
    generator, limits = Generator().manual_seed(seed), torch.finfo(dtype)

    def move(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        ulps = torch.randint(lowest, 2, tensor.shape, generator=generator).to(tensor)
        # Below the normal numbers of a dtype, its numbers are as far apart as the smallest is.
        size = (tensor.abs() * limits.eps).clamp(min=limits.smallest_normal * limits.eps)
        return torch.where(tensor.isfinite(), tensor - tensor.sign() * ulps * size, tensor)

    return move


DRAWS = 24  # of the control, before a verdict is FAILED


class Expected:
    """What the reference makes of an example: all that a subject is judged by.

    Args:
        comparison, example, cotangents, given: as :func:`check`.

    Attributes:
        drawn: parameters and inputs.
        named: what comes out in the example's dtype, by name.
        exact: the same in float64.
        moved: in float64, of numbers moved by one ULP of the example's dtype.
        largest_cotangent: the largest entry of the cotangents.
    """

    def __init__(
        self,
        comparison: Comparison,
        example: Example,
        cotangents: Sequence[Tensor] | None = None,
        given: Drawn | None = None,
    ) -> None:
        self.example = example
        self.cotangents = cotangents
        self.drawn = given or draw(comparison, example)
        dtype = DTYPES[example.dtype]
        theirs = self.take(self.drawn.reference(dtype), dtype)
        self.named, self.largest_cotangent = theirs.named, theirs.largest_cotangent
        self._reference = self.drawn.reference(torch.float64)
        self.exact = (
            self.named
            if dtype == torch.float64
            else self.take(self._reference, torch.float64).named
        )
        self.moved = [self._moved_by(seed) for seed in range(2)]

    def take(
        self,
        subject: Subject,
        to: torch.dtype,
        move: Move = stay,
        within: AbstractContextManager[Any] = NOTHING,
    ) -> Pass:
        """Take a subject through the example's calls, with numbers moved, called ``within``."""
        fixed = None if self.cotangents is None else [move(c.to(to)) for c in self.cotangents]
        steps = Pass(subject, self.drawn.comparison.inputs, self.example, fixed, move, within)
        steps.run(self.drawn.inputs_in(to, move))
        return steps

    def _mover(self, seed: int, lowest: int = 0) -> Move:
        return _mover(DTYPES[self.example.dtype], self.example.seed + seed, lowest)

    def _moved_by(
        self, seed: int, within: AbstractContextManager[Any] = NOTHING
    ) -> dict[str, Tensor]:
        """What PyTorch makes in float64 of numbers moved by one ULP of the example's dtype."""
        move = self._mover(seed)
        reference = self.drawn.reference(torch.float64, move)
        return self.take(reference, torch.float64, move, within).named

    @functools.cached_property
    def shaken(self) -> list[dict[str, Tensor]]:
        """More of ``moved``, in which what PyTorch computes on the way is moved too."""
        results = []
        for seed in range(DRAWS):
            # It may refuse what it has moved out of its domain: a probability just above 1.
            with contextlib.suppress(Exception):
                results.append(self._moved_by(seed, _Moving(self._mover(seed, lowest=-1))))
        return results

    def roughened(self, drawn: Drawn) -> list[dict[str, Tensor]]:
        """The exact result, off by what the roundings of a subject come to; none in float64."""
        if self.example.dtype == "float64":
            return []
        plain, results = self.take(drawn.subject(torch.float64), torch.float64).named, []
        for seed in range(DRAWS):
            moving = _Moving(self._mover(seed, lowest=-1))
            subject = drawn.subject(torch.float64)
            shaken = self.take(subject, torch.float64, within=moving).named
            results.append(
                {t: self.exact[t] + shaken[t] - plain[t] for t in plain if t in self.exact}
            )
        return results

    @functools.cached_property
    def others(self) -> tuple[Tensor, ...]:
        """The outputs for other inputs."""
        with seeded(self.example.seed):
            return self._reference.forward_only(*self.drawn.inputs_in(torch.float64)[1])


def check(
    comparison: Comparison,
    example: Example,
    name: str = "",
    cotangents: Sequence[Tensor] | None = None,
    given: Drawn | None = None,
    thorough: bool = False,
) -> list[Verdict]:
    """Make one check, and judge every tensor that comes out of it.

    Args:
        comparison: what to compare with what.
        example: what to draw and do.
        name: of the check.
        cotangents: gradients of the outputs. Default: drawn at random, as they should be.
        given: parameters and inputs. Default: drawn at random.
        thorough: whether to draw all of the control even if the subject passes without, so that
            the bounds are those that an error would have to exceed, and the power is known.
    """

    def alone(status: Status, reason: str) -> list[Verdict]:
        return [Verdict("", status, reason, name, example)]

    known = {} if comparison.known is None else comparison.known
    try:
        expected = known.pop(str(example), None) or Expected(comparison, example, cotangents, given)
    except NotApplicable as error:
        return alone(Status.SKIPPED, str(error))
    except Exception as error:
        return alone(Status.SKIPPED, f"the reference refuses it: {first_line(error)}")
    drawn, dtype = replace(expected.drawn, comparison=comparison), DTYPES[example.dtype]
    try:
        actual = expected.take(drawn.subject(dtype), dtype).named
    except NotApplicable as error:
        return alone(Status.SKIPPED, str(error))
    except SideEffect as error:
        return alone(Status.FAILED, str(error))
    except Exception as error:
        return alone(Status.ERROR, first_line(error))
    known[str(example)] = expected  # once it is seen that the subject has left it as it was

    def judged(
        shaken: Sequence[dict[str, Tensor]] = (), rough: Sequence[dict[str, Tensor]] = ()
    ) -> list[Verdict]:
        return [
            judge(
                tensor,
                actual.get(tensor),
                expected.named[tensor],
                expected.exact[tensor],
                [other[tensor] for other in expected.moved],
                expected.largest_cotangent,
                [other[tensor] for other in shaken],
                [other[tensor] for other in rough if tensor in other],
                thorough,
            )
            for tensor in expected.named
        ]

    def too_far(verdicts: Sequence[Verdict]) -> list[Verdict]:
        return [v for v in verdicts if v.status == Status.FAILED and v.absolute > v.bound]

    verdicts = judged()
    if thorough or too_far(verdicts):
        # Two draws of the control may be small by luck. Before anything is said against the
        # subject, there are more, which also move what PyTorch, and what the subject, computes on
        # the way. The subject may not be able to compute in float64.
        verdicts = judged(expected.shaken)
        # What is farther off is past excuse.
        if thorough or any(v.absolute <= ROUGHEST * v.bound for v in too_far(verdicts)):
            try:
                rough = expected.roughened(drawn)
            except Exception:
                rough = []
            verdicts = judged(expected.shaken, rough)
    verdicts += [
        _surplus(tensor, actual[tensor]) for tensor in actual if tensor not in expected.named
    ]
    if example.steps == "once":
        try:
            others = expected.others
        except Exception:  # the reference may refuse other inputs: a class that there is not
            return alone(Status.SKIPPED, "the reference takes these inputs by luck")
        verdicts = [_constant(verdict, expected.exact, others) for verdict in verdicts]
    return [replace(verdict, check=name, example=example) for verdict in verdicts]


_COPIES = {"aten::clone", "aten::_to_copy"}  # which round nothing


class _Moving(TorchDispatchMode):
    """Within it, the result of every operation is moved."""

    def __init__(self, move: Move) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.move = move

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result, schema = function(*args, **kwargs or {}), function._schema
        if schema.name in _COPIES or any(returned.alias_info for returned in schema.returns):
            return result
        # Of a tuple, as of batch normalization and its backward pass, each.
        return tree_map_only(Tensor, self.move, result)


def first_line(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _surplus(tensor: str, actual: Tensor) -> Verdict:
    """Judge what the subject makes and the reference does not: a gradient is to be 0."""
    if tensor.endswith(".grad") and not actual.any():
        return Verdict(tensor, Status.SKIPPED, "zeros, where the reference has no gradient")
    if tensor.endswith(".grad"):
        return Verdict(tensor, Status.FAILED, "a gradient, where the reference has none")
    return Verdict(tensor, Status.SKIPPED, "the reference has none")


def _constant(verdict: Verdict, exact: dict[str, Tensor], others: tuple[Tensor, ...]) -> Verdict:
    """MISTRUSTED, if it is of an output that other inputs change by less than the bound."""
    if verdict.status != Status.PASSED or not verdict.tensor.startswith("output"):
        return verdict
    other = others[int(verdict.tensor.partition(".")[2] or 0)]
    difference = (exact[verdict.tensor].double() - other.double()).abs()
    if (difference <= verdict.bound).all():
        return replace(verdict, status=Status.MISTRUSTED, reason="other inputs give the same")
    return verdict
