"""Settings: what a run was begun with, as texts by name, to recognize the checkpoint of another."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

__all__ = ["describe", "options"]


def describe(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Iterate over the names and texts of the settings in ``value``.

    Modules give their class and constructor arguments; optimizers the options of each parameter
    group; generators their seed; tensors dtype, shape and a digest; other objects their class and
    their :func:`options`.
    """
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        digest = hashlib.sha256(data).hexdigest()[:8]
        yield name, f"{value.dtype} {list(value.shape)} with digest {digest}"
    elif isinstance(value, Generator):
        yield name, f"seed {value.initial_seed()}"
    elif _is_plain(value):
        yield name, repr(value)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from describe(f"{name}[{index}]", item)
    elif hasattr(value, "named_modules"):
        for path, module in value.named_modules():
            yield f"{name}.{path}".rstrip("."), _module(module)
    else:
        yield name, getattr(value, "__qualname__", type(value).__name__)
        groups = getattr(value, "param_groups", [getattr(value, "__dict__", {})])
        for index, group in enumerate(groups):
            place = f"{name}.param_groups[{index}]" if hasattr(value, "param_groups") else name
            for key, option in options(group).items():
                yield f"{place}.{key}", repr(option)


def options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public attributes that are numbers, strings, None, or lists and dicts of them."""
    return {
        key: value
        for key, value in attributes.items()
        if not key.startswith("_") and _is_plain(value)
    }


def _module(module: Any) -> str:
    """The module's class with the arguments of its representation and its other options."""
    shown = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
    others = [
        f"{key}={value!r}"
        for key, value in options(vars(module)).items()
        if key != "training" and f"{key}=" not in shown
    ]
    return f"{type(module).__name__}({', '.join(filter(None, [shown, *others]))})"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, str | int | float)
