"""What a subject is called in, and what it must not leave behind."""

import contextlib
import os
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["called_in", "kept", "restored"]


def _set_deterministic(mode: int) -> None:
    torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


# What a call may not change for everybody else: how to read it, and how to put it back.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the precision of matrix products": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "the choice of deterministic algorithms": (
        torch.get_deterministic_debug_mode,
        _set_deterministic,
    ),
    "the working folder": (os.getcwd, os.chdir),
}


def _draws() -> tuple[Any, ...]:
    """Where the global generators stand: equal only if no number was drawn, and no seed set."""
    _, keys, place, *gauss = np.random.get_state()
    return (
        torch.default_generator.get_state().numpy().tobytes(),
        (keys.tobytes(), place, *gauss),
        random.getstate(),
    )


@contextlib.contextmanager
def kept(changes: list[str], call: str) -> Iterator[None]:
    """Context of one call of a subject: notes which global state it changes.

    Settings are put back; where the generators stand is not, as a random layer moves them by right.

    Args:
        changes: to note it in.
        call: "forward" or "backward".
    """
    settings = {name: read() for name, (read, _) in SETTINGS.items()}
    drawn = _draws()
    try:
        yield
    finally:
        for name, (read, write) in SETTINGS.items():
            now = None
            with contextlib.suppress(OSError):  # a working folder that is no more
                now = read()
            if now != settings[name]:
                changes.append(f"{name} was changed by {call}")
                write(settings[name])
        if _draws() != drawn:
            changes.append(f"a random generator was used by {call}")


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Context whose end puts back what code switches globally when it is imported or called.

    That is autograd (course code calls ``torch.set_grad_enabled(False)`` at import), torch's
    default dtype and NumPy's treatment of floating-point errors.
    """
    dtype, errors = torch.get_default_dtype(), np.geterr()
    grad = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        np.seterr(**errors)


@contextlib.contextmanager
def called_in(dtype: torch.dtype) -> Iterator[None]:
    """Context for the calls of a foreign subject.

    ``dtype`` is torch's default, autograd is on, warnings are no errors and NumPy overflows in
    silence, as torch does.
    """
    with restored(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        torch.set_grad_enabled(True)
        torch.set_default_dtype(dtype)
        yield
