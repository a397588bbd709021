"""verify: all checks, all witnesses and the fuzzer on one comparison."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minifw.testing.case import Input, seeded
from minifw.testing.catalog import CHECKS
from minifw.testing.check import check, first_line
from minifw.testing.comparison import Comparison, draw
from minifw.testing.cross_check import gradcheck, hear
from minifw.testing.example import DTYPES, Example, parse_input
from minifw.testing.fuzz import fuzz
from minifw.testing.report import Report
from minifw.testing.subjects import UsageError
from minifw.testing.verdict import Status, Verdict

__all__ = ["CHECK_NAMES", "verify", "verify_comparison"]

CHECK_NAMES = (*CHECKS, "witnesses", "gradcheck", "fuzzing")

WITH_POWER = (Example(dtype="float64"), Example(dtype="float32"))


def verify(
    subject: Any,
    reference: Callable[..., torch.nn.Module],
    inputs: Sequence[Input | str | Sequence[int]],
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    training: bool | None = None,
    device: str = "cpu",
    dtypes: Sequence[str] = tuple(DTYPES),
    skip: Sequence[str] = (),
    max_examples: int = 100,
    seed: int = 0,
    cotangents: Sequence[Tensor] | None = None,
) -> Report:
    """Is a hand-written backward pass equal to PyTorch's?

    ::

        report = verify(MyLinear, torch.nn.Linear, ["4,5"], (5, 3), {"bias": False})
        assert report.status == "PASSED", report

    Args:
        subject: what to verify: a class of minifw or torch.nn modules, or of objects with the
            methods of :class:`~minifw.testing.subjects.Adapter`, or a function that makes one;
            or a :class:`torch.autograd.Function`, which is applied to the inputs and then to the
            reference's parameters in their order.
        reference: class of the trusted module of torch.nn, or a function that makes one.
        inputs: what both are called on: shapes, or texts such as "4,3" and "4:long:10"
            (:func:`~minifw.testing.example.parse_input`), or :class:`~reference.cases.Input`.
        arguments, options: of both constructors. The fuzzer gives sizes that stand in
            ``arguments`` and in the shapes of inputs other values.
        name: of the comparison. Default: that of the subject.
        training: the mode to verify in. Default: training mode, and one check in the other.
        device: where to compute.
        dtypes: keys of :data:`~minifw.testing.example.DTYPES`. Default: all.
        skip: names of checks not to make (:data:`CHECK_NAMES`).
        max_examples: number of examples that the fuzzer tries.
        seed: of the fuzzer.
        cotangents: gradients of the outputs for the plain checks alone, and nothing else is then
            done. Default: drawn at random, as they should be.

    Returns:
        The report; its ``status`` is PASSED, FAILED, MISTRUSTED, SKIPPED or ERROR.

    Raises:
        UsageError: subject or reference cannot be made or called on the inputs, their parameters
            or outputs differ in shape, or an argument is unknown.
    """
    try:
        specs = tuple(
            spec
            if isinstance(spec, Input)
            else parse_input(spec if isinstance(spec, str) else ",".join(map(str, spec)))
            for spec in inputs
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    comparison = Comparison(
        name or getattr(subject, "__name__", type(subject).__name__),
        subject,
        reference,
        specs,
        tuple(arguments),
        options or {},
        training,
        device,
    )
    return verify_comparison(
        comparison,
        dtypes=dtypes,
        skip=skip,
        max_examples=max_examples,
        seed=seed,
        cotangents=cotangents,
    )


def verify_comparison(
    comparison: Comparison,
    *,
    dtypes: Sequence[str] = tuple(DTYPES),
    skip: Sequence[str] = (),
    max_examples: int = 100,
    seed: int = 0,
    cotangents: Sequence[Tensor] | None = None,
    command: str = "",
    power: bool = True,
) -> Report:
    """As :func:`verify`.

    Args:
        command: the command line to reproduce failures by.
        power: whether to look into the power of the plain checks in float64 and float32. In fewer
            bits, a relative error of 1e-5 is less than a rounding.
    """
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}; expected some of {', '.join(DTYPES)}")
    for name in skip:
        if name not in CHECK_NAMES:
            raise UsageError(f"unknown check {name!r}; expected some of {', '.join(CHECK_NAMES)}")
    _try_out(comparison, dtypes)
    verdicts: list[Verdict] = []
    examples = 0
    for name, tried in CHECKS.items():
        for example in tried:
            if name in skip or example.dtype not in dtypes:
                continue
            if name in comparison.exceptions:
                reason = comparison.exceptions[name]
                verdicts.append(Verdict("", Status.SKIPPED, reason, name, example))
                continue
            if cotangents is not None and example != Example(example.steps, example.dtype):
                continue
            examples += 1
            thorough = power and example in WITH_POWER
            verdicts += check(comparison, example, name, cotangents, thorough=thorough)
    if cotangents is not None:
        return Report(comparison.name, tuple(verdicts), examples=examples, command=command)

    def count() -> None:
        nonlocal examples
        examples += 1

    if "fuzzing" not in skip and max_examples:
        verdicts += fuzz(comparison, tuple(dtypes), max_examples, seed, count)
    return Report(
        comparison.name,
        tuple(verdicts),
        testimonies=() if "witnesses" in skip else tuple(hear(comparison)),
        gradcheck=None if "gradcheck" in skip else gradcheck(comparison),
        examples=examples,
        command=command,
    )


def _try_out(comparison: Comparison, dtypes: Sequence[str]) -> None:
    """Call both once, so that what cannot be compared at all is told apart from what fails.

    Raises:
        UsageError: see :func:`verify`.
    """
    for dtype in dtypes:
        drawn = draw(comparison, Example(dtype=dtype))
        inputs = drawn.inputs[0]
        with seeded(0):
            try:
                expected = drawn.reference(DTYPES[dtype]).forward_only(*inputs)
            except Exception as error:
                refusal = f"the reference cannot be called on these inputs: {first_line(error)}"
                continue
            try:
                actual = drawn.subject(DTYPES[dtype]).forward_only(*inputs)
            except UsageError:
                raise
            except Exception as error:
                raise UsageError(
                    f"the subject cannot be called on these inputs: {first_line(error)}"
                ) from error
        shapes = [[list(output.shape) for output in outputs] for outputs in (actual, expected)]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"the subject's outputs have shapes {shapes[0]}, the reference's {shapes[1]}"
            )
        return
    raise UsageError(refusal)
