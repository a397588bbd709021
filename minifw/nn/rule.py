"""Rules: how a layer defines its output and its derivative in one method.

A *rule* returns an output and its *pullback*: a closure that maps the gradient of the output to the
gradient of each input (one tensor for one input, a tuple for several). What the backward pass needs
lives in that closure, so it belongs to the call and not to the module: a module can be used twice
in a model, or called several times before its backward passes.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter
from minifw.nn.versions import modified, version

__all__ = ["ALL", "NOT_DIFFERENTIATED", "Grads", "Needs", "Pullback", "parametric_rule"]

Pullback = Callable[..., Any]

# For input, weight and bias: which gradients a pullback computes, and the gradients it returns.
Needs = tuple[bool, bool, bool]
ALL: Needs = (True, True, True)
Grads = tuple[Tensor | None, ...]

# A pullback returns it for an input that the output depends on but that the rule does not
# differentiate, such as the target of a loss. None means that the output does not depend on it.
NOT_DIFFERENTIATED: Any = object()


class HasRule(Protocol):
    """A module, as the tape sees it."""

    def call_rule(self, *inputs: Any, **options: Any) -> tuple[Any, Pullback]:
        """Return the output and its pullback."""

    def is_trained(self) -> bool:
        """Return whether a parameter of it has ``requires_grad``."""


def parametric_rule(
    function: Callable[..., tuple[Tensor, Pullback]],
    input: Tensor,
    weight: Parameter | None,
    bias: Parameter | None,
    **options: Any,
) -> tuple[Tensor, Pullback]:
    """Turn a function of input, weight and bias into the rule of a module that has both.

    Args:
        function: ``function(input, weight=..., bias=..., **options)`` returns output and pullback.
            The pullback takes the gradient of the output and ``needs_input_grad``, three bools, and
            returns three gradients, None where none is needed. The gradients of weight and bias
            must be new tensors.
        input: the input of the module.
        weight, bias: the parameters of the module; None for a parameter that it does not have.
        options: further arguments of ``function``.

    Returns:
        The output, and a pullback that adds to ``weight.grad`` and ``bias.grad`` and returns the
        gradient of the input.

    Raises:
        RuntimeError: in the pullback, the weight was modified in place since the call.
    """
    weight_data = None if weight is None else weight.data
    bias_data = None if bias is None else bias.data
    output, pullback = function(input, weight=weight_data, bias=bias_data, **options)
    then = 0 if weight_data is None else version(weight_data)
    # As torch, a parameter that is frozen during the call gets no gradient of it.
    needs_weight = weight is not None and weight.requires_grad
    needs_bias = bias is not None and bias.requires_grad

    # Python evaluates annotations of an inner function in every call of the outer: keep them short.
    def pull_and_add(grad_output: Tensor, needs_input_grad: bool = True) -> Any:
        if weight_data is not None and version(weight_data) != then:
            raise RuntimeError(modified("a weight", weight_data))
        grad_input, grad_weight, grad_bias = pullback(
            grad_output,
            (
                needs_input_grad,
                needs_weight and weight.requires_grad,  # type: ignore[union-attr]
                needs_bias and bias.requires_grad,  # type: ignore[union-attr]
            ),
        )
        if grad_weight is not None:
            weight.add_grad(grad_weight)  # type: ignore[union-attr]
        if grad_bias is not None:
            bias.add_grad(grad_bias)  # type: ignore[union-attr]
        return grad_input

    return output, pull_and_add


def refuse_inplace(inplace: bool) -> None:
    """Raise NotImplementedError for torch's ``inplace=True``.

    A rule never changes its input: the pullback of the module that computed it may need it.
    """
    if inplace:
        raise NotImplementedError(
            "inplace=True is not supported: the backward pass may need the input; omit inplace"
        )


def as_tuple(output: Any) -> tuple[Any, ...]:
    """Return ``output`` if it is a tuple, else a tuple of it alone."""
    return output if isinstance(output, tuple) else (output,)


def widened(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32 if it has half precision, where squares overflow.

    Torch's kernels do the same internally.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``value`` as a scalar tensor from a cache; never change it in place.

    An operation on it is faster than on a Python number, for which torch makes a tensor each time.
    """
    # Autograd refuses tensors made in inference mode, so each mode has constants of its own.
    return _constant(value, dtype, device, torch.is_inference_mode_enabled())


@functools.lru_cache(maxsize=1024)
def _constant(value: float, dtype: torch.dtype, device: torch.device, _mode: bool) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=device)


def not_differentiated(module: object) -> str:
    """Return the message for an input that depends on parameters and has no gradient."""
    return (
        f"{type(module).__name__} gives no gradient of one of its inputs, which depends on trained "
        "parameters; freeze them with requires_grad_(False) or compute that input in another call"
    )
