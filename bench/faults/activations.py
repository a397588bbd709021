"""Faults in activations and softmax."""

import math

import torch
from torch import Tensor

from bench.faults.fault import Rule, fault, of_autograd
from minifw import nn
from minifw.nn import functional


@fault("nn.ReLU")
class OverwritesItsCache(nn.ReLU):
    """ReLU's backward overwrites its cached input"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad: (input.gt_(0), pullback(grad))[1]


@fault("nn.ReLU")
class InPlace(nn.ReLU):
    """ReLU rectifies its input in place"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return input.copy_(output), pullback


@fault("nn.ReLU")
class OneAtZero(nn.ReLU):
    """ReLU's derivative at 0 is 1"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], lambda grad: grad * ~(input < 0)


@fault("nn.ReLU")
class SwallowsNan(nn.ReLU):
    """ReLU turns NaN into 0"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input.nan_to_num(0.0, torch.inf, -torch.inf))


@fault("nn.ReLU")
class RectifiesTheGradient(nn.ReLU):
    """ReLU's backward looks at the sign of the gradient"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], torch.relu


@fault("nn.LeakyReLU")
class SlopesAbove(nn.LeakyReLU):
    """LeakyReLU has its slope on the wrong side"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = functional.leaky_relu(-input, self.negative_slope)
        return -output, pullback


@fault("nn.LeakyReLU")
class FlatBelow(nn.LeakyReLU):
    """LeakyReLU's backward is that of ReLU"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], functional.relu(input)[1]


@fault("nn.ELU")
class ForgetsAlpha(nn.ELU):
    """ELU's backward forgets alpha"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], functional.elu(input)[1]


@fault("nn.ELU")
class Cancels(nn.ELU):
    """ELU computes exp(x) - 1, which loses its digits near 0"""

    def rule(self, input: Tensor) -> Rule:
        output = torch.where(input < 0, (torch.exp(input) - 1) * self.alpha, input)
        return output, super().rule(input)[1]


@fault("nn.GELU")
class TanhForErf(nn.GELU):
    """GELU computes by tanh what should be by erf"""

    def rule(self, input: Tensor) -> Rule:
        return functional.gelu(input, "tanh")


@fault("nn.GELU")
class BackwardByTanh(nn.GELU):
    """GELU's backward is that of its approximation"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], functional.gelu(input, "tanh")[1]


@fault("nn.Softplus")
class ForgetsThreshold(nn.Softplus):
    """Softplus overflows above its threshold"""

    def rule(self, input: Tensor) -> Rule:
        return functional.softplus(input, self.beta, math.inf)


@fault("nn.Softplus")
class ForgetsBeta(nn.Softplus):
    """Softplus divides its derivative by beta, as its value"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad: pullback(grad) / self.beta


@fault("nn.SiLU")
class HalfTheProductRule(nn.SiLU):
    """SiLU's backward forgets one term of the product rule"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], lambda grad: grad * torch.sigmoid(input)


@fault("nn.Tanh")
class ChangesTheCotangent(nn.Tanh):
    """Tanh's backward changes the gradient of its output in place"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad: grad.copy_(pullback(grad))


@fault("nn.Tanh")
class ForgetsTheSquare(nn.Tanh):
    """Tanh's derivative is 1 - y where it should be 1 - y^2"""

    def rule(self, input: Tensor) -> Rule:
        output, _ = super().rule(input)
        return output, lambda grad: grad * (1 - output)


@fault("nn.Sigmoid")
class Overflows(nn.Sigmoid):
    """Sigmoid computes exp(x) / (1 + exp(x)), which overflows"""

    def rule(self, input: Tensor) -> Rule:
        exponential = torch.exp(input)
        output = exponential / (1 + exponential)
        return output, lambda grad: grad * output * (1 - output)


@fault("nn.Sigmoid")
class DerivativeOfTheOutput(nn.Sigmoid):
    """Sigmoid's backward takes its output for its input"""

    def rule(self, input: Tensor) -> Rule:
        output, _ = super().rule(input)
        return output, functional.sigmoid(output)[1]


@fault("nn.Activation")
class DerivativeOfTheValue(nn.Activation):
    """Activation calls the derivative on the output"""

    def rule(self, input: Tensor) -> Rule:
        output, _ = super().rule(input)
        return output, lambda grad: grad * self.derivative(output)


def _softmax(input: Tensor, dim: int) -> Tensor:
    exponential = torch.exp(input)
    return exponential / exponential.sum(dim, keepdim=True)


@fault("nn.Softmax")
class WithoutTheMaximum(nn.Softmax):
    """Softmax does not subtract the maximum"""

    def rule(self, input: Tensor) -> Rule:
        return of_autograd(self, lambda x: _softmax(x, self.dim or 0), input)


@fault("nn.Softmax")
class DiagonalAlone(nn.Softmax):
    """Softmax's backward is the diagonal of its Jacobian alone"""

    def rule(self, input: Tensor) -> Rule:
        output, _ = super().rule(input)
        return output, lambda grad: grad * output * (1 - output)


@fault("nn.Softmax")
class Twice(nn.Softmax):
    """Softmax exponentiates twice"""

    def rule(self, input: Tensor) -> Rule:
        return of_autograd(self, lambda x: torch.softmax(torch.exp(x), self.dim or 0), input)


@fault("nn.Softmax")
class LastDimension(nn.Softmax):
    """Softmax always sums over the last dimension"""

    def rule(self, input: Tensor) -> Rule:
        return functional.softmax(input, -1)


@fault("nn.LogSoftmax")
class LogOfSoftmax(nn.LogSoftmax):
    """LogSoftmax takes the logarithm of a softmax that has underflown to 0"""

    def rule(self, input: Tensor) -> Rule:
        output = torch.log(torch.softmax(input, self.dim or 0))
        return output, super().rule(input)[1]


@fault("nn.LogSoftmax")
class LogOfAnOverflow(nn.LogSoftmax):
    """LogSoftmax overflows in the sum of its exponentials"""

    def rule(self, input: Tensor) -> Rule:
        total = torch.exp(input).sum(self.dim or 0, keepdim=True)
        return input - torch.log(total), super().rule(input)[1]


@fault("nn.LogSoftmax")
class ForgetsTheSum(nn.LogSoftmax):
    """LogSoftmax's backward forgets that the sum depends on every entry"""

    def rule(self, input: Tensor) -> Rule:
        output, _ = super().rule(input)
        return output, lambda grad: grad - torch.exp(output) * grad


@fault("nn.GELU")
class CubesInHalf(nn.GELU):
    """GELU's approximation overflows in float16, where it cubes its input"""

    def rule(self, input: Tensor) -> Rule:
        def approximation(x: Tensor) -> Tensor:
            return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

        if self.approximate == "none" or input.dtype != torch.float16:
            return super().rule(input)
        return of_autograd(self, approximation, input)


@fault("nn.Softmax")
class ThroughBfloat16(nn.Softmax):
    """Softmax rounds each exponential to bfloat16, whatever the dtype of its sum"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output.bfloat16().to(input.dtype), pullback
