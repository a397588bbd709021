"""Faults in Linear, Dropout, and where layers are put together."""

from typing import Any

import torch
from torch import Tensor

from bench.faults.fault import Rule, fault, of_autograd
from minifw import nn
from minifw.nn import functional


@fault("nn.Linear")
class DividesByTheBatchSize(nn.Linear):
    """Linear's backward divided by the batch size on top of the loss"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad, **options: pullback(grad / max(len(grad), 1), **options)


@fault("nn.Linear")
class ThrowsTheSumAway(nn.Linear):
    """Linear adds its bias and throws the sum away"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output if self.bias is None else output - self.bias.data, pullback


@fault("nn.Linear")
class FailsWithoutBias(nn.Linear):
    """Linear fails with bias=False"""

    def rule(self, input: Tensor) -> Rule:
        assert self.bias is not None
        return super().rule(input)


@fault("nn.Linear")
class AssignsGradients(nn.Linear):
    """Linear assigns its gradients where they should accumulate"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)

        def pull(grad: Tensor, **options: Any) -> Any:
            self.zero_grad()
            return pullback(grad, **options)

        return output, pull


@fault("nn.Linear")
class OneEntryOff(nn.Linear):
    """Linear's weight gradient off by a factor of 1 + 1e-5 in a single entry"""

    def rule(self, input: Tensor) -> Rule:
        first = torch.zeros_like(self.weight.data)
        first[0, 0] = 1e-5

        def linear(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
            weight = weight + (weight - weight.detach()) * first
            return torch.nn.functional.linear(x, weight, *bias)

        return of_autograd(self, linear, input)


@fault("nn.Linear")
class MeanOfBias(nn.Linear):
    """Linear's bias gradient averaged over the batch where it should be summed"""

    def rule(self, input: Tensor) -> Rule:
        rows = max(input[..., 0].numel(), 1)

        def linear(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
            bias = tuple(b.detach() + (b - b.detach()) / rows for b in bias)
            return torch.nn.functional.linear(x, weight, *bias)

        return of_autograd(self, linear, input)


@fault("nn.Linear")
class TrainsFrozenParameters(nn.Linear):
    """Linear gives frozen parameters gradients all the same"""

    def rule(self, input: Tensor) -> Rule:
        self.requires_grad_(True)
        return super().rule(input)


@fault("nn.Linear")
class ReadsMemoryInOrder(nn.Linear):
    """Linear reads an input that is not contiguous in the order of its memory"""

    def rule(self, input: Tensor) -> Rule:
        dense = sorted(range(input.dim()), key=input.stride, reverse=True)
        return super().rule(input.permute(dense).reshape(input.shape))


@fault("nn.Linear")
class ForgetsStrides(nn.Linear):
    """Linear reads the gradient of its output in the order of its memory"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)

        def pull(grad: Tensor, **options: Any) -> Any:
            dense = sorted(range(grad.dim()), key=grad.stride, reverse=True)
            return pullback(grad.permute(dense).reshape(grad.shape), **options)

        return output, pull


@fault("nn.Linear")
class NothingOfNothing(nn.Linear):
    """Linear's gradients are NaN for an empty batch"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)

        def pull(grad: Tensor, **options: Any) -> Any:
            grad_input = pullback(grad, **options)
            if not len(grad):
                self.weight.grad = torch.full_like(self.weight.data, torch.nan)
            return grad_input

        return output, pull


@fault("nn.Linear")
class ThroughHalf(nn.Linear):
    """Linear computes in float16 what is in float32"""

    def rule(self, input: Tensor) -> Rule:
        if input.dtype == torch.float32:
            input = input.half().float()
        return super().rule(input)


@fault("nn.Linear")
class BiasIsTheCotangent(nn.Linear):
    """Linear's bias gradient shares its memory with the gradient of the output of one sample"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)

        def pull(grad: Tensor, **options: Any) -> Any:
            first = self.bias is not None and self.bias.requires_grad and self.bias.grad is None
            grad_input = pullback(grad, **options)
            if self.bias is not None and first and grad.numel() == self.out_features:
                self.bias.grad = grad.view(-1)
            return grad_input

        return output, pull


@fault("nn.Linear")
class KeepsItsInputInTheModule(nn.Linear):
    """Linear keeps its input in the module, where a second call overwrites it"""

    def rule(self, input: Tensor) -> Rule:
        self.input = input

        def pull(grad: Tensor, **options: Any) -> Any:
            return nn.Linear.rule(self, self.input)[1](grad, **options)

        return super().rule(input)[0], pull


@fault("nn.Linear")
class FirstBatchOnly(nn.Linear):
    """Linear's parameter gradients leave out all but the first of a batch of batches"""

    def rule(self, input: Tensor) -> Rule:
        def linear(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
            if x.dim() > 2:
                ours = torch.nn.functional.linear(x[:1], weight, *bias)
                others = torch.nn.functional.linear(x[1:], weight.detach(), *bias)
                return torch.cat([ours, others])
            return torch.nn.functional.linear(x, weight, *bias)

        return of_autograd(self, linear, input)


@fault("nn.Linear")
class RoundsItsWeight(nn.Linear):
    """Linear keeps a copy of its weight in bfloat16 for the backward pass"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        weight = self.weight.data.bfloat16().to(input.dtype)

        def pull(grad: Tensor, **options: Any) -> Any:
            pullback(grad, **options)
            return grad @ weight

        return output, pull


@fault("nn.Dropout")
class KeepsWithP(nn.Dropout):
    """Dropout takes p for the probability of keeping"""

    def rule(self, input: Tensor) -> Rule:
        return functional.dropout(input, 1 - self.p, self.training, self.generator)


@fault("nn.Dropout")
class ForgetsTheScale(nn.Dropout):
    """Dropout forgets to divide by 1 - p"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        scale = 1 - self.p if self.training else 1.0
        return output * scale, lambda grad: pullback(grad) * scale


@fault("nn.Dropout")
class ScalesAtEvaluation(nn.Dropout):
    """Dropout multiplies by 1 - p at evaluation besides dividing by it in training"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        scale = 1.0 if self.training else 1 - self.p
        return output * scale, lambda grad: pullback(grad) * scale


@fault("nn.Dropout")
class DropsAtEvaluation(nn.Dropout):
    """Dropout ignores evaluation mode"""

    def rule(self, input: Tensor) -> Rule:
        return functional.dropout(input, self.p, True, self.generator)


@fault("nn.Dropout")
class DrawsAnotherMask(nn.Dropout):
    """Dropout's backward draws a mask of its own"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], lambda grad: nn.Dropout.rule(self, grad)[0]


@fault("nn.Dropout")
class MasksTheGradientAlone(nn.Dropout):
    """Dropout's backward masks the gradient and forgets to scale it"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad: pullback(grad) * (1 - self.p if self.training else 1.0)


@fault("nn.Residual")
class DoublesTheGradient(nn.Residual):
    """Residual hands the gradient unchanged to both branches of its input and doubles it"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad, **options: (pullback(grad, **options), grad * 2)[1]


@fault("nn.Residual")
class AddsBranchesInPlace(nn.Residual):
    """Residual adds its branches' gradients into the gradient of the output"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad, **options: grad.copy_(pullback(grad, **options))


@fault("nn.Residual")
class LosesTheShortcut(nn.Residual):
    """Residual's backward forgets the branch that leads past the module"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        return output, lambda grad, **options: pullback(grad, **options) - grad


@fault("nn.Add")
class IgnoresBroadcasting(nn.Add):
    """Add's backward does not sum over the dimensions that were broadcast"""

    def rule(self, *inputs: Tensor) -> Rule:
        output, _ = super().rule(*inputs)
        return output, lambda grad: (grad,) * len(inputs) if len(inputs) > 1 else grad


@fault("nn.Multiply")
class DividesByTheInput(nn.Multiply):
    """Multiply's backward divides the product by the input, which may be 0"""

    def rule(self, *inputs: Tensor) -> Rule:
        output, _ = super().rule(*inputs)

        def pull(grad: Tensor) -> Any:
            grads = tuple((grad * output / x).sum_to_size(x.shape).to(x.dtype) for x in inputs)
            return grads if len(grads) > 1 else grads[0]

        return output, pull


@fault("nn.Concatenate")
class CutsEvenly(nn.Concatenate):
    """Concatenate's backward cuts the gradient into even parts"""

    def rule(self, *inputs: Tensor) -> Rule:
        output, _ = super().rule(*inputs)

        def pull(grad: Tensor) -> Any:
            parts = torch.tensor_split(grad, len(inputs), self.dim)
            return parts if len(parts) > 1 else parts[0]

        return output, pull


@fault("nn.Flatten")
class StaysFlat(nn.Flatten):
    """Flatten's backward returns the gradient flat"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], lambda grad: grad


@fault("nn.Sequential")
class KeepsItsMode(nn.Sequential):
    """Sequential does not pass its mode on to its modules"""

    def train(self, mode: bool = True) -> "KeepsItsMode":
        self.training = mode
        return self


@fault("nn.Sequential")
class StopsAtTheFirst(nn.Sequential):
    """Sequential's backward returns the gradient in the output of its first module"""

    def rule(self, input: Tensor) -> Rule:
        modules = list(self)
        if len(modules) < 2:
            return super().rule(input)
        first, pull_first = modules[0].call_rule(input)
        output, pullback = nn.Sequential(*modules[1:]).rule(first)

        def pull(grad: Tensor, **options: Any) -> Any:
            grad = pullback(grad)
            pull_first(grad, **options)
            return grad

        return output, pull


@fault("nn.Linear")
class ReadsThroughGaps(nn.Linear):
    """Linear reads an input with gaps in its memory as if there were none"""

    def rule(self, input: Tensor) -> Rule:
        strides = torch.empty(input.shape, device="meta").stride()
        gaps = input.dim() > 0 and input.stride(-1) > 1 and input.stride(-1) != len(input)
        return super().rule(input.as_strided(input.shape, strides) if gaps else input)


@fault("nn.Linear")
class DropsTheBatch(nn.Linear):
    """Linear drops the dimension of a batch of one"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        if input.shape[:1] != (1,) or input.dim() < 2:
            return output, pullback
        return output[0], lambda grad, **options: pullback(grad[None], **options)


@fault("nn.Flatten")
class ReadsChannelsFirst(nn.Flatten):
    """Flatten reads an image whose channels come last in memory as if they came first"""

    def rule(self, input: Tensor) -> Rule:
        if input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last):
            input = input.permute(0, 2, 3, 1).reshape(input.shape)
        return super().rule(input)


@fault("nn.Add")
class AddsIntoTheFirst(nn.Add):
    """Add adds its inputs into the first one"""

    def rule(self, *inputs: Tensor) -> Rule:
        output, pullback = super().rule(*inputs)
        return inputs[0].copy_(output) if output.shape == inputs[0].shape else output, pullback
