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
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from minifw.testing.case import seeded
from minifw.testing.clause import clause_of
from minifw.testing.comparison import Comparison, Drawn, Move, draw, stay
from minifw.testing.diagnosis import diagnose
from minifw.testing.example import DTYPES, Example, copied, lay_out
from minifw.testing.isolation import LostProcess
from minifw.testing.kinks import choose_as_reference
from minifw.testing.passes import NOTHING, NotApplicable, Pass
from minifw.testing.random_layers import Following, acts_at_random, judge_draws, scale
from minifw.testing.subjects import Subject
from minifw.testing.verdict import LABEL, REFUSES, ROUGHEST, Status, Verdict, judge

__all__ = ["Expected", "check", "explain", "first_line", "repeat"]


class _Perturbation:
    """Moves each number by one ULP of ``dtype`` or leaves it, at random.

    Towards 0 alone, so that what has to be at most 1 stays so, and 0 stays 0; with a ``lowest`` of
    -1 also away from it.
    """

    def __init__(self, dtype: torch.dtype, seed: int, lowest: int = 0) -> None:
        self.arguments = dtype, seed, lowest
        self.generator, self.limits = Generator().manual_seed(seed), torch.finfo(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Perturbation, self.arguments

    def __call__(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        lowest, limits = self.arguments[2], self.limits
        ulps = torch.randint(lowest, 2, tensor.shape, generator=self.generator).to(tensor)
        # Below the normal numbers of a dtype, its numbers are as far apart as the smallest is.
        size = (tensor.abs() * limits.eps).clamp(min=limits.smallest_normal * limits.eps)
        return torch.where(tensor.isfinite(), tensor - tensor.sign() * ulps * size, tensor)


ORDER_OF_SUMS = 2.0  # times the bound, for sums of hundreds of terms in float32
DRAWS = 24  # of the control, before a verdict is FAILED


class Expected:
    """What the reference makes of an example: all that a subject is judged by.

    Args:
        comparison, example, cotangents, given: as :func:`check`.
        followed: of a random layer, what came out of the subject: its draws are the reference's.

    Attributes:
        drawn: parameters and inputs.
        named: what comes out in the example's dtype, by name.
        exact: the same in float64.
        perturbed_inputs: in float64, of numbers moved by one ULP of the example's dtype.
        largest_cotangent: the largest entry of the cotangents.
        side_effects: what the reference does besides; a subject may do the same.
    """

    def __init__(
        self,
        comparison: Comparison,
        example: Example,
        cotangents: Sequence[Tensor] | None = None,
        given: Drawn | None = None,
        followed: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.example = example
        self.cotangents = cotangents
        self.followed = followed
        self.drawn = given or draw(comparison, example)
        dtype = DTYPES[example.dtype]
        theirs = self.run(self._made(dtype), dtype)
        self.named, self.largest_cotangent = theirs.named, theirs.largest_cotangent
        self.side_effects = theirs.side_effects
        if example.parameter_layout:
            self._read_parameters(dtype)
        self._reference = self._made(torch.float64)
        self.exact = (
            self.named if dtype == torch.float64 else self.run(self._reference, torch.float64).named
        )
        self.perturbed_inputs = [self._perturbed(seed) for seed in range(2)]

    def _read_parameters(self, dtype: torch.dtype) -> None:
        """Raise NotApplicable if the reference goes wrong over the strides of its parameters.

        torch.nn.BatchNorm1d does in float64.
        """
        reference = self._made(dtype)
        reference.replace_parameters(lambda value: lay_out(value, self.example.parameter_layout))
        for name, tensor in self.run(reference, dtype).named.items():
            if not torch.allclose(tensor.double(), self.named[name].double(), equal_nan=True):
                raise NotApplicable("the reference itself reads such parameters wrongly")

    def _made(self, dtype: torch.dtype, move: Move = stay) -> Subject:
        """The reference; of a random layer, with the subject's draws."""
        reference = self.drawn.reference(dtype, move)
        if self.followed is None:
            return reference
        comparison = self.drawn.comparison
        factor = 1.0 if comparison.strict else scale(comparison)
        return Following(reference, self.followed, factor, self.drawn.training)

    def run(
        self,
        subject: Subject,
        to: torch.dtype,
        move: Move = stay,
        within: AbstractContextManager[Any] = NOTHING,
    ) -> Pass:
        """Run a subject through the example's calls, with numbers perturbed, called ``within``."""
        fixed = None if self.cotangents is None else [move(c.to(to)) for c in self.cotangents]
        comparison = self.drawn.comparison
        steps = Pass(
            subject, comparison.inputs, self.example, fixed, move, within, comparison.in_place
        )
        # Copies: a subject may work in place, and the reference is called on the same inputs later.
        steps.run([tuple(map(copied, inputs)) for inputs in self.drawn.inputs_in(to, move)])
        return steps

    def _perturbation(self, seed: int, lowest: int = 0) -> Move:
        return _Perturbation(DTYPES[self.example.dtype], self.example.seed + seed, lowest)

    def _perturbed(
        self, seed: int, within: AbstractContextManager[Any] = NOTHING
    ) -> dict[str, Tensor]:
        """What PyTorch makes in float64 of numbers moved by one ULP of the example's dtype."""
        move = self._perturbation(seed)
        return self.run(self._made(torch.float64, move), torch.float64, move, within).named

    @functools.cached_property
    def perturbed_intermediates(self) -> list[dict[str, Tensor]]:
        """More of ``perturbed_inputs``, in which what PyTorch computes on the way is moved too.

        None of a random layer: moved, its outcomes are no longer a few.
        """
        results = []
        for seed in range(DRAWS if self.followed is None else 0):
            # It may refuse what it has moved out of its domain: a probability just above 1.
            with contextlib.suppress(Exception):
                results.append(
                    self._perturbed(seed, _Perturbing(self._perturbation(seed, lowest=-1)))
                )
        return results

    def subject_rounding(self, drawn: Drawn) -> list[dict[str, Tensor]]:
        """The exact result, off by what the roundings of a subject come to; none in float64.

        Nor of a random layer, which draws other numbers in another dtype.
        """
        if self.example.dtype == "float64" or self.followed is not None:
            return []
        plain, results = self.run(drawn.subject(torch.float64), torch.float64).named, []
        for seed in range(DRAWS):
            perturbing = _Perturbing(self._perturbation(seed, lowest=-1))
            subject = drawn.subject(torch.float64)
            perturbed = self.run(subject, torch.float64, within=perturbing).named
            results.append(
                {t: self.exact[t] + perturbed[t] - plain[t] for t in plain if t in self.exact}
            )
        return results

    @classmethod
    def near(
        cls,
        comparison: Comparison,
        example: Example,
        cotangents: Sequence[Tensor] | None,
        followed: Mapping[str, Tensor] | None,
        drawn: Drawn,
    ) -> dict[str, Tensor]:
        """What the reference makes in float64 of other numbers."""
        return cls(comparison, replace(example, dtype="float64"), cotangents, drawn, followed).exact

    @functools.cached_property
    def others(self) -> tuple[Tensor, ...]:
        """The outputs for other inputs."""
        with seeded(self.example.seed):
            return self._reference.forward_only(*self.drawn.inputs_in(torch.float64)[1])


def check(
    comparison: Comparison,
    example: Example,
    name: str = "",
    clause: str = "",
    cotangents: Sequence[Tensor] | None = None,
    given: Drawn | None = None,
    measure_power: bool = False,
) -> list[Verdict]:
    """Make one check, and judge every tensor that comes out of it.

    Args:
        comparison: what to compare with what.
        example: what to draw and do.
        name: of the check.
        clause: that the check is of. Default: that of the example.
        cotangents: gradients of the outputs. Default: drawn at random, as they should be.
        given: parameters and inputs. Default: drawn at random.
        measure_power: whether to draw all of the control even if the subject passes without, so
            that the bounds are those that an error would have to exceed, and the power is known.
    """
    clause = clause or clause_of(example, comparison.base)

    def alone(status: Status, reason: str, clause: str = clause) -> Verdict:
        return Verdict("", status, reason, name, clause, example)

    known = {} if comparison.known is None else comparison.known
    try:
        expected = known.pop(str(example), None) or Expected(comparison, example, cotangents, given)
    except NotApplicable as error:
        return [alone(Status.SKIPPED, str(error))]
    except Exception as error:
        return [alone(Status.SKIPPED, f"the reference refuses it: {first_line(error)}")]
    drawn, dtype = replace(expected.drawn, comparison=comparison), DTYPES[example.dtype]
    excused = expected.side_effects  # what the reference does, with its own draws
    try:
        if example.steps == "draws":
            return judge_draws(comparison, example)
        subject = drawn.subject(dtype)
        ran = expected.run(subject, dtype)
        if comparison.one_sided and acts_at_random(comparison):
            if example.other_mode and not subject.switches:
                raise NotApplicable("it has no switch between training and evaluation mode")
            expected = Expected(comparison, example, cotangents, drawn, ran.named)
    except NotApplicable as error:
        return [alone(Status.SKIPPED, str(error))]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        lost = isinstance(error, LostProcess) or not isinstance(error, Exception)
        if not lost and _refusal(comparison, expected):
            return [alone(Status.SKIPPED, f"{REFUSES}: {first_line(error)}")]
        if _odd(comparison, clause, expected.named):
            return [alone(Status.SKIPPED, ODD)]
        return [alone(Status.ERROR, first_line(error))]
    side_effects = [
        alone(Status.FAILED, effect, "side-effects")
        for effect in ran.side_effects
        if effect not in excused and not (comparison.in_place and IN_PLACE.match(effect))
    ]
    if not ran.side_effects:
        known[str(example)] = expected
    actual = ran.named
    if comparison.one_sided:
        actual = _alike(ran.named, expected.named, comparison.strict)
    # The control would move numbers off the kinks, and allow the jump for an error.
    at_kinks = bool(example.values)
    if comparison.one_sided and (at_kinks or example.special == "ties"):
        run = functools.partial(Expected.near, comparison, example, cotangents, expected.followed)
        actual = choose_as_reference(actual, expected.exact, drawn, run)

    def judged(
        perturbed_intermediates: Sequence[dict[str, Tensor]] = (),
        rough: Sequence[dict[str, Tensor]] = (),
    ) -> list[Verdict]:
        return [
            judge(
                tensor,
                actual.get(tensor),
                expected.named[tensor],
                expected.exact[tensor],
                [] if at_kinks else [other[tensor] for other in expected.perturbed_inputs],
                expected.largest_cotangent,
                [other[tensor] for other in perturbed_intermediates],
                [other[tensor] for other in rough if tensor in other],
                measure_power,
            )
            for tensor in expected.named
        ]

    def too_far(verdicts: Sequence[Verdict]) -> list[Verdict]:
        return [v for v in verdicts if v.status == Status.FAILED and v.absolute > v.bound]

    verdicts = judged()
    if not at_kinks and (measure_power or too_far(verdicts)):
        # Two draws of the control may be small by luck. Before anything is said against the
        # subject, there are more, which also move what PyTorch, and what the subject, computes on
        # the way. The subject may not be able to compute in float64.
        verdicts = judged(expected.perturbed_intermediates)
        # What is farther off is past excuse.
        if measure_power or any(v.absolute <= ROUGHEST * v.bound for v in too_far(verdicts)):
            try:
                rough = expected.subject_rounding(drawn)
            except Exception:
                rough = []
            verdicts = judged(expected.perturbed_intermediates, rough)
    if clause == "sizes" and example.dtype != comparison.base:
        # A long sum in another order than PyTorch's: the control only perturbs its terms.
        verdicts = [
            replace(v, status=Status.PASSED, reason="")
            if v in too_far(verdicts) and v.absolute <= ORDER_OF_SUMS * v.bound
            else v
            for v in verdicts
        ]
    verdicts += [
        _surplus(tensor, actual[tensor]) for tensor in actual if tensor not in expected.named
    ]
    if _odd(comparison, clause, expected.named):
        verdicts = [
            replace(v, status=Status.SKIPPED, reason=ODD) if v.status == Status.FAILED else v
            for v in verdicts
        ]
    if example.steps == "once":
        try:
            others = expected.others
        except Exception:  # the reference may refuse other inputs: a class that there is not
            return [alone(Status.SKIPPED, "the reference accepts these inputs by luck")]
        verdicts = [_constant(verdict, expected.exact, others) for verdict in verdicts]
    found = [replace(verdict, check=name, clause=clause, example=example) for verdict in verdicts]
    return found + side_effects


def _refusal(comparison: Comparison, expected: Expected) -> bool:
    """Whether an error says no more than that the subject does not take such shapes or inputs."""
    example = expected.example
    if comparison.one_sided and (example.parameter_layout or example.ignored is not None):
        return True
    empty = 0 in (example.batch, *example.sizes.values())
    other_rank = example.scalar or example.rank != 0 or example.trailing != 0
    if other_rank and (example.layout, example.cotangent_layout) != ("contiguous", ""):
        # It may refuse a rank, but not strides of a rank that it takes.
        plain = replace(example, layout="contiguous", cotangent_layout="")
        try:
            other = Expected(comparison, plain)
            dtype = DTYPES[plain.dtype]
            other.run(replace(other.drawn, comparison=comparison).subject(dtype), dtype)
        except Exception:
            return "ranks" in comparison.may_refuse
        return False
    tried = {clause for clause, applies in (("empty", empty), ("ranks", other_rank)) if applies}
    return bool(tried & comparison.may_refuse)


def repeat(comparison: Comparison, example: Example) -> Verdict:
    """Whether two subjects made alike and called alike give the same bits."""
    try:
        if comparison.one_sided and acts_at_random(comparison):
            raise NotApplicable("it draws random numbers")
        expected = Expected(comparison, example)
        drawn, dtype = replace(expected.drawn, comparison=comparison), DTYPES[example.dtype]
        first, second = (expected.run(drawn.subject(dtype), dtype).named for _ in range(2))
    except Exception as error:
        status, reason = Status.SKIPPED, first_line(error)
    else:
        other = [
            name
            for name, tensor in first.items()
            if not torch.equal(tensor.nan_to_num(), second[name].nan_to_num())
        ]
        status = Status.FAILED if other else Status.PASSED
        reason = f"{other[0]} is another in a second, equal call" if other else ""
    return Verdict("", status, reason, "repeated", "determinism", example)


def explain(comparison: Comparison, verdict: Verdict) -> str:
    """What kind of mistake a failing verdict looks like; "" if that cannot be told."""
    try:
        expected = Expected(comparison, verdict.example)
        drawn, dtype = replace(expected.drawn, comparison=comparison), DTYPES[verdict.example.dtype]
        ran = expected.run(drawn.subject(dtype), dtype)
        if comparison.one_sided and acts_at_random(comparison):
            expected = Expected(comparison, verdict.example, None, drawn, ran.named)
    except Exception:
        return ""
    label, tensor = LABEL.match(verdict.tensor).groups()  # type: ignore[union-attr]
    if verdict.tensor not in ran.named or verdict.tensor not in expected.exact:
        return ""
    return diagnose(
        tensor,
        _alike(ran.named, expected.named, comparison.strict)[verdict.tensor],
        expected.exact[verdict.tensor],
        inputs=drawn.inputs_in(dtype)[label == "second."],
        cotangents=ran.given.get(label, ()),
        output=expected.exact.get(f"{label}output"),
        bound=verdict.bound,
    )


# A mean of nothing, which PyTorch refuses for some reductions and not for others.
ODD = "the reference itself makes NaN of what is empty"


def _odd(comparison: Comparison, clause: str, named: Mapping[str, Tensor]) -> bool:
    """Whether nothing can be expected of an empty input."""
    return (
        comparison.one_sided and clause == "empty" and any(t.isnan().any() for t in named.values())
    )


# What a subject that says that it works in place may do.
IN_PLACE = re.compile(
    r"([^ ]+[.])?(input|cotangent)[.]\d+ was modified|[^ ]*output[^ ]* shares its memory"
)


def _alike(
    actual: dict[str, Tensor], expected: dict[str, Tensor], strict: bool
) -> dict[str, Tensor]:
    """``actual`` in the dtypes of ``expected``, and in their shapes but for dimensions of 1.

    A NumPy function computes in float64 whatever it is given, or returns a derivative of whole
    numbers; a loss may be of shape (1,), from which autograd goes back as from a number. None is a
    mistake in a formula. If ``strict``, only the last is excused.
    """
    alike = {}
    for name, tensor in actual.items():
        like = expected.get(name, tensor)
        shapes = [[size for size in t.shape if size != 1] for t in (tensor, like)]
        if shapes[0] == shapes[1] and (not strict or like.dim() == 0):
            tensor = tensor.reshape(like.shape)
        floats = like.is_floating_point() and not strict
        alike[name] = tensor.to(like.dtype) if floats else tensor
    return alike


_COPIES = {"aten::clone", "aten::_to_copy"}  # which round nothing


class _Perturbing(TorchDispatchMode):
    """Within it, the result of every operation is moved."""

    def __init__(self, move: Move) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.move = move

    def __reduce__(self) -> tuple[Any, ...]:
        return _Perturbing, (self.move,)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result, schema = function(*args, **kwargs or {}), function._schema
        if schema.name in _COPIES or any(returned.alias_info for returned in schema.returns):
            return result
        # Of a tuple, as of batch normalization and its backward pass, each.
        return tree_map_only(Tensor, self.move, result)


def first_line(error: BaseException) -> str:
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
