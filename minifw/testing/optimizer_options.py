"""The settings of an optimizer or a schedule, under the names that its author gave them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minifw.testing.subjects import UsageError

__all__ = ["RATES", "bound", "renamed", "settings"]

# What a learning rate is called.
RATES = ("lr", "learning_rate", "eta", "alpha", "rate", "lr0", "init_lr", "step_size", "base_lr")

# Other names for PyTorch's, the likeliest first. A name is used once, and none that is also a name
# of PyTorch's own option.
_ALIASES: dict[str, tuple[str, ...]] = {
    "lr": RATES,
    "momentum": ("mu", "beta", "gamma", "rho"),
    "betas": ("beta",),
    "eps": ("epsilon", "delta", "e"),
    "weight_decay": ("wd", "l2", "l2_reg", "lambda_", "lambd", "decay", "reg"),
    "alpha": ("rho", "decay_rate", "decay", "beta", "smoothing", "gamma"),
    "rho": ("decay", "decay_rate", "gamma"),
    "gamma": ("decay_rate", "decay", "factor", "decay_factor", "drop"),
    "step_size": ("step", "period", "epochs_drop", "drop_every", "decay_steps", "every", "drop"),
    "T_max": ("t_max", "T", "total_steps", "epochs", "max_epochs", "num_epochs", "steps"),
    "eta_min": ("lr_min", "min_lr", "minimum"),
    "total_iters": ("warmup", "warmup_steps", "total_steps", "steps"),
    "max_lr": ("lr_max",),
}
_BETAS = (("beta1", "beta2"), ("beta_1", "beta_2"), ("b1", "b2"), ("rho1", "rho2"))
# They choose a kernel and not a formula.
_IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable", "verbose", "last_epoch"}

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def settings(made: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a class or function can be given by name, without ``self``."""
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):
        return {}
    return {name: p for name, p in parameters.items() if p.kind in _KEYWORD}


def bound(
    reference: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reference's options that were given, by name, and the defaults of the others.

    Args:
        reference: a class whose constructor's first argument is what it works on.
        arguments: those after the first.
        options: those by name.

    Raises:
        UsageError: it has no such options.
    """
    try:
        call = inspect.signature(reference).bind(None, *arguments, **options)
    except TypeError as error:
        raise UsageError(f"the reference {reference.__name__} refuses: {error}") from None
    given = dict(list(call.arguments.items())[1:])
    defaults = {
        name: p.default
        for name, p in list(settings(reference).items())[1:]
        if name not in given and name not in _IMPLEMENTATION and p.default is not p.empty
    }
    return given, defaults


def renamed(
    names: Mapping[str, Any], given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """PyTorch's options under a subject's names.

    Args:
        names: the subject's names, with their defaults; ``inspect.Parameter.empty`` for none.
        given: PyTorch's options that must be passed on.
        defaults: those that are passed on where the subject has a setting for them.

    Returns:
        The subject's options, and a note on each name that differs.

    Raises:
        UsageError: the subject has no setting for a given option.
    """
    result: dict[str, Any] = {}
    notes: list[str] = []
    exact = [option for option in (*given, *defaults) if option in names]
    for option in dict.fromkeys((*exact, *given, *defaults)):
        value = given.get(option, defaults.get(option))
        # A name that PyTorch's own option has means that one.
        taken = {*result, *(name for name in exact if name != option)}
        free = [name for name in names if name not in taken]
        found = [name for name in (option, *_ALIASES.get(option, ())) if name in free]
        pair = next((p for p in _BETAS if option == "betas" and {*p} <= {*names}), None)
        if pair:
            result.update(zip(pair, value, strict=True))
            notes.append(f"{option} is called {', '.join(pair)}")
        elif found:
            if option in defaults and value is None:
                continue
            result[found[0]] = value
            if found[0] != option:
                notes.append(f"{option} is called {found[0]}")
            default = names[found[0]]
            if option in defaults and default is not inspect.Parameter.empty and default != value:
                notes.append(
                    f"{found[0]} is {default} by default, {value} in PyTorch, which was passed on"
                )
        elif option in given and isinstance(value, bool):
            # A class may be what the option asks for: Nesterov for nesterov=True.
            notes.append(f"it has no setting for {option}={value}, and is compared with that")
        elif option in given:
            raise UsageError(
                f"the subject has no setting for {option}={value!r}; its settings are "
                f"{', '.join(names) or 'none'}; rename it with reference_options, "
                "which are PyTorch's where options are the subject's"
            )
    return result, notes
