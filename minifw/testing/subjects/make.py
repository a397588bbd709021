"""The subject and the reference of a comparison, made for one dtype and mode."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

import minifw
from minifw.testing.case import seeded
from minifw.testing.example import DTYPES, Example, draw_inputs
from minifw.testing.subjects.arrays import agree, is_number
from minifw.testing.subjects.construct import (
    arrays_of,
    binds,
    build,
    called,
    initialize,
    makes,
    mode_option,
    set_mode,
    takes_arrays,
)
from minifw.testing.subjects.environment import called_in
from minifw.testing.subjects.fit import Fit
from minifw.testing.subjects.foreign import Foreign, Pair
from minifw.testing.subjects.match import arguments as argument_shapes
from minifw.testing.subjects.match import assignments, describe
from minifw.testing.subjects.modules import Function, MinifwModule, Module, TorchModule, Traced
from minifw.testing.subjects.recognize import Recognizer, array_kinds, settle_parameters
from minifw.testing.subjects.roles import accepts, positional, required
from minifw.testing.subjects.subject import CrashError, Subject, UsageError

if TYPE_CHECKING:
    from minifw.testing.comparison import Comparison

__all__ = [
    "entries",
    "make_reference",
    "make_subject",
    "partner",
    "recognized",
    "supported_dtypes",
    "wrap",
]


def make_reference(
    comparison: Comparison, training: bool, dtype: torch.dtype, reduction: str = ""
) -> Subject:
    """The trusted module or function, with its own first weights.

    A loss whose subject follows another convention is multiplied by what makes up for it; see
    :func:`recognized`.

    Raises:
        UsageError: it cannot be made, or is neither a torch.nn.Module nor a function of tensors.
    """
    found = comparison.found
    reduction = reduction or found.get("reduction", "")
    factory = comparison.reference
    arguments, options = comparison.reference_call
    if reduction and (not makes(factory) or _is_function(comparison, "reference")):
        options = {**options, "reduction": reduction}
    subject: Traced
    if _is_function(comparison, "reference"):
        subject = Function(factory, dtype, arguments, options, {})
    else:
        made = _made(comparison, "reference", dtype)
        if not isinstance(made, torch.nn.Module):
            raise UsageError(
                "the reference must be a torch.nn.Module or a function of tensors, got "
                f"{type(made).__name__}"
            )
        if reduction:
            made.reduction = reduction  # type: ignore[assignment]
        made = made.to(device=comparison.device, dtype=dtype).train(training)
        subject = TorchModule(made, dtype, arguments, options)
        subject.fits = {n: Fit(n, tuple(range(t.dim()))) for n, t in subject.slots().items()}
        subject.compares_buffers = "protocol" not in found
    subject.factor = found.get("convention")
    subject.silent = comparison.without_gradient
    return subject


def entries(comparison: Comparison) -> int:
    """How many numbers the reference's parameters and outputs hold, without making them.

    A size may stand in several places: channels and a kernel that are both 1,025 do not fit into
    any memory. What cannot be found out counts as nothing.
    """
    count = 0
    with contextlib.suppress(Exception), torch.device("meta"):
        reference = make_reference(replace(comparison, device="meta"), True, torch.float32)
        count += sum(tensor.numel() for tensor in reference.slots().values())
        inputs = (
            torch.empty(spec.shape, dtype=torch.long if spec.domain == "index" else None)
            for spec in comparison.inputs
        )
        count += sum(output.numel() for output in reference.forward_only(*inputs))
    return count


def _made(comparison: Comparison, what: str, dtype: torch.dtype) -> Any:
    if what == "reference":
        arguments, options = comparison.reference_arguments, comparison.reference_options
        arguments = comparison.arguments if arguments is None else arguments
        options = comparison.options if options is None else options
        return build(what, comparison.reference, arguments, options, dtype)
    same = comparison.reference_arguments is None and comparison.reference_options is None
    other = comparison.reference if same else None
    return build(what, comparison.subject, comparison.arguments, comparison.options, dtype, other)


def _is_function(comparison: Comparison, what: str) -> bool:
    """Whether subject or reference is a function of tensors, and not one that makes something."""
    key = f"{what} is a function"
    if key not in comparison.found:
        comparison.found[key] = _find_function(comparison, what)
    return bool(comparison.found[key])


def _find_function(comparison: Comparison, what: str) -> bool:
    factory = getattr(comparison, what)
    if isinstance(factory, type) or not makes(factory):
        return False
    if not callable(factory):
        raise UsageError(f"the {what} must be callable, got {type(factory).__name__}")
    if isinstance(factory, functools.partial) and isinstance(factory.func, type):
        return False
    if not inspect.isroutine(factory) and not isinstance(factory, functools.partial):
        return True  # a custom operation, a compiled function
    arguments, options = comparison.arguments, comparison.options
    if what == "reference" and comparison.reference_arguments is not None:
        arguments = comparison.reference_arguments
    if what == "reference" and comparison.reference_options is not None:
        options = comparison.reference_options
    if not binds(factory, arguments, options) or required(factory) is None:
        return True
    names = required(factory) or []
    if not arguments and not options and names:
        return True
    try:
        made = _made(comparison, what, torch.get_default_dtype())
    except UsageError:
        if len(names) <= len(arguments) and not (names and _takes_tensors(comparison, factory)):
            raise
        return True
    return isinstance(made, (tuple, list, Tensor)) or is_number(made)


def _takes_tensors(comparison: Comparison, function: Callable[..., Any]) -> bool:
    inputs = draw_inputs(Example(), comparison.inputs, Generator().manual_seed(0), "cpu")
    try:
        with called_in(torch.float64):
            function(*inputs)
    except Exception:
        return False
    return True


def wrap(made: Any) -> Subject:
    """A made module, as a subject.

    Raises:
        UsageError: it is none.
    """
    subject: Module
    if isinstance(made, minifw.nn.Module):
        subject = MinifwModule(made)
    elif isinstance(made, torch.nn.Module):
        subject = TorchModule(made, torch.get_default_dtype(), (), {})
    else:
        raise UsageError(f"expected a module of minifw or torch.nn, got {type(made).__name__}")
    subject.fits = {n: Fit(n, tuple(range(t.dim()))) for n, t in subject.slots().items()}
    return subject


def recognized(comparison: Comparison) -> None:
    """Find out how the subject is called, once a comparison, and keep it in ``comparison.found``.

    Modules and functions of autograd need no trying. Objects, losses and pairs of functions do:
    see :mod:`minifw.testing.subjects.recognize`.

    Raises:
        UsageError: the subject is of no known kind, or cannot be called.
    """
    found = comparison.found
    if "kind" in found:
        return
    found["kind"] = kind = _kind(comparison)
    if kind in ("object", "pair"):
        try:
            _try_conventions(comparison)
        except BaseException:
            del found["kind"]
            raise


def supported_dtypes(comparison: Comparison) -> tuple[str, ...]:
    """Names of the dtypes that the subject computes in."""
    recognized(comparison)
    protocol = comparison.found.get("protocol")
    return protocol.dtypes if protocol else tuple(DTYPES)


def function_class(subject: Any) -> type[torch.autograd.Function] | None:
    """The :class:`torch.autograd.Function` that a subject is, or is the ``apply`` of."""
    if isinstance(subject, type) and issubclass(subject, torch.autograd.Function):
        return subject
    owner = getattr(subject, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return owner
    return None


def partner(function: Any) -> Callable[..., Any] | None:
    """The function of the same module that goes back through ``function``, by its name."""
    names = getattr(function, "__globals__", {})
    name = getattr(function, "__name__", "")
    stems = [name.replace("forward", "backward"), name.replace("fwd", "bwd")]
    stems += [f"{name}_{word}" for word in ("backward", "grad", "gradient", "prime", "derivative",
                                            "bwd", "deriv", "back", "d")]  # fmt: skip
    stems += [f"{word}_{name}" for word in ("backward", "d", "grad", "derivative", "deriv")]
    stems += [f"d{name}"]
    for stem in stems:
        if stem != name and callable(names.get(stem)):
            return names[stem]  # type: ignore[no-any-return]
    return None


def _kind(comparison: Comparison) -> str:
    """ "module", "function", "object" or "pair"."""
    subject = comparison.subject
    if function_class(subject):
        return "function"
    if isinstance(subject, (tuple, list)):
        if len(subject) != 2 or not all(map(callable, subject)):
            raise UsageError("a tuple as subject must be of two functions: forward and backward")
        comparison.found["pair"] = Pair(*subject)
        return "pair"
    if comparison.backward is not None:
        comparison.found["pair"] = Pair(subject, comparison.backward)
        return "pair"
    if _is_function(comparison, "subject"):
        back = partner(subject)
        named = "forward" in getattr(subject, "__name__", "")
        reason = None if named and back else _untraced(comparison)
        if reason == "":
            return "function"
        comparison.found["pair"] = Pair(subject, back)
        comparison.found["refusal"] = reason
        return "pair"
    made = (
        None
        if takes_arrays(subject, len(make_reference(comparison, True, torch.float32).slots()))
        else _made(comparison, "subject", torch.get_default_dtype())
    )
    if isinstance(made, (minifw.nn.Module, torch.nn.Module)):
        return "module"
    return "object"


def _untraced(comparison: Comparison) -> str:
    """Why autograd does not go through a function of tensors; "" if it does."""
    try:
        _function(comparison, torch.float32, make_reference(comparison, True, torch.float32))
    except (RecursionError, MemoryError) as error:  # which no other way of calling would mend
        raise CrashError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _try_conventions(comparison: Comparison) -> None:
    found = comparison.found

    def reference(dtype: torch.dtype, reduction: str = "") -> Subject:
        return make_reference(comparison, comparison.training is not False, dtype, reduction)

    parameters = len(reference(torch.float32).slots())
    turns = (False, True) if takes_arrays(comparison.subject, parameters) else (False,)
    best: Any = None
    error: UsageError | None = None
    for turned in turns:
        recognizer = Recognizer(
            comparison,
            reference,
            lambda dtype, like, turned=turned: _foreign(  # type: ignore[misc]
                comparison, comparison.training is not False, dtype, like, turned
            ),
        )
        try:
            protocol, convention, reduction = recognizer.find()
        except UsageError as raised:
            error = error or raised
            continue
        if best is None or recognizer.agrees:
            best = (protocol, convention, reduction, turned)
        if recognizer.agrees:
            break
    if best is None:
        if found.get("refusal") and found["pair"].backward is None:
            raise UsageError(
                f"autograd does not go through {called(comparison.subject)} "
                f"({found['refusal']}), and there is no function beside it that goes back"
            )
        assert error is not None
        raise error
    found["protocol"], found["convention"], found["reduction"], found["turned"] = best


def _foreign(
    comparison: Comparison,
    training: bool,
    dtype: torch.dtype,
    like: Mapping[str, Tensor],
    turned: bool,
) -> Any:
    """The object or pair itself."""
    if comparison.found["kind"] == "pair":
        return comparison.found["pair"]
    if takes_arrays(comparison.subject, len(like)):
        given: list[Any] = arrays_of({n: t.to(dtype) for n, t in like.items()}, turned)
        if array_kinds(comparison.subject)[0] == "numpy":
            given = [tensor.numpy() for tensor in given]
        more = comparison.arguments if comparison.reference_arguments is not None else ()
        made = build("subject", comparison.subject, (*given, *more), comparison.options, dtype)
    else:
        made = _made(comparison, "subject", dtype)
        with seeded(0), called_in(dtype):
            initialize(made, comparison.inputs[0].shape[1:])
    return made


def make_subject(
    comparison: Comparison, training: bool, dtype: torch.dtype, like: Subject
) -> Subject:
    """What is to be verified, with the parameters and buffers of the reference ``like``.

    Raises:
        UsageError: it cannot be made, is of no known kind, or has other parameters than ``like``.
    """
    recognized(comparison)
    found = comparison.found
    values = {name: value.to(dtype) for name, value in like.parameters().items()}
    if found["kind"] == "function":
        return _function(comparison, dtype, like)
    if found["kind"] == "module":
        return _module(comparison, training, dtype, like)
    protocol = found["protocol"]
    if DTYPES["float32"] != dtype and protocol.dtypes == ("float32",):
        raise UsageError("the subject computes in float32 alone; leave the other dtypes out")
    made = _foreign(comparison, training, dtype, values, found["turned"])
    arguments, options = comparison.subject_call
    mode = mode_option(getattr(made, protocol.forward))
    if mode and mode not in options and not arguments:
        options = options | {mode: training}
    subject = Foreign(made, protocol, dtype, arguments, options, values)
    subject.switches = set_mode(made, training) or bool(mode)
    name = next(name for name in DTYPES if DTYPES[name] == dtype)
    inputs = draw_inputs(
        Example(dtype=name), comparison.inputs, Generator().manual_seed(0), comparison.device
    )
    settle_parameters(subject, values, inputs)
    return subject


def _function(comparison: Comparison, dtype: torch.dtype, like: Subject) -> Subject:
    """A function of tensors, or a :class:`torch.autograd.Function`."""
    owner = function_class(comparison.subject)
    function = comparison.subject if owner is None else owner.apply
    arguments, options = comparison.subject_call
    values = {name: value.to(dtype) for name, value in like.parameters().items()}

    def made(shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, Fit], by_name: bool,
             ) -> Function:  # fmt: skip
        own = {fit.slot: fit.inverse(values[n], len(shapes[fit.slot])) for n, fit in found.items()}
        ordered = {slot: own[slot].contiguous() for slot in shapes if slot in own}
        subject = Function(function, dtype, arguments, options, ordered, by_name)
        subject.kind = "function" if owner is None else "autograd.Function"
        subject.switches = False
        subject.fits = dict(found)
        return subject

    if "function" not in comparison.found:
        comparison.found["function"] = _function_arguments(comparison, like, owner, made)
    subject = made(*comparison.found["function"])
    subject.notes += comparison.found.get("notes", [])
    return subject


def _function_arguments(
    comparison: Comparison,
    like: Subject,
    owner: type[torch.autograd.Function] | None,
    made: Callable[..., Function],
) -> tuple[Any, ...]:
    """How a function takes the reference's parameters, found by trying.

    Raises:
        TypeError: autograd does not go through it.
    """
    reference = like.parameters()
    signature = comparison.subject if owner is None else owner.forward
    places = positional(signature)
    count = len(comparison.inputs) + (owner is not None)
    names = [p.name for p in places[count:]] if places is not None else []
    missing = len(reference) - len(names)
    names = (names + [f"parameter {i}" for i in range(missing)])[: max(len(reference), 0)]
    by_name = owner is None and bool(reference) and all(
        accepts(comparison.subject, name) for name in reference
    ) and set(names) != set(reference)  # fmt: skip
    if by_name:
        names = list(reference)
    dtype = next(iter(reference.values())).dtype if reference else torch.float32
    name = next(name for name in DTYPES if DTYPES[name] == dtype)
    generator = Generator().manual_seed(0)
    inputs = draw_inputs(Example(dtype=name), comparison.inputs, generator, comparison.device)
    first, error = None, None
    for shapes, found in argument_shapes(names, reference):
        subject = made(shapes, found, by_name)
        try:
            with seeded(0):
                outputs = subject.forward(*inputs)
            if not subject.reaches:
                raise TypeError("its output does not require grad")
            with seeded(0):
                expected = like.forward_only(*inputs)
        except Exception as raised:
            error = error or raised
            continue
        first = first or (shapes, found, by_name)
        if len(outputs) == len(expected) and all(map(agree, outputs, expected)):
            if any(str(fit) for fit in found.values()):
                comparison.found["notes"] = describe(shapes, reference, found)
            return shapes, found, by_name
    if first is None and owner is None:
        raise error or TypeError("it cannot be called")
    if first is None:
        shapes, found = next(argument_shapes(names, reference))
        return shapes, found, by_name
    return first


def _module(comparison: Comparison, training: bool, dtype: torch.dtype, like: Subject) -> Subject:
    """A module of either framework."""
    made = _made(comparison, "subject", dtype)
    made.to(device=comparison.device, dtype=dtype)
    set_mode(made, training)
    subject: Module
    if isinstance(made, minifw.nn.Module):
        subject = MinifwModule(made)
    else:
        subject = TorchModule(made, dtype, *comparison.subject_call)
    reference = like.parameters()
    own = subject.slots()
    if "fits" not in comparison.found:
        comparison.found["fits"] = _module_fits(comparison, subject, like)
    subject.fits = comparison.found["fits"]
    subject.notes += describe({n: tuple(t.shape) for n, t in own.items()}, reference, subject.fits)
    for name, value in reference.items():
        target = own[subject.fits[name].slot]
        if value.is_floating_point() and target.dtype != dtype:
            raise UsageError(
                f"the subject's {name} is of {target.dtype}, expected {dtype}; make tensors in "
                "torch's default dtype, or leave this dtype out with --dtype"
            )
    subject.set_parameters(reference)
    mine, theirs = subject.buffers(), like.buffers()
    with torch.no_grad():
        for name in mine.keys() & theirs.keys():
            if mine[name].shape == theirs[name].shape:
                mine[name].copy_(theirs[name])
    if mine.keys() - theirs.keys():
        extra = ", ".join(sorted(mine.keys() - theirs.keys()))
        subject.notes.append(f"buffers that the reference does not have: {extra}")
    return subject


def _module_fits(comparison: Comparison, subject: Module, like: Subject) -> dict[str, Fit]:
    """Which of a module's parameters is which of the reference's.

    Raises:
        UsageError: they do not match in number and shape.
    """
    reference, own = like.parameters(), subject.slots()
    shapes = {name: list(tensor.shape) for name, tensor in own.items()}
    wanted = {name: list(tensor.shape) for name, tensor in reference.items()}
    if shapes == wanted:
        return {name: Fit(name, tuple(range(len(shape)))) for name, shape in shapes.items()}
    if list(shapes.values()) == list(wanted.values()):
        return {
            name: Fit(slot, tuple(range(len(wanted[name]))))
            for name, slot in zip(wanted, shapes, strict=True)
        }
    candidates = list(assignments(shapes, reference)) if len(shapes) <= len(wanted) else []
    if not candidates:
        raise UsageError(f"the subject has parameters {shapes}, the reference {wanted}")
    dtype = next(iter(reference.values())).dtype
    name = next(name for name in DTYPES if DTYPES[name] == dtype)
    generator = Generator().manual_seed(0)
    inputs = draw_inputs(Example(dtype=name), comparison.inputs, generator, comparison.device)
    for candidate in candidates:
        subject.fits = candidate
        subject.set_parameters(reference)
        try:
            with seeded(0):
                outputs, expected = subject.forward_only(*inputs), like.forward_only(*inputs)
        except Exception:
            continue
        if len(outputs) == len(expected) and all(map(agree, outputs, expected)):
            return candidate
    return candidates[0]
