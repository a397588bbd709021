"""What a subject is called in, and what it must not leave behind."""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["called_in", "restored"]


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
