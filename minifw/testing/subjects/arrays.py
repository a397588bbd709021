"""Arrays of torch, of NumPy and of Python, converted where they enter and leave a subject."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["agree", "as_tensor", "flat", "is_array", "is_number", "to_kind"]


def is_array(value: Any) -> bool:
    """Whether it is a tensor or an array of numbers."""
    return isinstance(value, Tensor) or (
        isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf"
    )


def is_number(value: Any) -> bool:
    """Whether it is an array, or a number of Python."""
    return is_array(value) or isinstance(value, (bool, int, float))


def as_tensor(value: Any) -> Tensor:
    """A tensor that shares its memory with ``value`` where that is possible.

    Raises:
        TypeError: it is no array and no number.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        # torch knows no negative strides.
        plain = all(stride >= 0 for stride in value.strides) and value.flags.writeable
        return torch.from_numpy(value if plain else value.copy())
    if isinstance(value, np.generic):
        return torch.from_numpy(np.array(value))
    if isinstance(value, (bool, int, float)):  # a float of Python has 64 bits
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    if isinstance(value, (list, tuple)):
        return torch.from_numpy(np.asarray(value))
    raise TypeError(f"expected a tensor, an array or a number, got {type(value).__name__}")


def flat(outputs: Any) -> tuple[Tensor, ...]:
    """The tensors of an output, however it is nested; None is left out.

    Raises:
        TypeError: there is something else in it.
    """
    if isinstance(outputs, list) and outputs and all(map(is_list_of_numbers, outputs)):
        return (as_tensor(outputs),)
    return tuple(as_tensor(leaf) for leaf in tree_leaves(outputs) if leaf is not None)


def is_list_of_numbers(value: Any) -> bool:
    """Whether it is a number of Python, or a list of them, nested."""
    if isinstance(value, list):
        return all(map(is_list_of_numbers, value))
    return isinstance(value, (bool, int, float)) and not isinstance(value, np.generic)


def to_kind(tensor: Tensor, kind: str) -> Any:
    """``tensor`` as a subject takes it: "torch", "numpy", "list" or "float"."""
    if kind == "torch":
        return tensor
    if kind == "numpy":
        return tensor.detach().cpu().numpy()
    return tensor.tolist()


def agree(actual: Tensor, expected: Tensor) -> bool:
    """Whether two results are the same up to rounding, as far as an ordinary example tells."""
    if actual.shape != expected.shape or not expected.is_floating_point():
        return actual.shape == expected.shape and torch.equal(actual, expected.to(actual.dtype))
    tolerance = 1e-3 if torch.float32 in (actual.dtype, expected.dtype) else 1e-8
    actual, expected = actual.double(), expected.double()
    size = expected.abs().max().item() if expected.numel() else 0.0
    return bool(((actual - expected).abs() <= tolerance * max(size, 1e-30)).all())
