"""Origin: the tensor that a gradient returned by a criterion is the gradient of."""

import weakref
from typing import Any

from torch import Tensor

__all__ = ["note_origin", "origin"]

_origins: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # by id of the gradient


def note_origin(grad: Tensor, tensor: Tensor) -> None:
    """Remember, as long as ``grad`` exists, that it is the gradient of ``tensor``."""
    key = id(grad)
    _origins[key] = weakref.ref(grad, lambda _: _origins.pop(key, None)), tensor


def origin(grad: Any) -> Tensor | None:
    """Return the tensor that ``grad`` is the gradient of; None if nothing was noted."""
    noted = _origins.get(id(grad))
    return None if noted is None else noted[1]
