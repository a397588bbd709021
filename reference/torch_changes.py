"""Changes of PyTorch between the versions that minifw is tested with.

minifw follows the latest version. With an earlier one, rows of the tables of cases and tests that
need a later change are left out, by its name.
"""

from dataclasses import dataclass

import torch

__all__ = ["CHANGES", "Change", "lacks"]


@dataclass(frozen=True)
class Change:
    """A difference between two of the tested versions.

    Attributes:
        missing_in: the latest tested version without the change, as (major, minor).
        what: the behavior of later versions.
    """

    missing_in: tuple[int, int]
    what: str


CHANGES = {
    "decoupled Adam": Change((2, 4), "Adam accepts decoupled_weight_decay"),
    "plateau state": Change(
        (2, 4), "the state of ReduceLROnPlateau has no 'verbose' and nothing derived from its mode"
    ),
    "empty generator": Change(
        (2, 4), "clip_grad_norm_ warns if it is given a generator of no parameters"
    ),
    "LayerNorm largest": Change(
        (2, 8), "layer_norm of some of the largest numbers is finite, and no longer NaN"
    ),
    "BatchNorm1d bias": Change((2, 8), "BatchNorm1d accepts bias"),
    "BatchNorm1d eps": Change((2, 8), "batch_norm refuses an eps that is not above 0"),
    "unbatched target": Change(
        (2, 8), "for unbatched classes, a target with a dimension is a ValueError"
    ),
    "mse_loss dtypes": Change((2, 8), "mse_loss has a gradient if the target has another dtype"),
}


def lacks(name: str) -> bool:
    """Whether the installed version lacks the change ``name``, a key of :data:`CHANGES`."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) <= CHANGES[name].missing_in
