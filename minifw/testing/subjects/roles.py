"""What the arguments of a backward function are, by their names and places."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["BACKWARD", "FORWARD", "accepts", "backward_roles", "positional", "role"]

FORWARD = (
    "forward",
    "forward_pass",
    "fprop",
    "feed_forward",
    "loss",
    "__call__",
    "fn",
    "func",
    "f",
)
BACKWARD = (
    "backward", "backward_pass", "bprop", "backprop", "back_propagate", "gradient", "grad",
    "derivative", "derivate", "derive", "prime", "f_prime", "deriv", "dfn",
)  # fmt: skip

# In the order in which they are asked.
_ROLES = {
    "rate": r"lr|eta|learning_?rate|step_?size|rate",
    "cache": r"\w*cache\w*|ctx|saved\w*|memo\w*",
    "input": r"x\w*|inputs?_?|in_?data|data|prev(ious)?(_?(a|activations?|inputs?))?|z|batch"
    r"|features?",
    "cotangent": r"g|d|v|dl?_?d?(out|loss|y|z|x|l|a|h|s|o)\w*|\w*grad\w*|gwrt\w*|gy|gz|delta\w*"
    r"|upstream\w*|accum\w*|\w*error\w*|err|cot\w*|dnext\w*|dc\w*|dupstream|seed",
    "target": r"y|t|y_?(true|real|gt|target|batch)|actual|truth|ground_?truth|\w*_?labels?"
    r"|\w*targets?|expected",
    "prediction": r"p|a|preds?|predicted|\w*predictions?|y_?(pred|hat|out|prob)\w*|outputs?_?"
    r"|logits?|scores?|probs?",
}


def role(name: str) -> str:
    """The role that a name speaks of, or ''."""
    found = (kind for kind in _ROLES if re.fullmatch(_ROLES[kind], name, re.IGNORECASE))
    return next(found, "")


def positional(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The arguments that can be given by place; None if that is not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter for parameter in parameters if parameter.kind in places]


def required(function: Callable[..., Any]) -> list[str] | None:
    """The names of the arguments that must be given by place; None if that is not known."""
    parameters = positional(function)
    if parameters is None:
        return None
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def takes_any(function: Callable[..., Any], kind: Any = inspect.Parameter.VAR_POSITIONAL) -> bool:
    """Whether it has an argument ``*args``, or of another kind."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind == kind for parameter in parameters)


def accepts(function: Callable[..., Any], keyword: str) -> bool:
    """Whether it takes a keyword argument, as far as that is known."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    if any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return True
    return keyword in parameters and parameters[keyword].kind != inspect.Parameter.POSITIONAL_ONLY


def backward_roles(
    function: Callable[..., Any],
    inputs: int,
    outputs: int,
    loss: bool,
    parameters: int = 0,
    forward: Callable[..., Any] | None = None,
) -> Iterator[tuple[str, ...]]:
    """What to give to a backward function, the likeliest first.

    Roles are "cotangent.0", "input.0", "output.0", "parameter.0", "cache" and "rate".

    Args:
        function: the bound method or function.
        inputs, outputs, parameters: how many the forward pass has.
        loss: whether the output is a number, so that there need be no cotangent.
        forward: the forward pass; a loss whose backward takes the same names takes its inputs.
    """
    cotangents = tuple(f"cotangent.{i}" for i in range(outputs))
    given = tuple(f"input.{i}" for i in range(inputs))
    own = tuple(f"parameter.{i}" for i in range(parameters))
    names = required(function)
    seen: set[tuple[str, ...]] = set()
    if loss and names and forward is not None and names == required(forward):
        seen.add(given[: len(names)])
        yield given[: len(names)]
    if names is not None:
        named = [role(name) for name in names]
        sources = {
            "cotangent": iter(cotangents),
            "input": iter(given),
            "prediction": iter(given[:1] if loss else ("output.0",)),
            "target": iter(given[1:] if loss else ("output.0",)),
            "cache": iter(("cache",)),
            "rate": iter(("rate",)),
        }
        if loss and inputs > 1 and len(names) <= inputs and "cotangent" not in named:
            sources["input"] = iter(given[:1])  # (x, y)
        taken = [next(sources.get(kind, iter(())), "") for kind in named]
        spare = [source for source in (*cotangents, *given, *own, "cache") if source not in taken]
        for place, source in enumerate(taken):
            if not source and spare:
                taken[place] = spare.pop(0)
        if tuple(taken) not in seen:
            seen.add(tuple(taken))
            yield tuple(taken)
    optional = positional(function) or []
    may = len(optional) if names is not None else 9
    least = len(names) if names is not None else 0
    for roles in (
        () if loss else cotangents,
        cotangents,
        (*cotangents, "cache"),
        given[:1] if not loss else given,
        (*cotangents, *given),
        (*given, *cotangents),
        ("output.0",),
        (*cotangents, "output.0"),
        ("output.0", *cotangents),
        ("cache", *cotangents),
        (*cotangents, "rate"),
        (*cotangents, "cache", "rate"),
        (*cotangents, *given, *own),
        (*cotangents, *own),
        (*cotangents, *given, "rate"),
        given[::-1],
    ):
        fits = least <= len(roles) <= may or (takes_any(function) and len(roles) >= least)
        if roles not in seen and fits:
            seen.add(roles)
            yield roles
