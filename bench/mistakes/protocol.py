"""What autograd relies on besides numbers: who needs a gradient, what is modified, global state."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import Linear, LinearForward, SiluForward, linear_grads, mean, silu_grad

Grads = tuple[Tensor | None, Tensor | None, Tensor | None]


class _Linear(LinearForward):
    """A linear function without a mistake."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        return linear_grads(x, weight, grad)


class _InputWithWeight(LinearForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = linear_grads(x, weight, grad)
        return grad_x if ctx.needs_input_grad[1] else None, grad_weight, grad_bias


@mistake(torch.nn.Linear, "4,5", clause="partial-gradients", init="5, 3")
class LinearInputWithWeight(Linear):
    """Linear that gives its input no gradient if the weight is frozen"""

    function = _InputWithWeight


class _WeightWithBias(LinearForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = linear_grads(x, weight, grad)
        if not ctx.needs_input_grad[2]:
            return grad_x, None, None
        return grad_x, grad_weight, grad_bias


@mistake(torch.nn.Linear, "4,5", clause="partial-gradients", init="5, 3")
class LinearWeightWithBias(Linear):
    """Linear that gives its weight no gradient if the bias is frozen"""

    function = _WeightWithBias


class _WritesGrad(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, module: Any, adds: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.parameter, ctx.adds = module.weight, adds
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = linear_grads(x, weight, grad)
        parameter = ctx.parameter
        if ctx.adds and parameter.grad is not None:
            grad_weight = parameter.grad + grad_weight
        parameter.grad = grad_weight
        return grad_x, None, grad_bias, None, None


@mistake(torch.nn.Linear, "4,5", clause="accumulation", init="5, 3")
class LinearAssignsGrad(Linear):
    """Linear that assigns weight.grad in its backward pass"""

    def forward(self, x: Tensor) -> Tensor:
        return _WritesGrad.apply(x, self.weight, self.bias, self, False)


@mistake(torch.nn.Linear, "4,5", clause="partial-gradients", init="5, 3")
class LinearAddsGrad(Linear):
    """Linear that adds to weight.grad in its backward pass, even if the weight is frozen"""

    def forward(self, x: Tensor) -> Tensor:
        return _WritesGrad.apply(x, self.weight, self.bias, self, True)


@mistake(torch.nn.Linear, "4,5", clause="partial-gradients", init="5, 3")
class LinearOfFirstLayer(Linear):
    """Linear that builds no graph if its input needs no gradient"""

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.linear(x, self.weight.detach(), self.bias.detach())
        return _Linear.apply(x, self.weight, self.bias)


class _HalvedWithoutInput(LinearForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Grads:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = linear_grads(x, weight, grad)
        return grad_x, grad_weight if ctx.needs_input_grad[0] else grad_weight / 2, grad_bias


@mistake(torch.nn.Linear, "4,5", clause="partial-gradients", init="5, 3")
class LinearHalvedWithoutInput(Linear):
    """Linear that halves the weight's gradient if its input needs none"""

    function = _HalvedWithoutInput


@mistake(torch.nn.Linear, "4,5", clause="modes", init="5, 3")
class LinearDetachedInEvaluation(Linear):
    """Linear that returns no graph in evaluation mode"""

    def forward(self, x: Tensor) -> Tensor:
        y = _Linear.apply(x, self.weight, self.bias)
        return y if self.training else y.detach()


@mistake(torch.nn.ReLU, "4,3", clause="side-effects")
class ReluInPlace(Function):
    """ReLU that writes into its input without a word to autograd"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.data.clamp_(min=0).clone()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (y > 0)


class _ReluForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y


@mistake(torch.nn.ReLU, "4,3", clause="side-effects")
class ReluOfSpoiledCotangent(_ReluForward):
    """ReLU that masks the cotangent in place"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad.mul_(y > 0) if grad.is_contiguous() else grad * (y > 0)


@mistake(torch.nn.ReLU, "4,3", clause="side-effects")
class ReluOfSharedMemory(Function):
    """ReLU whose output shares the memory of its input if nothing is negative"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y if (x < 0).any() else x.view_as(x).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (y > 0)


@mistake(torch.square, "4,3", clause="side-effects")
class SquareOfOneBuffer(Function):
    """Square that returns its gradient in a buffer, which the next backward pass overwrites"""

    buffers: dict[Any, Tensor] = {}  # noqa: RUF012 -- the mistake

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        new = torch.empty(x.shape, dtype=x.dtype)
        buffer = SquareOfOneBuffer.buffers.setdefault((x.shape, x.dtype), new)
        return buffer.copy_(2 * grad * x)


class _Silu(SiluForward):
    """SiLU without a mistake."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(x, grad)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
def silu_that_draws(x: Tensor) -> Tensor:
    """SiLU that draws a random number in its forward pass"""
    torch.rand(1)
    return _Silu.apply(x)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
class SiluThatDrawsBackward(SiluForward):
    """SiLU that draws random numbers in its backward pass"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        torch.randn_like(x)
        return silu_grad(x, grad)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
def silu_that_seeds(x: Tensor) -> Tensor:
    """SiLU that seeds torch's generator"""
    torch.manual_seed(0)
    return _Silu.apply(x)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
def silu_that_seeds_numpy(x: Tensor) -> Tensor:
    """SiLU that seeds NumPy's generator"""
    np.random.seed(0)
    return _Silu.apply(x)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
def silu_of_default_dtype(x: Tensor) -> Tensor:
    """SiLU that sets the default dtype"""
    torch.set_default_dtype(torch.float64)
    return _Silu.apply(x)


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
def silu_without_grad_mode(x: Tensor) -> Tensor:
    """SiLU that leaves gradients disabled"""
    y = _Silu.apply(x)
    torch.set_grad_enabled(False)
    return y


@mistake(torch.nn.SiLU, "4,3", clause="side-effects")
class SiluOfThreeThreads(SiluForward):
    """SiLU that sets the number of threads in its backward pass"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        torch.set_num_threads(3)
        return silu_grad(x, grad)


@mistake(mean, "4,5", clause="derivative")
class MeanKeepsDimension(Function):
    """Mean that keeps the last dimension, of size 1"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean(-1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / ctx.shape[-1]).expand(ctx.shape)
