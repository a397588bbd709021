"""Is an optimizer equal to PyTorch's? Anybody's, step by step, within what rounding explains.

::

    from minifw.testing.optimizers import verify_optimizer

    report = verify_optimizer(MyAdam, torch.optim.Adam, options={"lr": 0.01})
    assert report.status == "PASSED", report

Subject and reference race: from the same weights, both are given the same gradients for 60 steps.
The bound is measured: PyTorch in float64 is raced against PyTorch in float64 with weights,
gradients, state and settings moved by one ULP at every step.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

import minifw
from minifw.testing.check import first_line
from minifw.testing.clause import CONTRACTS, Clause, deciding
from minifw.testing.example import Example
from minifw.testing.optimizer_diagnosis import trajectory, variants
from minifw.testing.optimizer_options import bound
from minifw.testing.optimizer_subjects import Factory, Updater, calling, find
from minifw.testing.report import Report
from minifw.testing.subjects import UsageError
from minifw.testing.subjects.environment import restored
from minifw.testing.verdict import MULTIPLE, POWER_AT, Status, Verdict, failures, ulp

__all__ = ["CLAUSES", "default_contract", "is_optimizer_reference", "mover", "verify_optimizer"]

STEPS = 60
CONTROLS = 4  # races of PyTorch against itself
FLOOR_ULP = 2.0  # of a weight, where PyTorch happens to err by nothing

_STRICT = ("torch", "minifw")
CLAUSES: dict[str, Clause] = {
    clause.name: clause
    for clause in (
        Clause("update", "the weights after every step, for several parameters", CONTRACTS),
        Clause("zero-grad", "zero_grad drops the gradients and keeps the weights", CONTRACTS),
        Clause("changed-rate", "another learning rate from some step on", _STRICT),
        Clause("none-gradients", "parameters without a gradient in some steps", _STRICT),
        Clause("shapes", "zero-dimensional, long and thin parameters", _STRICT),
        Clause("precision", "float32", _STRICT),
        Clause("side-effects", "a step leaves the gradients as they are", _STRICT),
        Clause("independence", "two optimizers at work in turn", _STRICT),
        Clause("determinism", "the same race twice gives the same bits", _STRICT),
        Clause("options", "weight_decay and maximize where they are accepted", ("minifw",)),
    )
}

ONE = ((3, 4),)
SEVERAL = ((3, 4), (5,), (3, 4), (5,), (5, 3))
DISTINCT = ((3, 4), (5,), (5, 3))
SHAPES = ((), (1,), (3, 1, 4), (7, 1), (1, 6), (130,))


def is_optimizer_reference(reference: Any) -> bool:
    """Whether a reference is one that :func:`verify_optimizer` is for."""
    return isinstance(reference, type) and issubclass(reference, torch.optim.Optimizer)


def default_contract(subject: Any, torch_class: type, minifw_class: type) -> str:
    """ "torch" for a subclass of torch's class, "minifw" for one of minifw's, else "formula"."""
    for contract, kind in (("torch", torch_class), ("minifw", minifw_class)):
        if isinstance(subject, type) and issubclass(subject, kind):
            return contract
    return "formula"


@functools.lru_cache(maxsize=1000)
def _gradients(shapes: tuple[tuple[int, ...], ...], seed: int) -> list[Tensor]:
    generator = Generator().manual_seed(seed)
    result = []
    for shape in shapes:
        draw, size, kept = (
            torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)
        )
        result.append((draw + 0.5) * 10 ** (size - 1) * (kept > -1))
    return result


@dataclass(frozen=True)
class _Race:
    """What both sides are given.

    Attributes:
        name: of the check.
        shapes: of the parameters.
        dtype: of the subject's weights.
        feedback: whether gradients depend on the weights, so that errors come back.
        missing: whether some parameters have no gradient in some steps.
        rates: factors of the learning rate, by the step from which they count.
        seed: of the draws.
    """

    name: str
    shapes: Sequence[tuple[int, ...]] = SEVERAL
    dtype: torch.dtype = torch.float64
    feedback: bool = False
    missing: bool = False
    rates: Mapping[int, float] | None = None
    seed: int = 0

    def weights(self) -> list[Tensor]:
        """The first weights, in the race's dtype."""
        return [w.to(self.dtype) for w in self._draw(self.seed)]

    def _draw(self, seed: int) -> list[Tensor]:
        generator = Generator().manual_seed(seed)
        return [
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes
        ]

    def gradients(self, step: int, weights: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of a step, in the dtype of ``weights``; of several magnitudes, and some 0.

        Those that are not fed back are the same numbers in every dtype.
        """
        found: list[Tensor | None] = []
        drawn = _gradients(tuple(self.shapes), 1000 * (self.seed + 1) + step)
        for place, weight in enumerate(weights):
            gradient = drawn[place].to(self.dtype).to(weight.dtype, copy=True)
            if self.feedback:
                gradient = (weight - 0.25) * (1 + place) + 0.1 * gradient
            if place and step % 7 == 3:
                gradient = torch.zeros_like(gradient)
            absent = self.missing and place == 1 and (step < 3 or step % 5 == 0)
            found.append(None if absent else gradient)
        return found

    def rate(self, step: int) -> float | None:
        """The factor that counts from this step on."""
        return (self.rates or {}).get(step)


Move = Callable[[Tensor], Tensor]


def mover(dtype: torch.dtype, seed: int) -> Move:
    """What moves each number by one ULP of ``dtype``, up, down or not at all."""
    generator, eps = Generator().manual_seed(seed), torch.finfo(dtype).eps

    def move(tensor: Tensor) -> Tensor:
        ulps = torch.randint(-1, 2, tensor.shape, generator=generator).to(tensor)
        return tensor + tensor.abs() * eps * ulps

    return move


class _Reference:
    """PyTorch's optimizer, behind the surface of :class:`Updater`; ``move`` shakes it."""

    def __init__(
        self,
        make: Callable[..., torch.optim.Optimizer],
        options: Mapping[str, Any],
        weights: Sequence[Tensor],
        seed: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._move = None if seed is None else mover(dtype, seed)
        if seed is not None:
            shaken = mover(torch.float64, seed)
            options = {name: _moved_setting(value, shaken) for name, value in options.items()}
        self.parameters = [torch.nn.Parameter(w.clone()) for w in weights]
        try:
            self.optimizer = make(self.parameters, **options)
        except Exception as error:
            raise UsageError(f"the reference cannot be made: {first_line(error)}") from error

    def step(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None and self._move:
                gradient = self._move(gradient)
            parameter.grad = None if gradient is None else gradient.clone()
        try:
            # By it PyTorch chooses the dtype of what it counts and multiplies up: NAdam's product.
            with restored():
                torch.set_default_dtype(self.parameters[0].dtype)
                self.optimizer.step()
        except Exception as error:
            raise UsageError(f"the reference refuses a step: {first_line(error)}") from error
        if self._move:
            for parameter in self.parameters:
                parameter.data.copy_(self._move(parameter.data))
                for name, state in self.optimizer.state[parameter].items():
                    if isinstance(state, Tensor) and name != "step":
                        state.copy_(self._move(state))
        return self.weights()

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def set_rate(self, rate: float) -> bool:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return True


def _moved_setting(value: Any, move: Move) -> Any:
    if isinstance(value, float):
        return float(move(torch.tensor(value, dtype=torch.float64)))
    if isinstance(value, tuple):
        return tuple(_moved_setting(part, move) for part in value)
    return value


def _run(
    race: _Race, side: _Reference | Updater, rate: float | None, steps: int
) -> list[list[Tensor]]:
    """The weights after every step."""
    seen = []
    weights = side.weights()
    for step in range(steps):
        factor = race.rate(step)
        if factor is not None and rate is not None:
            side.set_rate(rate * factor)
        weights = side.step(race.gradients(step, weights))
        seen.append(weights)
    return seen


def verify_optimizer(
    subject: Any,
    reference: Callable[..., torch.optim.Optimizer],
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    reference_options: Mapping[str, Any] | None = None,
    contract: str | None = None,
    require: Collection[str] = (),
    allow: Collection[str] = (),
    steps: int = STEPS,
    seed: int = 0,
    name: str = "",
    command: str = "",
) -> Report:
    """Is an optimizer equal to one of torch.optim?

    ::

        report = verify_optimizer(MyAdam, torch.optim.Adam, options={"lr": 0.01})

    Args:
        subject: a class or function of a form that
            :mod:`minifw.testing.optimizer_subjects` lists; or a function of a list of weights
            that returns an object whose ``step(gradients)`` returns the new weights.
        reference: the class in torch.optim.
        arguments, options: of both, under PyTorch's names; the first argument is the one after
            the parameters. Names that the subject has otherwise (``learning_rate``, ``eta``) are
            found and noted. PyTorch's defaults are passed on where the subject has a setting.
        reference_options: PyTorch's, where ``options`` are the subject's own and are not renamed.
        contract: "formula", "torch" or "minifw". Default: that of the subject's kind.
        require, allow: names of :data:`CLAUSES` that decide besides, or do not.
        steps: length of a race.
        seed: of weights and gradients.
        name: of the report. Default: that of the subject.
        command: the command line, for the report.

    Raises:
        UsageError: the reference cannot be made, no way of calling the subject works, or it has
            no setting for an option.
    """
    if not is_optimizer_reference(reference):
        raise UsageError(f"expected a class of torch.optim as the reference, got {reference!r}")
    if reference_options is None:
        given, defaults = bound(reference, arguments, options or {})
        factory, dtype, notes = find(subject, given, defaults)
    else:
        given, defaults = bound(reference, arguments, reference_options)
        factory, dtype, notes = find(subject, options or {}, None)
    contract = contract or default_contract(subject, torch.optim.Optimizer, minifw.optim.Optimizer)
    verification = _Verification(
        subject, reference, given, defaults, factory, dtype, steps, seed, notes
    )
    verdicts = list(verification.verdicts())
    deciding_clauses = deciding(contract, require, allow, CLAUSES)
    untried = verification.untried
    if dtype == torch.float32:
        notes.append("it computes in float32 alone")
    return Report(
        name or getattr(subject, "__name__", type(subject).__name__),
        tuple(verdicts),
        reference=f"torch.optim.{reference.__name__}",
        contract=contract,
        deciding=deciding_clauses,
        untried=untried,
        notes=tuple(notes),
        options=tuple(o for o in defaults if o not in verification.tried_options),
        dtypes=tuple(dict.fromkeys([str(dtype).removeprefix("torch."), "float32"])),
        diagnosis=verification.diagnosis,
        examples=verification.races,
        command=command,
        table=CLAUSES,
    )


class _Verification:
    """All races of one subject against one reference."""

    def __init__(
        self,
        subject: Any,
        reference: Callable[..., torch.optim.Optimizer],
        given: Mapping[str, Any],
        defaults: Mapping[str, Any],
        factory: Factory,
        dtype: torch.dtype,
        steps: int,
        seed: int,
        notes: Sequence[str],
    ) -> None:
        self.subject, self.reference, self.factory = subject, reference, factory
        self.given, self.defaults = given, defaults
        self.dtype, self.steps, self.seed = dtype, steps, seed
        self.settable = not any("config" in note for note in notes)
        self.untried: dict[str, str] = {}
        self.tried_options: list[str] = []
        self.diagnosis = ""
        self.races = 0
        self._one_is_right = False

    def _race(self, name: str, **changes: Any) -> _Race:
        return replace(_Race(name, dtype=self.dtype, seed=self.seed), **changes)

    def verdicts(self) -> Iterator[Verdict]:
        """Of all clauses; the others are not tried where the update is wrong."""
        update: list[Verdict] = []
        for race in (
            self._race("one parameter", shapes=ONE),
            self._race("several parameters"),
            self._race("gradients of a quadratic", feedback=True),
        ):
            found, actual = self._judge(race, "update", self.factory, self.given)
            yield from found
            update += found
            if failures(found):
                self.diagnosis = self._diagnose(race, found, actual)
                break
            self._one_is_right = True
        yield from self._zero_grad()
        if failures(update):
            self.untried = {
                name: "the update is wrong"
                for name in CLAUSES
                if name not in ("update", "zero-grad")
            }
            return
        yield from self._changed_rate()
        if self._updater(self._race("", shapes=ONE)).takes_none:
            race = self._race("no gradient in some steps", missing=True)
            yield from self._judge(race, "none-gradients", self.factory, self.given)[0]
        else:
            self.untried["none-gradients"] = "a gradient cannot be None in this form"
        race = self._race("other shapes", shapes=SHAPES)
        yield from self._judge(race, "shapes", self.factory, self.given)[0]
        if self.dtype == torch.float64:
            race = self._race("float32", dtype=torch.float32)
            yield from self._judge(race, "precision", self.factory, self.given)[0]
        else:
            self.untried["precision"] = "float32 is its only dtype"
        yield from self._gradients_kept()
        yield from self._twice()
        yield from self._options()

    def _updater(self, race: _Race) -> Updater:
        return self.factory(race.weights())

    def _judge(
        self, race: _Race, clause: str, factory: Factory, given: Mapping[str, Any]
    ) -> tuple[list[Verdict], list[list[Tensor]]]:
        """One race: a verdict a parameter, and the subject's weights after every step."""
        self.races += 1
        options, rate = {**self.defaults, **given}, {**self.defaults, **given}.get("lr")
        expected = self._expected(race, options, rate)
        try:
            with calling(race.dtype):
                actual = _run(race, factory(race.weights()), rate, self.steps)
        except Exception as error:
            return [_stamp(Verdict("", Status.ERROR, first_line(error)), race, clause)], []
        found = [
            _stamp(_compare(place, race, actual, *expected), race, clause)
            for place in range(len(race.shapes))
        ]
        return found, actual

    def _expected(
        self, race: _Race, options: Mapping[str, Any], rate: float | None
    ) -> tuple[list[list[Tensor]], list[list[Tensor]], list[list[list[Tensor]]]]:
        """The reference in the race's dtype, in float64, and moved by one ULP."""
        weights = race.weights()
        wide = [weight.double() for weight in weights]

        def run(start: Sequence[Tensor], seed: int | None = None) -> list[list[Tensor]]:
            side = _Reference(self.reference, options, start, seed, race.dtype)
            return _run(race, side, rate, self.steps)

        exact = run(wide)
        own = exact if race.dtype == torch.float64 else run(weights)
        return own, exact, [run(wide, seed) for seed in range(CONTROLS)]

    def _zero_grad(self) -> Iterator[Verdict]:
        race = self._race("zero_grad between steps")
        updater = self._updater(race)
        try:
            with calling(race.dtype):
                weights = updater.step(race.gradients(0, race.weights()))
                if not updater.zero_grad():
                    self.untried["zero-grad"] = "it has none"
                    return
                after, gradients = updater.weights(), updater.gradients()
        except AttributeError as error:
            self.untried["zero-grad"] = f"it needs parameters of its own: {first_line(error)}"
            return
        except Exception as error:
            yield _stamp(Verdict("", Status.ERROR, first_line(error)), race, "zero-grad")
            return
        kept = all(torch.equal(a, b) for a, b in zip(after, weights, strict=True))
        reason = "" if kept else "zero_grad changes the weights"
        if not any(weight.any() for weight in after):
            reason = "zero_grad zeroes the weights"
        status = Status.FAILED if reason else Status.PASSED
        yield _stamp(Verdict("weights", status, reason), race, "zero-grad")
        if reason and not self.diagnosis:
            self.diagnosis = f"it looks like this: {reason}"
        left = any(g is not None and g.any() for g in gradients)
        status = Status.FAILED if left else Status.PASSED
        reason = "zero_grad leaves a gradient" if left else ""
        yield _stamp(Verdict("gradients", status, reason), race, "zero-grad")

    def _changed_rate(self) -> Iterator[Verdict]:
        race = self._race("another learning rate", rates={20: 0.5, 40: 3.0})
        rate = {**self.defaults, **self.given}.get("lr")
        if rate is None or not self._updater(race).set_rate(rate):
            self.untried["changed-rate"] = "no place for a learning rate was found"
            return
        yield from self._judge(race, "changed-rate", self.factory, self.given)[0]

    def _gradients_kept(self) -> Iterator[Verdict]:
        race = self._race("gradients after a step")
        updater = self._updater(race)
        given = race.gradients(0, race.weights())
        with calling(race.dtype):
            updater.step(given)
        kept = all(
            a is not None and b is not None and torch.equal(a, b)
            for a, b in zip(updater.gradients(), given, strict=True)
        )
        reason = "" if kept else "a step changes the gradients"
        status = Status.PASSED if kept else Status.FAILED
        yield _stamp(Verdict("gradients", status, reason), race, "side-effects")

    def _twice(self) -> Iterator[Verdict]:
        race = self._race("in turn with another")
        with calling(race.dtype):
            alone = _run(race, self._updater(race), None, self.steps)
            again = _run(race, self._updater(race), None, self.steps)
            one, other = self._updater(race), self._updater(race)
            seen, weights = [], one.weights()
            for step in range(self.steps):
                gradients = race.gradients(step, weights)
                weights = one.step(gradients)
                other.step([None if g is None else -g for g in gradients])
                seen.append(weights)
        for clause, run, reason in (
            ("determinism", again, "the same race again gives other weights"),
            ("independence", seen, "another optimizer at work changes the weights"),
        ):
            same = all(
                torch.equal(a, b)
                for left, right in zip(run, alone, strict=True)
                for a, b in zip(left, right, strict=True)
            )
            status = Status.PASSED if same else Status.FAILED
            yield _stamp(Verdict("weights", status, "" if same else reason), race, clause)

    def _options(self) -> Iterator[Verdict]:
        for option, value in (("weight_decay", 0.1), ("maximize", True)):
            if option not in self.defaults:
                continue
            given = {**self.given, option: value}
            try:
                factory, dtype, notes = find(self.subject, given, self.defaults)
            except UsageError:
                continue
            if any("no setting for" in note for note in notes):
                continue
            self.tried_options.append(option)
            race = self._race(f"{option}={value}", dtype=dtype)
            yield from self._judge(race, "options", factory, given)[0]
        if not self.tried_options:
            self.untried["options"] = "no further option of the reference is accepted"

    def _diagnose(
        self, race: _Race, found: Sequence[Verdict], actual: Sequence[Sequence[Tensor]]
    ) -> str:
        """In words, what the failure looks like; "" if nothing that is known."""
        if not actual:
            return ""
        allowed = [max(verdict.bound, 1e-13) for verdict in found]
        if not race.feedback:
            words = self._variant(race, actual, allowed)
            if words:
                return f"it looks like this: {words}"
        if self._one_is_right and not race.feedback:
            return self._interference(race)
        if self._one_is_right:
            return (
                "it is right when gradients are given and wrong when they depend on the weights: "
                "does it use a gradient or a weight of an earlier step?"
            )
        first = next(v for v in found if v.status == Status.FAILED)
        start = race.weights()[0].double()
        step = self._expected(race, {**self.defaults, **self.given}, None)[1][0][0] - start
        moved = actual[0][0].double() - start
        used = step.abs() > 1e-2 * step.abs().max()
        ratios = (moved / step)[used]
        if not moved.any():
            return "the first step moves nothing"
        if (ratios - ratios.mean()).abs().max() < 1e-6 * ratios.mean().abs():
            if abs(ratios.mean() - 1) > 1e-6:
                return f"the first update is {ratios.mean():.4g} times PyTorch's"
            return f"the first update is right; look at what is kept between steps ({first.reason})"
        return ""

    def _variant(
        self, race: _Race, actual: Sequence[Sequence[Tensor]], allowed: Sequence[float]
    ) -> str:
        weights = race.weights()
        steps = [
            [g.double().numpy() for g in race.gradients(step, weights) if g is not None]
            for step in range(self.steps)
        ]
        start = [weight.double().numpy() for weight in weights]
        name = self.reference.__name__
        for words, settings in variants(name, {**self.defaults, **self.given}):
            path = trajectory(settings, start, steps)
            if all(
                float((torch.as_tensor(there) - here.double()).abs().max())
                <= MULTIPLE * bound_ * max(1.0, float(here.abs().max()))
                for ours, theirs in zip(actual, path, strict=True)
                for here, there, bound_ in zip(ours, theirs, allowed, strict=True)
            ):
                return "; and ".join(words)
        return ""

    def _interference(self, race: _Race) -> str:
        apart = replace(race, shapes=DISTINCT)
        distinct, _ = self._judge(apart, "update", self.factory, self.given)
        if failures(distinct):
            return (
                "one parameter alone is right, several together are wrong: it looks like a buffer "
                "or counter that is shared between parameters"
            )
        return (
            "one parameter alone is right, and so are several of different shapes, but not several "
            "of one shape: it looks like a buffer that is shared between parameters of one shape"
        )


def _stamp(verdict: Verdict, race: _Race, clause: str) -> Verdict:
    example = Example(dtype=str(race.dtype).removeprefix("torch."), seed=race.seed)
    return replace(verdict, check=race.name, clause=clause, example=example)


def _compare(
    place: int,
    race: _Race,
    actual: Sequence[Sequence[Tensor]],
    own: Sequence[Sequence[Tensor]],
    exact: Sequence[Sequence[Tensor]],
    moved: Sequence[Sequence[Sequence[Tensor]]],
) -> Verdict:
    """Judge one parameter after every step: the first step that fails, else the nearest to it."""
    name = f"weight {place} of shape {list(race.shapes[place])}"
    control, worst = 0.0, Verdict(name, Status.PASSED)
    start = race.weights()[place].double()
    if all(torch.equal(step[place], start) for step in exact):
        return Verdict(name, Status.MISTRUSTED, "no step changes anything")
    for step, weights in enumerate(actual):
        here, there = weights[place], exact[step][place]
        facts = [f"shape {list(t.shape)}, {t.dtype}" for t in (here, own[step][place])]
        if facts[0] != facts[1]:
            reason = f"expected {facts[1]}, got {facts[0]} after step {step + 1}"
            return Verdict(name, Status.FAILED, reason)
        for other in (own, *moved):
            control = max(control, float((other[step][place].double() - there).abs().max()))
        top = float(there.abs().max())
        unit = ulp(top, race.dtype)
        allowed = MULTIPLE * control + FLOOR_ULP * unit
        error = (here.double() - there).abs()
        where = tuple(
            int(i) for i in torch.unravel_index(error.nan_to_num(torch.inf).argmax(), error.shape)
        )
        absolute = error[where].item()
        failed = not absolute <= allowed  # which NaN is not either
        travelled = (there - start).abs()
        verdict = Verdict(
            name,
            Status.FAILED if failed else Status.PASSED,
            f"off by {absolute:.3g} after step {step + 1} where {allowed:.3g} is allowed"
            if failed
            else "",
            absolute=absolute,
            relative=absolute / top if top else 0.0,
            ulp=absolute / unit,
            multiple=absolute / control if control else 0.0,
            bound=allowed,
            where=where,
            actual=here.double()[where].item(),
            expected=there[where].item(),
            power=float((travelled * POWER_AT > allowed + absolute).double().mean()),
        )  # fmt: skip
        if failed:
            return verdict
        worst = max(worst, verdict, key=lambda v: v.share)
    return worst
