"""Rectifiers: activations near 0 for negative x and near x for positive x, with derivatives."""

import math

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback, constant, refuse_inplace, widened

__all__ = [
    "ELU", "GELU", "LeakyReLU", "ReLU", "SiLU", "Softplus", "elu", "gelu", "leaky_relu", "relu",
    "silu", "softplus",
]  # fmt: skip


def relu(input: Tensor) -> tuple[Tensor, Pullback]:
    """max(x, 0), elementwise; its derivative is 1 where the output is positive and 0 elsewhere.

    As in torch, the derivative at 0 is 0, and NaN passes its gradient on.
    """
    output = torch.threshold(input, 0, 0)  # unlike clamp_min, it never returns -0

    def pullback(grad_output: Tensor) -> Tensor:
        # torch.where(output != 0, grad_output, 0) branches on every entry, and takes several times
        # as long on random signs. This multiplies the gradient's bits, as integers, by 0 or 1,
        # which is also right for infinity and NaN.
        dtype = _INTEGERS[output.element_size()]
        mask = torch.empty_like(output, dtype=dtype)
        torch.ne(output.view(dtype), constant(0, dtype, output.device), out=mask)
        return mask.mul_(grad_output.view(dtype)).view(output.dtype)

    return output, pullback


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _refuse_whole(input: Tensor, name: str) -> None:
    """Raise NotImplementedError, as torch, for numbers whose results would be truncated."""
    if not (input.is_floating_point() or input.is_complex()):
        raise NotImplementedError(
            f"{name} is not implemented for {input.dtype}; convert the input with .float()"
        )


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> tuple[Tensor, Pullback]:
    """x where x > 0, else negative_slope x; its derivative is 1, else negative_slope."""
    _refuse_whole(input, "leaky_relu")
    positive = input > 0

    def scale(tensor: Tensor) -> Tensor:
        return torch.where(positive, tensor, tensor * negative_slope)

    return scale(input), scale  # linear on either side, so it is its own pullback


def elu(input: Tensor, alpha: float = 1.0) -> tuple[Tensor, Pullback]:
    """x where x > 0, else alpha (exp(x) - 1); its derivative is 1, else alpha exp(x)."""
    _refuse_whole(input, "elu")
    output = torch.where(input < 0, torch.expm1(input) * alpha, input)

    def pullback(grad_output: Tensor) -> Tensor:
        return torch.where(input > 0, grad_output, grad_output * alpha * torch.exp(input))

    return output, pullback


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> tuple[Tensor, Pullback]:
    """log(1 + exp(beta x)) / beta, elementwise; its derivative is 1 / (1 + exp(-beta x)).

    Where beta x > threshold the output is x itself and the derivative 1.
    """
    _refuse_whole(input, "softplus")
    scaled = widened(input) * beta
    exponential = torch.exp(scaled)
    linear = scaled > threshold
    output = torch.where(linear, input, torch.log1p(exponential) / beta)

    def pullback(grad_output: Tensor) -> Tensor:
        grad_input = grad_output * exponential / (exponential + 1)
        return torch.where(linear, grad_output, grad_input).to(input.dtype)

    return output.to(input.dtype), pullback


def gelu(input: Tensor, approximate: str = "none") -> tuple[Tensor, Pullback]:
    """x P(x), elementwise, with P the distribution function of N(0, 1), p its density.

    ::

        approximate "none":  P(x) = (1 + erf(x / sqrt(2))) / 2
        approximate "tanh":  P(x) = (1 + tanh(u)) / 2,  u = sqrt(2 / pi) (x + 0.044715 x^3)

    The derivative is P(x) + x P'(x), with P' = p(x) = exp(-x^2 / 2) / sqrt(2 pi), or for "tanh"
    (1 - tanh(u)^2) u' / 2.

    Raises:
        RuntimeError: approximate is neither "none" nor "tanh".
    """
    _refuse_whole(input, "gelu")
    dtype, input = input.dtype, widened(input)
    if approximate == "none":
        distribution = (torch.erf(input * math.sqrt(0.5)) + 1) * 0.5

        def density() -> Tensor:
            return torch.exp(input * input * -0.5) * (1 / math.sqrt(2 * math.pi))

    elif approximate == "tanh":
        factor = math.sqrt(2 / math.pi)
        tanh = torch.tanh((input + input * input * input * 0.044715) * factor)
        distribution = (tanh + 1) * 0.5

        def density() -> Tensor:
            return (1 - tanh * tanh) * 0.5 * ((input * input * (3 * 0.044715) + 1) * factor)

    else:
        raise RuntimeError(f"approximate argument must be either none or tanh, got {approximate!r}")
    output = (input * distribution).to(dtype)
    return output, lambda grad: (grad * (distribution + input * density())).to(dtype)


def silu(input: Tensor) -> tuple[Tensor, Pullback]:
    """x s(x), elementwise, with s(x) = 1 / (1 + exp(-x)); its derivative is s (1 + x (1 - s))."""
    _refuse_whole(input, "silu")
    sigmoid = torch.sigmoid(input)
    return input * sigmoid, lambda grad: grad * sigmoid * (1 + input * (1 - sigmoid))


class ReLU(Module, capturable=True):
    """max(x, 0), elementwise.

    Args:
        inplace: refused when True. Default: False.

    Shape: input and output (\\*), any shape.

    Source: reports 000 to 004; :class:`torch.nn.ReLU`.
    """

    def __init__(self, inplace: bool = False) -> None:
        refuse_inplace(inplace)

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return relu(input)


class LeakyReLU(Module, capturable=True):
    """x where x > 0, else negative_slope x, elementwise.

    Args:
        negative_slope: slope below 0. Default: 0.01.
        inplace: refused when True. Default: False.

    Shape: input and output (\\*), any shape.

    Source: :class:`torch.nn.LeakyReLU`.
    """

    _shown = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        refuse_inplace(inplace)
        self.negative_slope = negative_slope

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return leaky_relu(input, self.negative_slope)


class ELU(Module, capturable=True):
    """x where x > 0, else alpha (exp(x) - 1), elementwise.

    Args:
        alpha: minus the limit towards minus infinity. Default: 1.0.
        inplace: refused when True. Default: False.

    Shape: input and output (\\*), any shape.

    Source: Clevert et al. (2015), Fast and accurate deep network learning by exponential linear
    units; :class:`torch.nn.ELU`.
    """

    _shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        refuse_inplace(inplace)
        self.alpha = alpha

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return elu(input, self.alpha)


class Softplus(Module, capturable=True):
    """log(1 + exp(beta x)) / beta, elementwise; x itself where beta x > threshold.

    Args:
        beta: how sharply it bends at 0. Default: 1.0.
        threshold: value of beta x above which it is linear. Default: 20.0.

    Shape: input and output (\\*), any shape.

    Source: :class:`torch.nn.Softplus`.
    """

    _shown = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return softplus(input, self.beta, self.threshold)


class GELU(Module, capturable=True):
    """x P(x), elementwise, with P the distribution function of N(0, 1).

    Args:
        approximate: "none" for P by the error function, "tanh" for an estimate. Default: "none".

    Shape: input and output (\\*), any shape.

    Source: Hendrycks and Gimpel (2016), Gaussian error linear units; :class:`torch.nn.GELU`.
    """

    _shown = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return gelu(input, self.approximate)


class SiLU(Module, capturable=True):
    """x / (1 + exp(-x)), elementwise.

    Args:
        inplace: refused when True. Default: False.

    Shape: input and output (\\*), any shape.

    Source: Elfwing et al. (2017), Sigmoid-weighted linear units; :class:`torch.nn.SiLU`.
    """

    def __init__(self, inplace: bool = False) -> None:
        refuse_inplace(inplace)

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return silu(input)
