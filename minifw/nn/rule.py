"""Rules: how a layer states its value and its derivative at once.

A *rule* returns an output and its *pullback*: a closure that maps the gradient of the output to the
gradient of each input (one tensor for one input, a tuple for several). What the backward pass needs
lives in that closure, so it belongs to the call and not to the module: a module used twice, or
called several times before its backward passes, is right by construction.
"""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter

if TYPE_CHECKING:
    from minifw.nn.tape import Tape

__all__ = ["ALL", "NOT_DIFFERENTIATED", "Grads", "Needs", "Pullback", "no_grad", "parametric_rule"]

Pullback = Callable[..., Any]

# Of a function of an input, a weight and a bias: which gradients are needed, and what comes back.
Needs = tuple[bool, bool, bool]
ALL: Needs = (True, True, True)
Grads = tuple[Tensor | None, ...]

# What a pullback returns for an input that has influence but that it does not differentiate, as a
# loss for its target. None, in contrast, says that there is no influence and nothing is lost.
NOT_DIFFERENTIATED: Any = object()


class _ForwardPass(threading.local):
    """What the modules called in this thread have to know of the pass that they are part of."""

    tape: "Tape | None" = None  # of the composed module whose forward is running
    recording: bool = True


forward_pass = _ForwardPass()


class no_grad(contextlib.ContextDecorator):  # noqa: N801 -- torch's name
    """Context in which calls keep nothing for a backward pass; also a decorator.

    As :class:`torch.no_grad`, for minifw alone: autograd's own mode is left as it is.
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(forward_pass.recording)
        forward_pass.recording = False

    def __exit__(self, *_: object) -> None:
        forward_pass.recording = self._before.pop()


def parametric_rule(
    function: Callable[..., tuple[Tensor, Pullback]],
    input: Tensor,
    weight: Parameter | None,
    bias: Parameter | None,
    **options: Any,
) -> tuple[Tensor, Pullback]:
    """The rule of a module with a weight and a bias, from a function of its input and their values.

    Args:
        function: ``function(input, weight=..., bias=..., **options)`` returns output and pullback;
            the pullback takes the gradient of the output and ``needs_input_grad``, a bool for each
            of the three, and returns their gradients, None where none is needed. Those of weight
            and bias must be new tensors.
        input: the input of the module.
        weight, bias: its parameters; None for one that it does without.
        options: passed on to ``function``.

    Returns:
        The output, and a pullback that adds to the parameters' gradients and returns the input's.
    """
    weight_data = None if weight is None else weight.data
    bias_data = None if bias is None else bias.data
    output, pullback = function(input, weight=weight_data, bias=bias_data, **options)
    then = 0 if weight_data is None else version(weight_data)

    # A simple annotation: those of an inner function are evaluated in every call of the outer.
    def pull_and_add(grad_output: Tensor, needs_input_grad: bool = True) -> Any:
        if weight_data is not None and version(weight_data) != then:
            raise RuntimeError(modified("a weight", weight_data))
        grad_input, grad_weight, grad_bias = pullback(
            grad_output,
            (
                needs_input_grad,
                weight is not None and weight.requires_grad,
                bias is not None and bias.requires_grad,
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

    A rule leaves its input as it is, since the pullback of the module that made it may need it.
    """
    if inplace:
        raise NotImplementedError(
            "inplace=True is not supported: the backward pass may need the input as it was; leave "
            "inplace out"
        )


def as_tuple(output: Any) -> tuple[Any, ...]:
    """The outputs of a module that returned one tensor or a tuple of them."""
    return output if isinstance(output, tuple) else (output,)


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 if it is of half precision, in which squares and exponentials overflow.

    Torch's kernels compute so inside.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def version(tensor: Tensor) -> int:
    """How often the tensor was modified in place; inference tensors do not count it."""
    try:
        return tensor._version
    except RuntimeError:
        return 0


def versions(tensors: list[Tensor]) -> list[int]:
    """:func:`version` of each."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [version(tensor) for tensor in tensors]


@functools.lru_cache(maxsize=1024)
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``value`` as a scalar tensor, to be left as it is.

    As an operand it costs a fraction of the Python number, of which torch makes one a call.
    """
    return torch.tensor(value, dtype=dtype, device=device)


def not_differentiated(module: object) -> str:
    """The message for a gradient that trained parameters need and that ``module`` does not give."""
    return (
        f"{type(module).__name__} gives no gradient of one of its inputs, but parameters that are "
        "trained lie behind it; freeze them with requires_grad_(False) or compute that input in a "
        "pass of its own"
    )


def modified(what: str, tensor: Tensor) -> str:
    """The message for a tensor that is no longer what the forward pass computed with."""
    return (
        f"{what} of shape {list(tensor.shape)} that the backward pass needs has been modified in "
        "place since the call; go back through a call before changing what it used, or clone it"
    )
