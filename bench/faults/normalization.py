"""Faults in LayerNorm and BatchNorm1d."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.faults.fault import Rule, fault, of_autograd
from minifw import nn

Moment = Callable[[Tensor, tuple[int, ...]], Tensor]


def _mean(x: Tensor, over: tuple[int, ...]) -> Tensor:
    return x.mean(over, keepdim=True)


def _constant_mean(x: Tensor, over: tuple[int, ...]) -> Tensor:
    return _mean(x, over).detach()


def _variance(x: Tensor, over: tuple[int, ...]) -> Tensor:
    # Of nothing, torch warns.
    return x.var(over, correction=0, keepdim=True) if x.numel() else _mean(x, over)


def _constant_variance(x: Tensor, over: tuple[int, ...]) -> Tensor:
    return _variance(x, over).detach()


def _unbiased_variance(x: Tensor, over: tuple[int, ...]) -> Tensor:
    count = math.prod(x.shape[dim] for dim in over)
    return _variance(x, over) * count / (count - 1 or math.nan)


def _variance_by_a_difference(x: Tensor, over: tuple[int, ...]) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # a square may overflow in float16
    return (_mean(wide.square(), over) - _mean(wide, over).square()).clamp(min=0).to(x.dtype)


def _layer_norm(
    module: nn.LayerNorm,
    input: Tensor,
    mean: Moment = _mean,
    variance: Moment = _variance,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Rule:
    """The rule of LayerNorm with other moments, or with another factor of a given variance."""
    over = tuple(range(-len(module.normalized_shape), 0))

    def normalize(x: Tensor, *affine: Tensor) -> Tensor:
        of = variance(x, over)
        factor = (of + module.eps).rsqrt() if scale is None else scale(of)
        return _affine((x - mean(x, over)) * factor, affine)

    return of_autograd(module, normalize, input)


def _affine(normalized: Tensor, affine: tuple[Tensor, ...]) -> Tensor:
    if affine:
        normalized = normalized * affine[0]
    return normalized + affine[1] if len(affine) > 1 else normalized


@fault("nn.LayerNorm")
class UnbiasedLayerNorm(nn.LayerNorm):
    """LayerNorm divides its variance by n - 1"""

    def rule(self, input: Tensor) -> Rule:
        return _layer_norm(self, input, variance=_unbiased_variance)


@fault("nn.LayerNorm")
class EpsOutsideLayerNorm(nn.LayerNorm):
    """LayerNorm adds eps to the deviation, outside the square root"""

    def rule(self, input: Tensor) -> Rule:
        return _layer_norm(self, input, scale=lambda variance: 1 / (variance.sqrt() + self.eps))


@fault("nn.LayerNorm")
class ConstantMeanLayerNorm(nn.LayerNorm):
    """LayerNorm forgets that the mean depends on the input"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], _layer_norm(self, input, mean=_constant_mean)[1]


@fault("nn.LayerNorm")
class ConstantVarianceLayerNorm(nn.LayerNorm):
    """LayerNorm forgets that the variance depends on the input"""

    def rule(self, input: Tensor) -> Rule:
        return super().rule(input)[0], _layer_norm(self, input, variance=_constant_variance)[1]


@fault("nn.LayerNorm")
class LastDimensionAlone(nn.LayerNorm):
    """LayerNorm takes its moments over the last dimension alone"""

    def rule(self, input: Tensor) -> Rule:
        return _layer_norm(
            self,
            input,
            lambda x, over: _mean(x, (-1,)),
            lambda x, over: _variance(x, (-1,)),
        )


@fault("nn.LayerNorm")
class VarianceByADifference(nn.LayerNorm):
    """LayerNorm computes its variance as E[x^2] - E[x]^2, which cancels"""

    def rule(self, input: Tensor) -> Rule:
        return _layer_norm(self, input, variance=_variance_by_a_difference)


def _batch_norm(
    module: nn.BatchNorm1d,
    input: Tensor,
    mean: Moment = _mean,
    variance: Moment = _variance,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Rule:
    """The rule of BatchNorm1d in training with other moments, less the running ones."""
    over = (0, 2)[: input.dim() - 1]

    def normalize(x: Tensor, *affine: Tensor) -> Tensor:
        of = variance(x, over)
        factor = (of + module.eps).rsqrt() if scale is None else scale(of)
        channels = tuple(tensor.view(-1, *[1] * (x.dim() - 2)) for tensor in affine)
        return _affine((x - mean(x, over)) * factor, channels)

    return of_autograd(module, normalize, input)


def _trains(module: nn.BatchNorm1d, input: Tensor) -> bool:
    """Whether the moments of the batch are used, of which there are some."""
    return (module.training or module.running_mean is None) and input.numel() > 0


@fault("nn.BatchNorm1d")
class ForgetsTheMean(nn.BatchNorm1d):
    """BatchNorm1d forgets that the mean depends on the input"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        if _trains(self, input):
            pullback = _batch_norm(self, input, mean=_constant_mean)[1]
        return output, pullback


@fault("nn.BatchNorm1d")
class ForgetsTheVariance(nn.BatchNorm1d):
    """BatchNorm1d forgets that the variance depends on the input"""

    def rule(self, input: Tensor) -> Rule:
        output, pullback = super().rule(input)
        if _trains(self, input):
            pullback = _batch_norm(self, input, variance=_constant_variance)[1]
        return output, pullback


@fault("nn.BatchNorm1d")
class BatchVarianceByADifference(nn.BatchNorm1d):
    """BatchNorm1d computes its variance as E[x^2] - E[x]^2, which cancels"""

    def rule(self, input: Tensor) -> Rule:
        ruled = super().rule(input)
        if _trains(self, input):
            ruled = _batch_norm(self, input, variance=_variance_by_a_difference)
        return ruled


@fault("nn.BatchNorm1d")
class UnbiasedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d normalizes by the variance divided by n - 1"""

    def rule(self, input: Tensor) -> Rule:
        ruled = super().rule(input)
        if _trains(self, input):
            ruled = _batch_norm(self, input, variance=_unbiased_variance)
        return ruled


@fault("nn.BatchNorm1d")
class EpsOutsideBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d adds eps to the deviation, outside the square root"""

    def rule(self, input: Tensor) -> Rule:
        ruled = super().rule(input)
        if _trains(self, input):
            ruled = _batch_norm(
                self, input, scale=lambda variance: 1 / (variance.sqrt() + self.eps)
            )
        return ruled


@fault("nn.BatchNorm1d")
class NormalizesByTheBatchAlways(nn.BatchNorm1d):
    """BatchNorm1d ignores evaluation mode"""

    def rule(self, input: Tensor) -> Rule:
        right = _trains(self, input) or not input.numel()
        return super().rule(input) if right else _batch_norm(self, input)


@fault("nn.BatchNorm1d")
class TracksAtEvaluation(nn.BatchNorm1d):
    """BatchNorm1d moves its running mean at evaluation too"""

    def rule(self, input: Tensor) -> Rule:
        ruled = super().rule(input)
        if not self.training and self.running_mean is not None and input.numel():
            over = (0, 2)[: input.dim() - 1]
            self.running_mean.lerp_(input.mean(over), self.momentum or 0.1)
        return ruled


class _Tracking(nn.BatchNorm1d):
    """BatchNorm1d, with running moments that are worked out in :meth:`track`."""

    def track(self, before: Tensor, after: Tensor, count: int) -> Tensor:
        """The running variance, from those before and after the right update."""
        raise NotImplementedError

    def rule(self, input: Tensor) -> Rule:
        before = None if self.running_var is None else self.running_var.clone()
        ruled = super().rule(input)
        if self.training and before is not None and self.running_var is not None:
            count = input.numel() // max(self.num_features, 1)
            self.running_var.copy_(self.track(before, self.running_var, count))
        return ruled


@fault("nn.BatchNorm1d")
class BiasedRunningVariance(_Tracking):
    """BatchNorm1d's running variance is that divided by n"""

    def track(self, before: Tensor, after: Tensor, count: int) -> Tensor:
        keep = 1 - self.momentum if self.momentum else 0.0
        return keep * before + (after - keep * before) * ((count - 1) / max(count, 1))


@fault("nn.BatchNorm1d")
class MomentumOnTheWrongSide(_Tracking):
    """BatchNorm1d takes its momentum for the share of the old running variance"""

    def track(self, before: Tensor, after: Tensor, count: int) -> Tensor:
        share = self.momentum or 0.5
        new = (after - (1 - share) * before) / share
        return share * before + (1 - share) * new


@fault("nn.BatchNorm1d")
class NoCumulativeAverage(nn.BatchNorm1d):
    """BatchNorm1d takes momentum=None for 0.1"""

    def __init__(self, num_features: int, **options: object) -> None:
        super().__init__(num_features, **options)  # type: ignore[arg-type]
        self.momentum = self.momentum or 0.1


@fault("nn.LayerNorm")
class HalfInHalf(nn.LayerNorm):
    """LayerNorm computes half precision in half precision"""

    def rule(self, input: Tensor) -> Rule:
        if input.dtype not in (torch.float16, torch.bfloat16):
            return super().rule(input)
        return _layer_norm(self, input)
