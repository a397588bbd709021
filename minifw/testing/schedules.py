"""Is a learning-rate schedule equal to PyTorch's? Anybody's, epoch by epoch.

::

    from minifw.testing.schedules import verify_schedule

    report = verify_schedule(my_cosine, torch.optim.lr_scheduler.CosineAnnealingLR, (10,))
    assert report.status == "PASSED", report

Recognized, by trying: a class made of an optimizer (with ``param_groups``, ``lr`` or
``learning_rate``) whose ``step()`` changes the rate; a class made without one whose ``step()`` or
``__call__(epoch)`` returns it; a function of the epoch, and of the first or the current rate, that
returns the rate or, if it is given no rate, a factor of it.
"""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

import minifw
from minifw.testing.check import first_line
from minifw.testing.clause import CONTRACTS, Clause, deciding
from minifw.testing.example import Example
from minifw.testing.optimizer_options import RATES, bound, renamed, settings
from minifw.testing.optimizers import default_contract, mover
from minifw.testing.report import Report
from minifw.testing.subjects import UsageError
from minifw.testing.verdict import MULTIPLE, Status, Verdict, failures, ulp

__all__ = ["CLAUSES", "is_schedule_reference", "verify_schedule"]

EPOCHS = 40
CONTROLS = 6  # schedules of PyTorch against itself
FLOOR_ULP = 4.0  # of the largest rate

_STRICT = ("torch", "minifw")
CLAUSES: dict[str, Clause] = {
    clause.name: clause
    for clause in (
        Clause("rate", "the learning rate in every epoch", CONTRACTS),
        Clause("groups", "parameter groups with rates of their own", _STRICT),
        Clause("last-rate", "get_last_lr() returns the rates", _STRICT),
    )
}

_EPOCHS = ("epoch", "step", "t", "iteration", "it", "i", "n", "k", "global_step", "epochs", "x")
_STEPS = ("step", "update", "get_lr", "learning_rate", "get_rate", "__call__")

Rates = list[list[float]]  # a list an epoch, of a rate a group


def is_schedule_reference(reference: Any) -> bool:
    """Whether a reference is one that :func:`verify_schedule` is for."""
    scheduler = torch.optim.lr_scheduler.LRScheduler
    return isinstance(reference, type) and issubclass(reference, scheduler)


class _TorchOptimizer(torch.optim.SGD):
    """An optimizer whose rate is also ``lr`` and ``learning_rate``."""

    def __init__(self, rates: Sequence[float]) -> None:
        super().__init__([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": r} for r in rates])

    @property
    def lr(self) -> float:
        """The rate of the first group."""
        rate: float = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = rate

    learning_rate = lr


def _minifw_optimizer(rates: Sequence[float]) -> minifw.optim.SGD:
    parameter = minifw.nn.Parameter
    return minifw.optim.SGD([{"params": [parameter(torch.zeros(1))], "lr": r} for r in rates])


def verify_schedule(
    subject: Any,
    reference: Callable[..., Any],
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    reference_options: Mapping[str, Any] | None = None,
    lr: float = 0.1,
    contract: str | None = None,
    require: Collection[str] = (),
    allow: Collection[str] = (),
    epochs: int = EPOCHS,
    name: str = "",
    command: str = "",
) -> Report:
    """Is a schedule equal to one of torch.optim.lr_scheduler?

    Args:
        subject: a class or a function of a form that the module's docstring lists.
        reference: the class in torch.optim.lr_scheduler; not ReduceLROnPlateau, which follows
            values and not epochs.
        arguments, options: of both, under PyTorch's names, without the optimizer; "lr" in
            ``options`` is the first rate. Other names of the subject are found and noted.
        reference_options: PyTorch's, where ``options`` are the subject's own.
        lr: the first rate.
        contract: "formula", "torch" or "minifw". Default: that of the subject's kind.
        require, allow: names of :data:`CLAUSES` that decide besides, or do not.
        epochs: number of steps; the rate before the first counts too.
        name: of the report. Default: that of the subject.
        command: the command line, for the report.

    Raises:
        UsageError: the reference cannot be made, no way of calling the subject works, or it has
            no setting for an option.
    """
    if not is_schedule_reference(reference):
        raise UsageError(f"expected a class of torch.optim.lr_scheduler, got {reference!r}")
    if issubclass(reference, torch.optim.lr_scheduler.ReduceLROnPlateau):  # type: ignore[arg-type]
        raise UsageError("ReduceLROnPlateau follows values, not epochs; it is not supported")
    options = dict(options or {})
    lr = options.pop("lr", lr)
    own = None if reference_options is None else options
    given, defaults = bound(
        reference, arguments, options if reference_options is None else reference_options
    )
    verification = _Verification(subject, reference, given, defaults, own, lr, epochs)
    scheduler, ours = torch.optim.lr_scheduler.LRScheduler, minifw.optim.lr_scheduler.LRScheduler
    contract = contract or default_contract(subject, scheduler, ours)
    return Report(
        name or getattr(subject, "__name__", type(subject).__name__),
        tuple(verification.verdicts()),
        reference=f"torch.optim.lr_scheduler.{reference.__name__}",
        contract=contract,
        deciding=deciding(contract, require, allow, CLAUSES),
        untried=verification.untried,
        notes=tuple(verification.notes),
        options=tuple(defaults),
        dtypes=("float64",),
        diagnosis=verification.diagnosis,
        examples=verification.runs,
        command=command,
        table=CLAUSES,
    )


class _Verification:
    def __init__(
        self,
        subject: Any,
        reference: Callable[..., Any],
        given: Mapping[str, Any],
        defaults: Mapping[str, Any],
        own: Mapping[str, Any] | None,
        lr: float,
        epochs: int,
    ) -> None:
        self.subject, self.reference = subject, reference
        self.given, self.options = given, {**defaults, **given}
        self.lr, self.epochs = lr, epochs
        self.untried: dict[str, str] = {}
        self.diagnosis = ""
        self.runs = 0
        names = {name: p.default for name, p in settings(subject).items()}
        self.settings: dict[str, Any] = {}
        self.notes: list[str] = []
        if own is None and names:
            # What the epoch or the rate is called is no setting of the schedule.
            free = {n: d for n, d in names.items() if n not in ("optimizer", *_EPOCHS[:1])}
            if not (isinstance(subject, type) and "step_size" in given):
                free = {n: d for n, d in free.items() if n not in RATES or n in given}
            self.settings, self.notes = renamed(free, given, defaults)
        else:
            self.settings = dict(own if own is not None else given)
        self.names = [name for name in names if name not in self.settings]

    def verdicts(self) -> Iterator[Verdict]:
        """Of all clauses."""
        expected = self._expected([self.lr])
        way, rates = self._find()
        self.runs += 1
        found = self._judge(rates, [self.lr], "rate", "rates")
        yield found
        if failures([found]):
            self.diagnosis = self._diagnose([row[0] for row in rates], [row[0] for row in expected])
            self.untried = dict.fromkeys(("groups", "last-rate"), "the rate is wrong")
            return
        if way != self._with_optimizer:
            self.untried = dict.fromkeys(("groups", "last-rate"), "it has no optimizer")
            return
        pair = [self.lr, 20 * self.lr]
        self.runs += 1
        try:
            found = self._judge(self._with_optimizer(pair), pair, "groups", "two groups")
        except Exception as error:
            found = Verdict("", Status.ERROR, first_line(error), "two groups", "groups")
        yield found
        schedule = self._made_with_optimizer([self.lr])[0]
        if hasattr(schedule, "get_last_lr"):
            last = self._with_optimizer([self.lr], read=lambda s, _: list(s.get_last_lr()))
            yield self._judge(last, [self.lr], "last-rate", "get_last_lr")
        else:
            self.untried["last-rate"] = "it has no get_last_lr"

    def _expected(self, lrs: Sequence[float], seed: int | None = None, **changed: Any) -> Rates:
        """PyTorch's rates; moved by one ULP in every epoch if there is a ``seed``."""
        move = mover(torch.float64, seed or 0)

        def shaken(value: Any) -> Any:
            if seed is None or not isinstance(value, float):
                return value
            return float(move(torch.tensor(value, dtype=torch.float64)))

        options = {**self.options, **changed}

        def make(options: Mapping[str, Any]) -> Any:
            return self.reference(_TorchOptimizer([shaken(lr) for lr in lrs]), **options)

        try:
            schedule = make(options)
        except Exception as error:
            raise UsageError(f"the reference cannot be made: {first_line(error)}") from error
        # It may refuse what is moved out of its domain: a factor just above 1.
        with contextlib.suppress(Exception):
            schedule = make({name: shaken(value) for name, value in options.items()})
        optimizer = schedule.optimizer
        rates = []
        for _ in range(self.epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = shaken(group["lr"])
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
        return rates

    def _made_with_optimizer(self, lrs: Sequence[float]) -> tuple[Any, Any]:
        ours = minifw.optim.lr_scheduler.LRScheduler
        is_ours = isinstance(self.subject, type) and issubclass(self.subject, ours)
        optimizer = (_minifw_optimizer if is_ours else _TorchOptimizer)(lrs)
        return self.subject(optimizer, **self.settings), optimizer

    def _with_optimizer(
        self,
        lrs: Sequence[float],
        read: Callable[[Any, Any], list[float]] | None = None,
    ) -> Rates:
        schedule, optimizer = self._made_with_optimizer(lrs)
        rates = []
        for _ in range(self.epochs + 1):
            seen = read(schedule, optimizer) if read else [g["lr"] for g in optimizer.param_groups]
            rates.append([float(rate) for rate in seen])
            optimizer.step()
            schedule.step()
        return rates

    def _ways(self) -> Iterator[tuple[str, Callable[[Sequence[float]], Rates]]]:
        """In words and deeds, how the subject may be called."""
        rate = [name for name in self.names if name in (*RATES, "initial_lr", "lr")]
        if not isinstance(self.subject, type):
            epoch = [n for n in self.names if n not in rate]
            epoch = [n for n in epoch if n in _EPOCHS] or epoch[:1] or list(_EPOCHS[:1])

            def call(epoch_name: str, **rates: float) -> Callable[[int], float]:
                return lambda e: float(self.subject(**{epoch_name: e}, **rates, **self.settings))

            if rate:
                yield (
                    f"a function of {epoch[0]} and the first rate",
                    lambda lrs: [[call(epoch[0], **{rate[0]: lrs[0]})(e)] for e in self._range()],
                )
                yield (
                    f"a function of {epoch[0]} and the current rate",
                    lambda lrs: self._fed_back(epoch[0], rate[0], lrs[0]),
                )
            else:
                yield (
                    f"a function of {epoch[0]} that returns the rate",
                    lambda _: [[call(epoch[0])(e)] for e in self._range()],
                )
                yield (
                    f"a function of {epoch[0]} that returns a factor",
                    lambda lrs: [[lrs[0] * call(epoch[0])(e)] for e in self._range()],
                )
            return
        yield "an object with an optimizer, whose step() changes its rate", self._with_optimizer
        for method in _STEPS:
            if not hasattr(self.subject, method) or (
                method == "__call__" and "__call__" not in dir(self.subject)
            ):
                continue
            named = {rate[0]: self.lr} if rate else {}
            yield (
                f"an object whose {method}(epoch) returns the rate",
                lambda _, m=method, n=named: [  # type: ignore[misc]
                    [float(getattr(made, m)(e))]
                    for made in [self.subject(**n, **self.settings)]
                    for e in self._range()
                ],
            )
            yield (
                f"an object whose {method}() returns the next rate",
                lambda lrs, m=method, n=named: [  # type: ignore[misc]
                    [lrs[0]],
                    *(
                        [float(getattr(made, m)())]
                        for made in [self.subject(**n, **self.settings)]
                        for _ in range(self.epochs)
                    ),
                ],
            )

    def _range(self) -> range:
        return range(self.epochs + 1)

    def _fed_back(self, epoch: str, rate: str, lr: float) -> Rates:
        rates = []
        for index in self._range():
            lr = float(self.subject(**{epoch: index, rate: lr}, **self.settings))
            rates.append([lr])
        return rates

    def _find(self) -> tuple[Callable[[Sequence[float]], Rates], Rates]:
        """The first way that works, and its rates; of several, one that agrees."""
        worked = []
        refusals = []
        for note, way in self._ways():
            try:
                rates = way([self.lr])
            except Exception as error:
                refusals.append(f"as {note}: {first_line(error)}")
                continue
            worked.append((note, way, rates))
        if not worked:
            raise UsageError(f"no way of calling the schedule works ({'; '.join(refusals)})")
        agrees = [w for w in worked if self._judge(w[2], [self.lr], "", "").status == "PASSED"]
        # Else one whose rate changes says more.
        changes = [w for w in worked if any(row != w[2][0] for row in w[2])]
        note, way, rates = (agrees or changes or worked)[0]
        self.notes.insert(0, note)
        return way, rates

    def _judge(self, rates: Rates, lrs: Sequence[float], clause: str, check: str) -> Verdict:
        """The first epoch that is wrong, else the one nearest to it."""
        expected = self._expected(lrs)
        moved = [self._expected(lrs, seed) for seed in range(CONTROLS)]
        top = max(abs(rate) for row in expected for rate in row)
        control, worst = 0.0, Verdict("rate", Status.PASSED, "", check, clause)
        for epoch, (ours, theirs) in enumerate(zip(rates, expected, strict=True)):
            if len(ours) != len(theirs):
                reason = f"{len(ours)} rates for {len(theirs)} groups"
                return Verdict("rate", Status.FAILED, reason, check, clause)
            for group, (here, there) in enumerate(zip(ours, theirs, strict=True)):
                control = max(control, *(abs(run[epoch][group] - there) for run in moved))
                allowed = MULTIPLE * control + FLOOR_ULP * ulp(top, torch.float64)
                error = abs(here - there)
                failed = not error <= allowed  # which NaN is not either
                reason = f"off by {error:.3g} in epoch {epoch} where {allowed:.3g} is allowed"
                verdict = Verdict(
                    "rate",
                    Status.FAILED if failed else Status.PASSED,
                    reason if failed else "",
                    check,
                    clause,
                    Example(),
                    absolute=error,
                    relative=error / top if top else 0.0,
                    bound=allowed,
                    where=(epoch,) if len(ours) == 1 else (epoch, group),
                    actual=here,
                    expected=there,
                )
                if failed:
                    return verdict
                worst = max(worst, verdict, key=lambda v: v.share)
        return worst

    def _diagnose(self, rates: Sequence[float], expected: Sequence[float]) -> str:
        """What the rates look like; "" if nothing that is known."""
        lr = self.lr

        def same(ours: Sequence[float], theirs: Sequence[float]) -> bool:
            pairs = list(zip(ours, theirs, strict=True))
            return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12 * lr) for a, b in pairs)

        compounded = [lr]
        for rate in expected[1:]:
            compounded.append(compounded[-1] * rate / lr)
        jumps = [b / a if a else 1.0 for a, b in itertools.pairwise(expected)]
        own = [b / a if a else 1.0 for a, b in itertools.pairwise(rates)]
        for words, right in (
            ("the rate never changes", len(set(rates)) == 1),
            ("the schedule is one epoch early", same(rates[:-1], expected[1:])),
            ("the schedule is one epoch late", same(rates[1:], expected[:-1])),
            (
                "it gives a factor instead of the rate",
                same([lr * rate for rate in rates[1:]], expected[1:]),
            ),
            ("the first rate is multiplied in twice", same(rates, [lr * r for r in expected])),
            (
                "the factor is applied to the current rate and not to the first, so it compounds",
                same(rates, compounded),
            ),
            ("it multiplies twice at milestones", same(own, [jump**2 for jump in jumps])),
            ("the factor is upside down", same(own, [1 / jump if jump else 1.0 for jump in jumps])),
        ):
            if right:
                return f"it looks like this: {words}"
        for option, value in self.options.items():
            for words, other in _others(option, value, inspect.signature(self.reference)):
                try:
                    changed = [row[0] for row in self._expected([lr], **{option: other})]
                except UsageError:
                    continue
                if not same(changed, expected) and same(rates, changed):
                    return f"it looks like this: {words}"
        epoch = next(e for e in self._range() if not same(rates[e : e + 1], expected[e : e + 1]))
        return f"the rate is right before epoch {epoch}" if epoch else ""


def _others(option: str, value: Any, signature: inspect.Signature) -> Iterator[tuple[str, Any]]:
    """Other values of an option that a subject may have instead, and what to say of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    default = signature.parameters[option].default
    if default is not inspect.Parameter.empty and default != value:
        yield f"{option} is ignored (it is {default})", default
    if isinstance(value, int):
        yield f"{option} is {value + 1}, one more than PyTorch's", value + 1
        yield f"{option} is {value - 1}, one less than PyTorch's", value - 1
    else:
        yield f"{option} is 1 - {value:g}", 1 - value
