"""Normalization to mean 0 and variance 1, and LayerNorm, over the features of a sample."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.parameter import Parameter
from minifw.nn.rule import ALL, Grads, Needs, Pullback, parametric_rule, widened

__all__ = ["LayerNorm", "layer_norm"]


def moments_over(input: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return variance and mean over dimensions, kept with size 1; 0 where there are no values."""
    input = widened(input)
    if input.numel():
        # Not var_mean, whose mean of infinity is NaN.
        return torch.var(input, over, correction=0, keepdim=True), input.mean(over, keepdim=True)
    zeros = input.sum(over, keepdim=True)
    return zeros, zeros


def normalize(
    input: Tensor,
    moments: tuple[Tensor, Tensor],
    over: tuple[int, ...] | None,
    weight: Tensor | None,
    bias: Tensor | None,
    sum_over: tuple[int, ...],
    eps: float,
) -> tuple[Tensor, Pullback]:
    """z weight + bias, with z = (input - mean) / sqrt(variance + eps).

    ``over`` are the dimensions of ``input`` that the moments were computed over; None for constant
    moments. ``sum_over`` are the dimensions that weight and bias are broadcast over. With G
    the gradient of the output and mean() over ``over``::

        grad_z      = G weight
        grad_input  = (grad_z - mean(grad_z) - z mean(grad_z z)) / sqrt(variance + eps)
        grad_weight = sum G z
        grad_bias   = sum G

    The two means are the derivatives through mean and variance; constant moments have none.
    """
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(
            f"expected input of {weight.dtype}, as the weight, got {input.dtype}; convert one of "
            "them with .to()"
        )
    dtype, wide = input.dtype, widened(input)
    variance, mean = map(widened, moments)
    scale = torch.rsqrt(variance + eps)
    normalized = (wide - mean) * scale
    output = normalized if weight is None else normalized * weight
    if bias is not None:
        output = output + bias

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> Grads:
        grad_input = grad_weight = grad_bias = None
        if needs_input_grad[0]:
            grad = grad_output if weight is None else grad_output * weight
            if over is not None:
                through_variance = normalized * (grad * normalized).mean(over, keepdim=True)
                grad = grad - grad.mean(over, keepdim=True) - through_variance
            grad_input = (grad * scale).to(dtype)
        if weight is not None and needs_input_grad[1]:
            grad_weight = (grad_output * normalized).sum(sum_over).to(dtype)
        if bias is not None and needs_input_grad[2]:
            grad_bias = grad_output.sum(sum_over)
        return grad_input, grad_weight, grad_bias

    return output.to(dtype), pullback


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Pullback]:
    """(input - mean) / sqrt(variance + eps) weight + bias, with moments over the last dimensions.

    The pullback returns the gradients of input, weight and bias: see
    :func:`~minifw.nn.normalization.normalize`.

    Shape:
        - input and output: (\\*, normalized_shape).
        - weight and bias: normalized_shape; or with the first dimension of input and output in
          front, as in a stack.

    Raises:
        RuntimeError: normalized_shape is empty or not the end of the input's shape; dtypes differ.
    """
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise RuntimeError(
            f"expected input of shape (*, {', '.join(map(str, shape))}), got {list(input.shape)}; "
            "normalized_shape must be the input's last dimensions, at least one"
        )
    size = math.prod(shape)
    members = () if weight is None else weight.shape[: -len(shape)]
    rows = input.reshape(*members, math.prod(input.shape[len(members) : -len(shape)]), size)
    output, pullback_rows = normalize(
        rows,
        moments_over(rows, (-1,)),
        (-1,),
        None if weight is None else weight.reshape(*members, 1, size),
        None if bias is None else bias.reshape(*members, 1, size),
        (-2,),
        eps,
    )

    def pullback(grad_output: Tensor, needs_input_grad: Needs = ALL) -> Grads:
        grads = pullback_rows(grad_output.reshape(rows.shape), needs_input_grad)
        shapes = (input.shape, (*members, *shape), (*members, *shape))
        return tuple(
            None if grad is None else grad.view(shape)
            for grad, shape in zip(grads, shapes, strict=True)
        )

    return output.view(input.shape), pullback


class LayerNorm(Module, capturable=True):
    """(input - mean) / sqrt(variance + eps) weight + bias, with moments of each sample.

    Args:
        normalized_shape: the last dimensions of the input, which the moments are computed over.
        eps: added to the variance. Default: 1e-5.
        elementwise_affine: whether there are weight and bias. Default: True.
        bias: whether there is a bias beside the weight. Default: True.
        device: device of the parameters. Default: torch's.
        dtype: dtype of the parameters. Default: torch's.

    Shape: input and output (\\*, normalized_shape).

    Attributes:
        weight (Parameter | None): normalized_shape, from 1.
        bias (Parameter | None): normalized_shape, from 0.

    Source: Ba et al. (2016), Layer normalization; :class:`torch.nn.LayerNorm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(normalized_shape, int):
            normalized_shape = (normalized_shape,)
        self.normalized_shape = tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(torch.ones(self.normalized_shape, device=device, dtype=dtype))
        if elementwise_affine and bias:
            self.bias = Parameter(torch.zeros(self.normalized_shape, device=device, dtype=dtype))

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return parametric_rule(
            layer_norm,
            input,
            self.weight,
            self.bias,
            normalized_shape=self.normalized_shape,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )
