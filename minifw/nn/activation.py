"""Activations: element-wise functions, each beside its derivative."""

from collections.abc import Callable

import torch
from torch import Tensor

from minifw.nn.module import Module
from minifw.nn.rule import Pullback, constant

__all__ = ["Activation", "Sigmoid", "Tanh", "activation", "sigmoid", "tanh"]


def activation(
    input: Tensor, function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Pullback]:
    """function(x), elementwise, for a function of the user; its derivative is derivative(x).

    Raises:
        RuntimeError: the function or its derivative returns another shape than the input's.
    """

    def evaluate(name: str, elementwise: Callable[[Tensor], Tensor]) -> Tensor:
        values = elementwise(input)
        if values.shape != input.shape:
            raise RuntimeError(
                f"expected {name} of the activation to return shape {list(input.shape)}, as "
                f"its input, got {list(values.shape)}; it must work elementwise"
            )
        return values

    return evaluate("function", function), lambda grad: grad * evaluate("derivative", derivative)


def tanh(input: Tensor) -> tuple[Tensor, Pullback]:
    """tanh(x), elementwise; its derivative is 1 - output^2."""
    output = torch.tanh(input)

    def pullback(grad_output: Tensor) -> Tensor:
        # 1 - output^2 in one rounding, as torch: near saturation, two roundings lose digits.
        unit = constant(1.0, output.dtype, output.device)
        return grad_output * torch.addcmul(unit, output, output, value=-1)

    return output, pullback


def sigmoid(input: Tensor) -> tuple[Tensor, Pullback]:
    """1 / (1 + exp(-x)), elementwise; its derivative is output (1 - output)."""
    output = torch.sigmoid(input)

    def pullback(grad_output: Tensor) -> Tensor:
        unit = constant(1.0, output.dtype, output.device)
        return grad_output * (unit - output) * output

    return output, pullback


class Activation(Module, capturable=True):
    """An element-wise function of the user, given with its derivative.

    >>> square = Activation(torch.square, lambda x: 2 * x)
    >>> square(torch.tensor([3.0])), square.backward(torch.tensor([1.0]))
    (tensor([9.]), tensor([6.]))
    >>> class Sine(Activation):
    ...     def function(self, input):
    ...         return torch.sin(input)
    ...
    ...     def derivative(self, input):
    ...         return torch.cos(input)

    Args:
        function: maps a tensor to a tensor of the same shape. Default: the subclass's method.
        derivative: maps a tensor to the derivative of ``function``. Default: the subclass's method.

    Shape: input and output (\\*), any shape.

    Raises:
        TypeError: only one of both is given, or none and the class does not define both.

    Source: report 001.
    """

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]

    def __init__(
        self,
        function: Callable[[Tensor], Tensor] | None = None,
        derivative: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if function is not None and derivative is not None:
            self.function = function
            self.derivative = derivative
        elif not (
            function is derivative is None
            and hasattr(type(self), "function")
            and hasattr(type(self), "derivative")
        ):
            raise TypeError(
                "Activation expects a function and its derivative; pass both, or define both as "
                "methods of a subclass"
            )

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return activation(input, self.function, self.derivative)


class Tanh(Module, capturable=True):
    """Hyperbolic tangent, elementwise.

    Shape: input and output (\\*), any shape.

    Source: reports 000 to 004; :class:`torch.nn.Tanh`.
    """

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return tanh(input)


class Sigmoid(Module, capturable=True):
    """1 / (1 + exp(-x)), elementwise.

    Shape: input and output (\\*), any shape.

    Source: reports 000, 002 and 003; :class:`torch.nn.Sigmoid`.
    """

    def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
        return sigmoid(input)
