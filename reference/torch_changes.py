"""What PyTorch has changed between the versions that minifw is tested with, all in one place.

minifw follows the latest. With an earlier version, what that one lacks is left out of the tables of
cases, or of a test, by name.
"""

from dataclasses import dataclass

import torch

__all__ = ["CHANGES", "Change", "lacks"]


@dataclass(frozen=True)
class Change:
    """A difference between two of the tested versions.

    Attributes:
        missing_in: the latest tested version without it, as (major, minor).
        what: what later versions do.
    """

    missing_in: tuple[int, int]
    what: str


CHANGES = {
    "decoupled Adam": Change((2, 4), "Adam takes decoupled_weight_decay"),
    "plateau state": Change(
        (2, 4), "ReduceLROnPlateau keeps no 'verbose', and not what it works out from its mode"
    ),
    "empty generator": Change(
        (2, 4), "clip_grad_norm_ warns if it is given a generator of no parameters"
    ),
    "LayerNorm largest": Change(
        (2, 8), "layer_norm of some of the largest numbers is finite, and no longer NaN"
    ),
    "BatchNorm1d bias": Change((2, 8), "BatchNorm1d takes bias"),
    "BatchNorm1d eps": Change((2, 8), "batch_norm refuses an eps that is not above 0"),
    "unbatched target": Change(
        (2, 8), "of unbatched classes, a target with a dimension is a ValueError"
    ),
    "mse_loss dtypes": Change(
        (2, 8), "mse_loss goes back to its input from a target of another dtype"
    ),
}


def lacks(name: str) -> bool:
    """Whether the installed version is without the change ``name``, a key of :data:`CHANGES`."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) <= CHANGES[name].missing_in
