"""Gradient clipping, on the surface of :mod:`torch.nn.utils`.

A clipped gradient is a new tensor: a gradient that was read never changes later.
"""

import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), with the norm of all together.

    Args:
        parameters: parameters whose gradients to clip; None gradients are skipped.
        max_norm: the largest allowed norm.
        norm_type: p of the p-norm; inf for the largest entry. Default: 2.
        error_if_nonfinite: whether a norm that is NaN or infinite is an error. Default: False.

    Returns:
        The norm before the clipping, a scalar; 0 without gradients.

    Raises:
        RuntimeError: the norm is not finite, and error_if_nonfinite.

    Source: :func:`torch.nn.utils.clip_grad_norm_`.
    """
    clipped = _with_grad(parameters)
    if not clipped:
        return torch.tensor(0.0)
    grads = [grad for _, grad in clipped]
    norms = torch._foreach_norm(grads, norm_type)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not norm.isfinite():
        raise RuntimeError(
            f"The total norm of order {norm_type} of the gradients is non-finite ({norm.item()}), "
            "so it cannot be clipped; find the gradient that is not finite, or set "
            "error_if_nonfinite=False to scale by it anyway"
        )
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for (parameter, _), grad in zip(clipped, torch._foreach_mul(grads, scale), strict=True):
        parameter.grad = grad
    return norm


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Move each entry of each gradient into [-clip_value, clip_value].

    Args:
        parameters: parameters whose gradients to clip; None gradients are skipped.
        clip_value: the largest allowed absolute value.

    Source: :func:`torch.nn.utils.clip_grad_value_`.
    """
    for parameter, grad in _with_grad(parameters):
        parameter.grad = grad.clamp(-clip_value, clip_value)


def _with_grad(parameters: Parameter | Iterable[Parameter]) -> list[tuple[Parameter, Tensor]]:
    listed = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    if not listed and isinstance(parameters, Iterator):
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur; "
            "call model.parameters() again",
            stacklevel=3,
        )
    return [(parameter, parameter.grad) for parameter in listed if parameter.grad is not None]
