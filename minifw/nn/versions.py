"""Version counters: how often a tensor was modified in place, so that a stale one is noticed."""

from torch import Tensor

__all__ = ["modified", "version", "versions"]


def version(tensor: Tensor) -> int:
    """Return how often the tensor was modified in place; 0 for one of inference mode."""
    try:
        return tensor._version
    except RuntimeError:
        return 0


def versions(tensors: list[Tensor]) -> list[int]:
    """Return :func:`version` of each tensor."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [version(tensor) for tensor in tensors]


def modified(what: str, tensor: Tensor) -> str:
    """Return the message for a tensor that changed between the forward and the backward pass."""
    return (
        f"{what} of shape {list(tensor.shape)} that the backward pass needs has been modified in "
        "place since the call; call backward before changing what it used, or clone it"
    )
