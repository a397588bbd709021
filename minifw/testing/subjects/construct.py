"""Making subjects and references from classes, functions, instances and arrays."""

import copy
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minifw.testing.case import seeded
from minifw.testing.subjects.environment import called_in
from minifw.testing.subjects.places import ALIASES, kept
from minifw.testing.subjects.roles import positional, required
from minifw.testing.subjects.subject import UsageError

__all__ = ["build", "called", "makes", "set_mode", "takes_arrays"]


def called(factory: Any) -> str:
    """The name of a class or function, as one writes it."""
    name = getattr(factory, "__qualname__", None) or getattr(factory, "__name__", None)
    return str(name or type(factory).__name__)


def _signature(factory: Any) -> str:
    try:
        return f"{called(factory)}{inspect.signature(factory)}"
    except (TypeError, ValueError):
        return called(factory)


def binds(factory: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether it can be called so, as far as its signature says."""
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class Model:
    """In place of a model that a loss goes back through: it hands on what it is given."""

    def __init__(self) -> None:
        self.gradient: Any = None

    def __call__(self, input: Any) -> Any:
        return input

    forward = __call__

    def backward(self, gradient: Any) -> Any:
        """Keep the gradient, and return it."""
        self.gradient = gradient
        return gradient


def with_model(factory: Any, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """``arguments``, with a :class:`Model` where a model is asked for; () if none is."""
    given = iter(arguments)
    models = ("model", "net", "network")
    names = required(factory) or []
    if not any(name in models for name in names):
        return ()
    placed = [Model() if name in models else next(given, None) for name in names]
    return (*placed, *given)


def takes_arrays(factory: Any, count: int) -> bool:
    """Whether a constructor takes the parameters themselves, as ``Affine(W, b)``."""
    names = required(factory) if isinstance(factory, type) else None
    words = {word for words in ALIASES.values() for word in words} | {"wx", "wh", "w_embed"}
    return bool(count and names) and len(names or ()) >= count and all(
        name.lower() in words for name in (names or ())[:count]
    )  # fmt: skip


def build(
    what: str,
    factory: Any,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    dtype: torch.dtype,
    other: Callable[..., Any] | None = None,
) -> Any:
    """Make an object with torch's default dtype set, and the generators left as found.

    Args:
        what: "subject" or "reference".
        factory: what makes it; an instance is copied.
        arguments, options: of the constructor.
        dtype: torch's default in the meantime.
        other: the reference's factory, for the message.

    Raises:
        UsageError: it cannot be made.
    """
    if not makes(factory):
        return copy.deepcopy(factory)
    try:
        with seeded(0), called_in(dtype):
            return factory(*arguments, **options)
    except Exception as error:
        if isinstance(error, TypeError) and (placed := with_model(factory, arguments)):
            return build(what, functools.partial(factory, *placed), (), options, dtype)
        if isinstance(error, TypeError) and other and not binds(factory, arguments, options):
            given = ", ".join([*map(repr, arguments), *(f"{k}={v!r}" for k, v in options.items())])
            raise UsageError(
                f"the subject cannot be made: {_signature(factory)} does not take ({given}), "
                f"which are the arguments of {_signature(other)}; give each side its own "
                "(arguments and reference_arguments, --init and --reference-init)"
            ) from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"the {what} cannot be made: {reason}") from error


def makes(factory: Any) -> bool:
    """Whether it is to be called to make the subject, as a class or a function is."""
    return (
        isinstance(factory, (type, functools.partial)) or inspect.isroutine(factory)
        or not (hasattr(factory, "forward") or hasattr(factory, "backward"))
    )  # fmt: skip


class Descent:
    """In place of an optimizer that a layer updates its parameters by: at a rate of 1."""

    def update(self, value: Any, gradient: Any) -> Any:
        """Return the parameter after the update."""
        return value - gradient


LAZY = ("set_input_shape", "initialize", "build", "init_weights", "initialize_weights",
        "init_params", "init_parameters")  # fmt: skip


def initialize(made: Any, shape: Sequence[int]) -> None:
    """Have an object make its parameters that makes them when it is told the shape of its input.

    Args:
        made: an object; one that has arrays is left alone.
        shape: of an input, without the batch.
    """
    if isinstance(made, torch.nn.Module) or kept(made):
        return
    for name in LAZY:
        method = getattr(made, name, None)
        names = required(method) if callable(method) else None
        if names is None or (name == "set_input_shape" and getattr(made, "input_shape", None)):
            continue
        given = [_told(name, tuple(shape)) for name in names]
        if None not in given:
            method(*given)  # type: ignore[misc]


def _told(name: str, shape: tuple[int, ...]) -> Any:
    """What an argument of this name is given by :func:`initialize`; None if that is unknown."""
    if "optim" in name:
        return Descent()
    if "shape" in name:
        return shape
    size = re.fullmatch(r"(n|nb|num|dim|in|inp|input|fan)_?(in|inputs?|features|dim|size)\w*", name)
    return shape[-1] if size and shape else None


MODES = ("train", "training", "is_training", "train_mode", "train_flg", "train_flag", "is_train")


def set_mode(made: Any, training: bool) -> bool:
    """Switch to training or evaluation mode; return whether there is a switch for it."""
    train = getattr(made, "train", None)
    if callable(train):
        try:
            train(training)
        except TypeError:
            getattr(made, "train" if training else "eval", train)()
        return True
    names = [name for name in MODES if isinstance(getattr(made, name, None), bool)]
    for name in names:
        setattr(made, name, training)
    if evaluates := isinstance(getattr(made, "eval", None), bool):
        made.eval = not training
    return bool(names) or evaluates


def mode_option(forward: Any) -> str:
    """The argument of forward that switches between training and evaluation mode; "" for none."""
    return next((p.name for p in positional(forward) or [] if p.name in MODES), "")


def arrays_of(like: Mapping[str, Tensor], turned: bool) -> list[Tensor]:
    """The reference's parameters for a constructor, matrices transposed if ``turned``."""
    return [
        t.clone().t().contiguous() if turned and t.dim() == 2 else t.clone() for t in like.values()
    ]
