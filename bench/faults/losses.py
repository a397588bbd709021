"""Faults in losses."""

import torch
from torch import Tensor

from bench.faults.fault import Rule, differentiate, fault
from minifw import nn
from minifw.nn import functional


@fault("nn.MSELoss")
class BackwardOverRows(nn.MSELoss):
    """MSELoss averaged over all entries forward and over rows backward"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        columns = input[0].numel() if reduction == "mean" and len(input) else 1
        return output, lambda grad: pullback(grad) * columns


@fault("nn.MSELoss")
class ForgetsTheTwo(nn.MSELoss):
    """MSELoss's backward forgets the factor of 2"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        return output, lambda grad: pullback(grad) / 2


@fault("nn.MSELoss")
class IgnoresTheGradientOfTheLoss(nn.MSELoss):
    """MSELoss's backward ignores the gradient that it is given"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        return output, lambda grad: pullback(torch.ones_like(grad))


@fault("nn.MSELoss")
class SumIsAMean(nn.MSELoss):
    """MSELoss takes the reduction 'sum' for 'mean'"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        reduction = "mean" if reduction == "sum" else reduction
        return functional.mse_loss(input, target, reduction)


@fault("nn.L1Loss")
class OneAtNoDifference(nn.L1Loss):
    """L1Loss's derivative is 1 where input and target are equal"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        return output, lambda grad: torch.where(
            input == target, pullback(grad) + grad / self._count(input), pullback(grad)
        )

    def _count(self, input: Tensor) -> int:
        return max(input.numel(), 1) if self.reduction == "mean" else 1


@fault("nn.SmoothL1Loss")
class ForgetsBetaBackward(nn.SmoothL1Loss):
    """SmoothL1Loss's backward takes beta for 1"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, _ = super().loss(input, target, reduction)
        return output, functional.smooth_l1_loss(input, target, reduction)[1]


@fault("nn.HuberLoss")
class SmoothForHuber(nn.HuberLoss):
    """HuberLoss is SmoothL1Loss, which is another by a factor of delta"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        return functional.smooth_l1_loss(input, target, reduction, self.delta)


@fault("nn.BCELoss")
class BceWithoutN(nn.BCELoss):
    """BCELoss's backward without 1/N"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        count = input.numel() if reduction == "mean" else 1
        return output, lambda grad: pullback(grad) * count


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


@fault("nn.BCELoss")
class UnboundedLogarithm(nn.BCELoss):
    """BCELoss takes the logarithm of a probability that may be exactly 0 or 1"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        weight = torch.ones_like(input) if self.weight is None else self.weight
        losses = -weight * (target * input.log() + (1 - target) * (1 - input).log())
        return _reduced(losses, reduction), super().loss(input, target, reduction)[1]


@fault("nn.BCEWithLogitsLoss")
class LogOfSigmoid(nn.BCEWithLogitsLoss):
    """BCEWithLogitsLoss takes the logarithm of a sigmoid that has become 0"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        weight, positive = (
            torch.ones_like(input) if it is None else it for it in (self.weight, self.pos_weight)
        )
        yes, no = torch.log(torch.sigmoid(input)), torch.log(1 - torch.sigmoid(input))
        losses = -weight * (positive * target * yes + (1 - target) * no)
        return _reduced(losses, reduction), super().loss(input, target, reduction)[1]


@fault("nn.BCEWithLogitsLoss")
class WeighsTheNegatives(nn.BCEWithLogitsLoss):
    """BCEWithLogitsLoss puts pos_weight on the negative term"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        if self.pos_weight is None:
            return super().loss(input, target, reduction)
        output, pullback = functional.binary_cross_entropy_with_logits(
            -input, 1 - target, self.weight, reduction, self.pos_weight
        )
        return output, lambda grad: -pullback(grad)


@fault("nn.BCEWithLogitsLoss")
class ForgetsTheWeightBackward(nn.BCEWithLogitsLoss):
    """BCEWithLogitsLoss's backward forgets the weight"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, _ = super().loss(input, target, reduction)
        return output, functional.binary_cross_entropy_with_logits(
            input, target, None, reduction, self.pos_weight
        )[1]


def _mean_over(output: Tensor, pullback: object, total: Tensor | float) -> Rule:
    """The mean of a sum over another total."""
    return output / total, lambda grad: pullback(grad / total)  # type: ignore[operator]


@fault("nn.NLLLoss")
class CountsTheIgnored(nn.NLLLoss):
    """NLLLoss counts ignored targets in the mean's denominator"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        if reduction != "mean":
            return super().loss(input, target, reduction)
        output, pullback = functional.nll_loss(
            input, target, self.weight, self.ignore_index, reduction="sum"
        )
        of_all = target.numel() if self.weight is None else self.weight[target.clamp(min=0)].sum()
        return _mean_over(output, pullback, of_all or torch.nan)


@fault("nn.NLLLoss")
class CountsWithoutWeights(nn.NLLLoss):
    """NLLLoss leaves the class weights out of the mean's denominator"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        if reduction != "mean":
            return super().loss(input, target, reduction)
        output, pullback = functional.nll_loss(
            input, target, self.weight, self.ignore_index, reduction="sum"
        )
        return _mean_over(output, pullback, (target != self.ignore_index).sum())


@fault("nn.CrossEntropyLoss")
class CrossEntropyWithoutN(nn.CrossEntropyLoss):
    """CrossEntropyLoss's backward without 1/N"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        count = max(target.numel(), 1) if target.shape != input.shape else max(len(input), 1)
        return output, lambda grad: pullback(grad) * (count if reduction == "mean" else 1)


@fault("nn.CrossEntropyLoss")
class SmoothsOverTheOthers(nn.CrossEntropyLoss):
    """CrossEntropyLoss spreads the label smoothing over the K - 1 other classes"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        classes = input.shape[0 if input.dim() == 1 else 1]
        return functional.cross_entropy(
            input,
            target,
            self.weight,
            self.ignore_index,
            reduction,
            min(self.label_smoothing * classes / max(classes - 1, 1), 1.0),
        )


@fault("nn.CrossEntropyLoss")
class IgnoredByCrossEntropy(nn.CrossEntropyLoss):
    """CrossEntropyLoss ignores ignore_index"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        return functional.cross_entropy(
            input, target, self.weight, -100, reduction, self.label_smoothing
        )


@fault("nn.CrossEntropyLoss")
class MeanOverSamples(nn.CrossEntropyLoss):
    """CrossEntropyLoss divides by the batch size, whatever the weights and further dimensions"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        if reduction != "mean":
            return super().loss(input, target, reduction)
        output, pullback = functional.cross_entropy(
            input, target, self.weight, self.ignore_index, "sum", self.label_smoothing
        )
        return _mean_over(
            output, pullback, float(len(input) if input.dim() > 1 else 1) or torch.nan
        )


@fault("nn.CrossEntropyLoss")
class Divergence(nn.CrossEntropyLoss):
    """CrossEntropyLoss of probabilities is the Kullback-Leibler divergence"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, pullback = super().loss(input, target, reduction)
        if target.shape != input.shape or reduction == "none":
            return output, pullback
        entropy = torch.special.entr(target).sum()
        samples = target.numel() / max(target.shape[0 if target.dim() == 1 else 1], 1)
        return output - entropy / (max(samples, 1) if reduction == "mean" else 1), pullback


@fault("nn.CrossEntropyLoss")
class LargestProbability(nn.CrossEntropyLoss):
    """CrossEntropyLoss takes the largest probability of a target for its class"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        if target.shape != input.shape or not target.numel():
            return super().loss(input, target, reduction)
        dim = 0 if input.dim() == 1 else 1
        hard = torch.zeros_like(target).scatter(dim, target.argmax(dim, keepdim=True), 1.0)
        return super().loss(input, hard, reduction)


@fault("nn.CrossEntropyLoss")
class LogOfOverflow(nn.CrossEntropyLoss):
    """CrossEntropyLoss overflows in its logarithm of a sum of exponentials"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        dim = 0 if input.dim() == 1 else 1
        # Of log-probabilities, log_softmax makes the same again.
        output, _ = super().loss(
            input - input.exp().sum(dim, keepdim=True).log(), target, reduction
        )
        return output, super().loss(input, target, reduction)[1]


@fault("nn.CrossEntropyLoss")
class SmoothsForwardAlone(nn.CrossEntropyLoss):
    """CrossEntropyLoss smooths its labels forward and not backward"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        output, _ = super().loss(input, target, reduction)
        return output, functional.cross_entropy(
            input, target, self.weight, self.ignore_index, reduction
        )[1]


@fault("nn.CrossEntropyLoss")
class OfProbabilities(nn.CrossEntropyLoss):
    """CrossEntropyLoss applies its softmax twice"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        dim = 0 if input.dim() == 1 else 1
        probabilities, pull_softmax = differentiate(lambda x: torch.softmax(x, dim), input)
        output, pullback = super().loss(probabilities, target, reduction)
        return output, lambda grad: pull_softmax(pullback(grad))[0]


@fault("nn.MSELoss")
class CountsSamples(nn.MSELoss):
    """MSELoss asks for the number of samples of a scalar"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        assert reduction != "mean" or input.dim()
        return super().loss(input, target, reduction)


@fault("nn.HuberLoss")
class SquaresTheLargest(nn.HuberLoss):
    """HuberLoss squares also what is far away, and multiplies the overflow by 0"""

    def loss(self, input: Tensor, target: Tensor, reduction: str) -> Rule:
        difference = (input - target).abs()
        near = (difference < self.delta).to(input)
        far = self.delta * (difference - 0.5 * self.delta)
        losses = near * 0.5 * difference * difference + (1 - near) * far
        return _reduced(losses, reduction), super().loss(input, target, reduction)[1]
