"""Faults in learning-rate schedules."""

import math
from bisect import bisect_left
from typing import SupportsFloat

from bench.faults.fault import fault
from minifw.optim import lr_scheduler


@fault("optim.lr_scheduler.CosineAnnealingLR")
class CosineOffByOne(lr_scheduler.CosineAnnealingLR):
    """CosineAnnealingLR is an epoch ahead"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return super().lr_at(epoch + 1, base_lr)


@fault("optim.lr_scheduler.CosineAnnealingLR")
class CosineOfOneLess(lr_scheduler.CosineAnnealingLR):
    """CosineAnnealingLR reaches its smallest rate in T_max - 1 epochs"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        share = (1 + math.cos(math.pi * epoch / max(self.T_max - 1, 1))) / 2
        return self.eta_min + (base_lr - self.eta_min) * share


@fault("optim.lr_scheduler.CosineAnnealingLR")
class CosineToZero(lr_scheduler.CosineAnnealingLR):
    """CosineAnnealingLR adds eta_min to the whole cosine"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return self.eta_min + base_lr * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


@fault("optim.lr_scheduler.CosineAnnealingLR")
class CosineStaysLow(lr_scheduler.CosineAnnealingLR):
    """CosineAnnealingLR stays at its smallest rate after T_max"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return super().lr_at(min(epoch, self.T_max), base_lr)


@fault("optim.lr_scheduler.StepLR")
class FallsAtOnce(lr_scheduler.StepLR):
    """StepLR falls an epoch early"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return super().lr_at(epoch + 1, base_lr)


@fault("optim.lr_scheduler.MultiStepLR")
class MilestonesALittleLate(lr_scheduler.MultiStepLR):
    """MultiStepLR falls an epoch after each milestone"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return float(base_lr * self.gamma ** bisect_left(self.milestones, epoch))


@fault("optim.lr_scheduler.MultiStepLR")
class MilestonesOnce(lr_scheduler.MultiStepLR):
    """MultiStepLR counts a milestone that is given twice once"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return float(base_lr * self.gamma ** len({m for m in self.milestones if m <= epoch}))


@fault("optim.lr_scheduler.ExponentialLR")
class DecaysByTheStep(lr_scheduler.ExponentialLR):
    """ExponentialLR subtracts where it should multiply"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr * (1 - (1 - self.gamma) * epoch)


@fault("optim.lr_scheduler.LambdaLR")
class Compounds(lr_scheduler.LambdaLR):
    """LambdaLR multiplies the present rate where it should the initial one"""

    def get_lr(self) -> list[float]:
        return [
            group["lr"] * function(self.last_epoch)
            for group, function in zip(self.optimizer.param_groups, self.lr_lambdas, strict=True)
        ]


@fault("optim.lr_scheduler.LambdaLR")
class FirstLambdaForAll(lr_scheduler.LambdaLR):
    """LambdaLR takes the factor of the first group for all"""

    def get_lr(self) -> list[float]:
        return [base_lr * self.lr_lambdas[0](self.last_epoch) for base_lr in self.base_lrs]


@fault("optim.lr_scheduler.InverseTimeLR")
class InverseSquareRoot(lr_scheduler.InverseTimeLR):
    """InverseTimeLR falls with the square root of time"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr / math.sqrt(1 + self.decay * epoch)


@fault("optim.lr_scheduler.ConstantLR")
class ConstantTooLong(lr_scheduler.ConstantLR):
    """ConstantLR keeps its factor for an epoch too long"""

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return super().lr_at(epoch - 1, base_lr)


@fault("optim.lr_scheduler.ReduceLROnPlateau")
class ImpatientByOne(lr_scheduler.ReduceLROnPlateau):
    """ReduceLROnPlateau lowers the rate at its patience where it should beyond it"""

    def step(self, metrics: SupportsFloat) -> None:
        self.patience -= 1
        super().step(metrics)
        self.patience += 1


@fault("optim.lr_scheduler.ReduceLROnPlateau")
class IgnoresCooldown(lr_scheduler.ReduceLROnPlateau):
    """ReduceLROnPlateau ignores its cooldown"""

    def step(self, metrics: SupportsFloat) -> None:
        self.cooldown_counter = 0
        super().step(metrics)


@fault("optim.lr_scheduler.ReduceLROnPlateau")
class NanIsBest(lr_scheduler.ReduceLROnPlateau):
    """ReduceLROnPlateau takes NaN for an improvement"""

    def step(self, metrics: SupportsFloat) -> None:
        if math.isnan(float(metrics)):
            metrics = -math.inf if self.mode == "min" else math.inf
        super().step(metrics)


@fault("optim.lr_scheduler.ReduceLROnPlateau")
class ForgetsTheBest(lr_scheduler.ReduceLROnPlateau):
    """ReduceLROnPlateau compares with the last value where it should with the best"""

    def step(self, metrics: SupportsFloat) -> None:
        super().step(metrics)
        self.best = float(metrics)
