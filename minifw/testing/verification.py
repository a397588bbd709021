"""verify: all clauses, the cross-check and the fuzzer on one comparison."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from time import monotonic as clock
from typing import Any

from torch import Tensor

from minifw.testing.case import Input, seeded
from minifw.testing.catalog import CHECKS, catalog
from minifw.testing.check import check, explain, first_line, repeat
from minifw.testing.clause import CLAUSES, deciding, known
from minifw.testing.comparison import Comparison, draw
from minifw.testing.cross_check import gradcheck, hear
from minifw.testing.example import DTYPES, Example, described, parse_input
from minifw.testing.from_text import load, read_call
from minifw.testing.fuzz import fuzz
from minifw.testing.isolation import Runner, SubjectError
from minifw.testing.remote import Elsewhere, isolated
from minifw.testing.report import Report
from minifw.testing.subjects import CrashError, UsageError, supported_dtypes
from minifw.testing.subjects.recognize import BAD_CALL
from minifw.testing.timing.plan import TimingPlan
from minifw.testing.verdict import Status, Verdict, failures

__all__ = ["CHECK_NAMES", "lost_report", "verify", "verify_comparison"]

CHECK_NAMES = (*CHECKS, "cross-check", "gradcheck", "fuzzing")

# A formula that differs from PyTorch's by less than this, as a share of an entry, and in float32
# not at all, has a small constant in it, as in log(p + 1e-8), or one that is rounded to float32.
SMALL_CONSTANT = 1e-6


# Seconds for the examples of one check, and for all checks but the derivative's, and the fuzzer.
PATIENCE, PATIENCE_IN_ALL, PATIENCE_FOR_FUZZING = 10.0, 45.0, 20.0


def verify(
    subject: Any,
    reference: Any,
    inputs: Sequence[Input | str | Sequence[int]] | Callable[..., Any],
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    reference_arguments: Sequence[Any] | None = None,
    reference_options: Mapping[str, Any] | None = None,
    call: str | Mapping[str, Any] = "",
    backward: Callable[..., Any] | None = None,
    name: str = "",
    contract: str | None = None,
    require: Collection[str] = (),
    allow: Collection[str] = (),
    training: bool | None = None,
    device: str = "cpu",
    dtypes: Sequence[str] = tuple(DTYPES),
    skip: Collection[str] = (),
    max_examples: int = 100,
    seed: int = 0,
    in_place: bool = False,
    isolate: bool = False,
    timeout: float = 60.0,
    memory_limit: float | None = None,
    cotangents: Sequence[Tensor] | None = None,
    time: bool | TimingPlan = False,
) -> Report:
    """Is a hand-written backward pass equal to PyTorch's?

    ::

        report = verify(MyLinear, torch.nn.Linear, ["4,5"], (5, 3), {"bias": False})
        assert report.status == "PASSED", report

    Args:
        subject: what to verify: ``"FILE:NAME"``; or a class of modules, or of objects with a
            forward and a backward pass, in torch or NumPy; a :class:`torch.autograd.Function`; a
            function of tensors; a pair of functions, one of which goes back. See
            ``minifw.testing.subjects``.
        reference: the trusted module or function of torch, ``"torch.nn.NAME"`` or one's own.
        inputs: what both are called on: shapes, or texts such as "4,3" and "4:long:10"
            (:func:`~minifw.testing.example.parse_input`), or :class:`~minifw.testing.case.Input`;
            or a function that makes all of them.
        arguments, options: of both constructors. The fuzzer gives sizes that stand in
            ``arguments`` and in the shapes of inputs other values.
        reference_arguments, reference_options: of the reference's constructor, if others.
        call: arguments of every call after the inputs: "dim=-1, eps=1e-6", or a mapping.
        backward: the function that goes back, where ``subject`` is the one that goes forward.
        name: of the comparison. Default: that of the subject.
        contract: "formula", "torch" or "minifw". Default: that of the subject's kind.
        require, allow: names of clauses that decide the verdict besides, or do not.
        training: the mode to verify in. Default: training mode, and one check in the other.
        device: where to compute.
        dtypes: keys of :data:`~minifw.testing.example.DTYPES`. Default: all.
        skip: names of checks or clauses to leave out (:data:`CHECK_NAMES`).
        max_examples: number of examples that the fuzzer tries.
        seed: of the fuzzer.
        in_place: whether the subject may modify its inputs and cotangents.
        isolate: whether to import and run the subject in a process of its own, so that nothing
            that it does decides its verdict. It is then a text, or can be pickled.
        timeout: seconds that one call of an isolated subject may take.
        memory_limit: GiB that it may allocate. Default: three quarters of the machine's.
        cotangents: gradients of the outputs for the plain checks alone, and nothing else is then
            done. Default: drawn at random, as they should be.
        time: whether to time it beside the reference if the verdict is PASSED, or a
            :class:`~minifw.testing.timing.plan.TimingPlan` that says at which sizes; it needs the
            extra ``minifw[timing]``. The result is ``report.timing``.

    Returns:
        The report; its ``status`` is PASSED, FAILED, MISTRUSTED, SKIPPED or ERROR.

    Raises:
        UsageError: subject or reference cannot be made, or the reference cannot be called on the
            inputs, or an argument is unknown, or what is to be isolated cannot be sent to a process
            of its own.
    """
    try:
        specs = (
            described(inputs)
            if callable(inputs)
            else tuple(
                spec
                if isinstance(spec, Input)
                else parse_input(spec if isinstance(spec, str) else ",".join(map(str, spec)))
                for spec in inputs
            )
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    reference = load(reference) if isinstance(reference, str) else reference
    if isinstance(subject, str):
        name = name or subject.rpartition(":")[2]
        subject = Elsewhere(subject) if isolate else load(subject)
    comparison = Comparison(
        name or getattr(subject, "__name__", type(subject).__name__),
        subject,
        reference,
        specs,
        tuple(arguments),
        options or {},
        training,
        device,
        reference_arguments=None if reference_arguments is None else tuple(reference_arguments),
        reference_options=reference_options,
        call=read_call(call) if isinstance(call, str) else ((), call),
        backward=backward,
        in_place=in_place,
    )
    settings: dict[str, Any] = {
        "contract": contract,
        "require": require,
        "allow": allow,
        "dtypes": dtypes,
        "skip": skip,
        "max_examples": max_examples,
        "seed": seed,
        "cotangents": cotangents,
    }
    plan = TimingPlan() if time is True else time or None
    if plan:
        plan.sizes(comparison)  # which says what is wrong with them
    if not isolate:
        return timed(verify_comparison(comparison, **settings), comparison, plan)
    with Runner(timeout, memory_limit) as runner:
        try:
            comparison = isolated(comparison, runner)
            return timed(verify_comparison(comparison, **settings), comparison, plan, runner)
        except SubjectError as error:
            return lost_report(comparison, error)


def verify_comparison(
    comparison: Comparison,
    *,
    contract: str | None = None,
    require: Collection[str] = (),
    allow: Collection[str] = (),
    clauses: Collection[str] | None = None,
    dtypes: Sequence[str] = tuple(DTYPES),
    skip: Collection[str] = (),
    max_examples: int = 100,
    seed: int = 0,
    cotangents: Sequence[Tensor] | None = None,
    command: str = "",
    power: bool = True,
) -> Report:
    """As :func:`verify`.

    Args:
        clauses: names of those to try. Default: all.
        command: the command line to reproduce failures by.
        power: whether to look into the power of the plain checks in float64 and float32. In fewer
            bits, a relative error of 1e-5 is less than a rounding.
    """
    for dtype in dtypes:
        known("dtype", dtype, DTYPES)
    for name in skip:
        known("check", name, (*CHECK_NAMES, *CLAUSES))
    try:
        contract, deciding_clauses, tried, facts = _settle(
            comparison, contract, require, allow, clauses, skip
        )
    except CrashError as error:
        return lost_report(comparison, error, command)
    ours = contract == "minifw"
    comparison = replace(
        comparison,
        strict=contract != "formula",
        one_sided=not ours,
        may_refuse=frozenset() if ours else frozenset({"ranks", "empty"} - {*require}),
    )
    usable, notes, verdicts = _usable(comparison, dtypes, contract)
    comparison = replace(comparison, base=usable[0])
    report = Report(
        comparison.name,
        (),
        reference=comparison.reference_name,
        contract=contract,
        deciding=deciding_clauses,
        notes=tuple(dict.fromkeys((*facts, *notes))),
        options=_options(comparison),
        dtypes=tuple(usable),
        command=command,
    )
    examples = 0
    patience = math.inf if ours else PATIENCE
    deadline = math.inf if ours else clock() + PATIENCE_IN_ALL

    def count() -> None:
        nonlocal examples
        examples += 1

    def run(name: str, tried_examples: Sequence[Example], clause: str) -> list[Verdict]:
        found: list[Verdict] = []
        start = clock()
        for place, example in enumerate(tried_examples):
            if clause != "derivative" and clock() > min(start + patience, deadline):
                left = len(tried_examples) - place
                reason = f"{left} of {len(tried_examples)} sizes or values took too long"
                found.append(Verdict("", Status.SKIPPED, reason, name, clause, example))
                break
            if cotangents is not None and example != Example(example.steps, example.dtype):
                continue
            count()
            measure = power and example in (Example(dtype="float64"), Example(dtype="float32"))
            found += check(comparison, example, name, clause, cotangents, measure_power=measure)
        return found

    untried = {name: "left out" for name in CLAUSES if name not in tried}
    if report.options:
        untried.setdefault("options", f"not given: {', '.join(report.options)}")
    wrong = False
    for name, planned in catalog(usable, comparison).items():
        if name in skip or planned.clause not in tried:
            continue
        if name in comparison.exceptions:
            skipped = Verdict("", Status.SKIPPED, comparison.exceptions[name], name, planned.clause)
            verdicts += [replace(skipped, example=example) for example in planned.examples]
        elif wrong and planned.clause != "derivative":
            untried[planned.clause] = "the derivative is wrong"
        else:
            found = run(name, planned.examples, planned.clause)
            if contract != "minifw":
                found, note = _excuse_small_constant(comparison, found)
                report = replace(report, notes=tuple(dict.fromkeys(report.notes + note)))
            verdicts += found
            # What else is wrong with a wrong derivative says nothing more.
            wrong |= contract != "minifw" and bool(
                [v for v in failures(found) if v.clause == "derivative"]
            )
    if cotangents is not None:
        return replace(report, verdicts=tuple(verdicts), examples=examples)
    if wrong:
        untried.setdefault("determinism", "the derivative is wrong")
    elif "determinism" in tried:
        verdicts.append(repeat(comparison, Example(dtype=usable[-1])))
        examples += 1
    if "fuzzing" not in skip and max_examples and not wrong:
        # The fuzzer tries what decides.
        drawn_from = [name for name in tried if name in deciding_clauses]
        verdicts += fuzz(
            comparison, tuple(usable), max_examples, seed, drawn_from, count,
            judge=check if ours else _check_but_for_constants,
            seconds=math.inf if ours else PATIENCE_FOR_FUZZING,
        )  # fmt: skip
    if contract == "minifw":
        report = replace(
            report,
            testimonies=() if "cross-check" in skip else tuple(hear(comparison)),
            gradcheck=None if "gradcheck" in skip else gradcheck(comparison),
        )
    known_clauses = {verdict.clause for verdict in verdicts} | {"side-effects"}
    for name in tried:
        if name not in known_clauses:
            untried.setdefault(name, "left out")
    report = replace(report, verdicts=tuple(verdicts), examples=examples, untried=untried)
    tensors = [verdict for verdict in report.failures if verdict.where]
    return replace(report, diagnosis=explain(comparison, tensors[0]) if tensors else "")


def timed(
    report: Report, comparison: Comparison, plan: TimingPlan | None, runner: Runner | None = None
) -> Report:
    """The report, with what the subject costs if that is asked for and the verdict is PASSED."""
    if plan is None or report.status != Status.PASSED:
        return report
    # Not before it is asked for: it needs pandas, scipy and seaborn.
    from minifw.testing.timing.measure import time_comparison

    comparison = replace(
        comparison, strict=report.contract != "formula", one_sided=report.contract != "minifw"
    )
    dtype = "float32" if "float32" in report.dtypes else report.dtypes[0]
    timing = time_comparison(comparison, plan, dtype, **({"call": runner.call} if runner else {}))
    return replace(report, timing=timing, verdicts=report.verdicts + timing.wrong)


def lost_report(comparison: Comparison, error: Exception, command: str = "") -> Report:
    """The report on a subject that crashed, or was lost, before anything could be tried."""
    reason = str(error) if isinstance(error, CrashError) else f"{type(error).__name__}: {error}"
    return Report(
        comparison.name,
        (Verdict("", Status.ERROR, reason),),
        reference=comparison.reference_name,
        contract="formula",
        examples=1,
        command=command,
    )


def _settle(
    comparison: Comparison,
    contract: str | None,
    require: Collection[str],
    allow: Collection[str],
    clauses: Collection[str] | None,
    skip: Collection[str],
) -> tuple[str, frozenset[str], list[str], list[str]]:
    """The contract, the clauses that decide, those to be tried, and facts about the subject."""
    base = supported_dtypes(comparison)[0]
    made = draw(comparison, Example(dtype=base)).subject(DTYPES[base])
    contract = contract or made.contract
    for name in clauses or ():
        known("clause", name, CLAUSES)
    names = deciding(contract, require, allow)
    tried = [
        name
        for name in CLAUSES
        if name not in skip and (clauses is None or name in clauses or name == "derivative")
    ]
    return contract, names, tried, made.notes


def _usable(
    comparison: Comparison, dtypes: Sequence[str], contract: str
) -> tuple[list[str], tuple[str, ...], list[Verdict]]:
    """The dtypes that both sides compute in, and what was seen of the others.

    Raises:
        UsageError: the reference cannot be called on these inputs, or the subject not with so
            many.
    """
    usable, notes, verdicts, refusal = [], [], [], ""
    supported = supported_dtypes(comparison)
    if not {*dtypes} <= {*supported} and {*dtypes} & {*supported}:
        notes.append(f"computes in {', '.join(supported)} alone")
        dtypes = [dtype for dtype in dtypes if dtype in supported]
    for dtype in dtypes:
        example = Example(dtype=dtype)
        drawn = draw(comparison, example)
        inputs = drawn.inputs_in(DTYPES[dtype])[0]
        with seeded(0):
            try:
                expected = drawn.reference(DTYPES[dtype]).forward_only(*inputs)
            except Exception as error:
                refusal = refusal or first_line(error)
                continue
        try:
            with seeded(0):
                actual = drawn.subject(DTYPES[dtype]).forward_only(*inputs)
        except UsageError:
            raise
        except Exception as error:
            reason = first_line(error)
            if isinstance(error, TypeError) and BAD_CALL.search(str(error)):
                raise UsageError(
                    f"the subject cannot be called on these inputs: {reason}"
                ) from error
            if contract != "minifw":
                notes.append(f"refuses {dtype} ({reason})")
                verdicts.append(
                    Verdict("", Status.SKIPPED, f"refuses {dtype}", "", "precision", example)
                )
                continue
            actual = expected  # an ERROR of every check in this dtype
        others = {
            str(output.dtype)
            for output, like in zip(actual, expected, strict=False)
            if output.is_floating_point() and output.dtype != like.dtype
        }
        # A subject that computes in float32 whatever it is given is judged in float32.
        if "torch.float32" in others and dtype == "float64" and contract != "minifw":
            reason = "returns torch.float32 for inputs of torch.float64"
            verdicts.append(Verdict("", Status.SKIPPED, reason, "", "precision", example))
            notes.append(f"{reason}: judged in float32")
            continue
        usable.append(dtype)
    if usable:
        return usable, tuple(notes), verdicts
    if refusal and not notes:
        raise UsageError(f"the reference cannot be called on these inputs: {refusal}")
    # It refuses all: an ERROR of the derivative.
    return list(dtypes[:1]), (), []


def _excuse_small_constant(
    comparison: Comparison, verdicts: list[Verdict]
) -> tuple[list[Verdict], tuple[str, ...]]:
    """Excuse a formula for a difference that does not show in float32, and say so."""
    wrong = failures(verdicts)

    def small(v: Verdict) -> bool:
        """Whether the entry that is farthest off is so by a small share of itself."""
        return v.example.dtype == "float64" and abs(v.actual - v.expected) < SMALL_CONSTANT * abs(
            v.expected
        )

    if not wrong or not all(map(small, wrong)):
        return verdicts, ()
    for example in {str(v.example): v.example for v in wrong}.values():
        if failures(check(comparison, replace(example, dtype="float32"))):
            return verdicts, ()
    largest = max(v.relative for v in wrong)
    note = (
        f"in float64 it differs from the reference by {largest:.1g} of the largest entry, "
        "in float32 not at all: is there a small constant in the formula?"
    )
    return [replace(v, status=Status.PASSED) if v in wrong else v for v in verdicts], (note,)


def _check_but_for_constants(comparison: Comparison, example: Example, name: str) -> list[Verdict]:
    return _excuse_small_constant(comparison, check(comparison, example, name))[0]


def _options(comparison: Comparison) -> tuple[str, ...]:
    """The names of the reference's options that were not given."""
    try:
        signature = inspect.signature(comparison.reference)
        given = signature.bind(*comparison.arguments, **comparison.options).arguments
    except (TypeError, ValueError):
        return ()
    return tuple(
        name
        for name, parameter in signature.parameters.items()
        if name not in given
        and name not in ("device", "dtype")
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
