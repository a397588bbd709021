"""Learning-rate schedules, under torch's class names.

Each is a pure function of the epoch: :meth:`LRScheduler.lr_at` returns the learning rate at any
epoch, so a schedule overwrites other changes of "lr". Torch's multiply the current "lr" instead;
both agree to rounding if nothing else changes it. Only :class:`ReduceLROnPlateau` depends on the
run.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

from minifw.optim.optimizer import Optimizer, expect

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "ExponentialLR", "InverseTimeLR", "LRScheduler", "LambdaLR",
    "MultiStepLR", "ReduceLROnPlateau", "StepLR",
]  # fmt: skip


class LRScheduler:
    """Base class of the schedules; a subclass defines :meth:`lr_at`.

    Args:
        optimizer: the optimizer whose "lr" it sets, at once for epoch 0.
        last_epoch: epoch to resume after; -1 to start. Default: -1.

    Attributes:
        base_lrs (list[float]): the initial learning rate of each parameter group.
        last_epoch (int): the epoch it is at, from 0: how often :meth:`step` was called.

    Raises:
        TypeError: optimizer is not an optimizer of minifw.
        KeyError: last_epoch is given, but a group has no "initial_lr".

    Source: :class:`torch.optim.lr_scheduler.LRScheduler`.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _checked(optimizer)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}], from which to "
                    f"resume after epoch {last_epoch}; load the optimizer's state_dict first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def lr_at(self, epoch: int, base_lr: float) -> float:
        """Return the learning rate at ``epoch`` for the initial learning rate ``base_lr``."""
        raise NotImplementedError(f"{type(self).__name__} defines no lr_at")

    def get_lr(self) -> list[float]:
        """Return the learning rate of each group at the current epoch."""
        return [self.lr_at(self.last_epoch, base_lr) for base_lr in self.base_lrs]

    def step(self) -> None:
        """Advance to the next epoch."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group, as last set."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimizer, under torch's names."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore ``state_dict``, of this framework or of torch; the optimizer has its own."""
        vars(self).update(state_dict)


class ConstantLR(LRScheduler):
    """lr = initial lr * factor before epoch ``total_iters``, and the initial lr from there on.

    Args:
        factor: in [0, 1]. Default: 1 / 3.
        total_iters: first epoch with factor 1. With 0 the factor is always 1, as in the formula;
            torch then never leaves the factor. Default: 5.

    Raises:
        ValueError: factor is not in [0, 1].

    Source: report 004 (with factor 1); :class:`torch.optim.lr_scheduler.ConstantLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        expect(0 <= factor <= 1, "factor", factor, "a number in [0, 1]")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr * self.factor if epoch < self.total_iters else base_lr


class LambdaLR(LRScheduler):
    """lr = initial lr * lr_lambda(epoch).

    Args:
        lr_lambda: factor for an epoch, or a list of such functions, one a parameter group.

    Raises:
        ValueError: there are not as many functions as groups.

    Source: :class:`torch.optim.lr_scheduler.LambdaLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(_checked(optimizer).param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"Expected {groups} lr_lambdas, one a parameter group, got {len(self.lr_lambdas)}"
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base_lr * lr_lambda(self.last_epoch)
            for base_lr, lr_lambda in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state; as torch, functions are left out, and attributes of objects kept."""
        attributes = [dict(getattr(function, "__dict__", {})) for function in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": [found or None for found in attributes]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        functions = self.lr_lambdas
        super().load_state_dict(state_dict)
        for function, attributes in zip(functions, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                vars(function).update(attributes)
        self.lr_lambdas = functions


class StepLR(LRScheduler):
    """lr = initial lr * gamma^floor(epoch / step_size).

    Args:
        step_size: epochs between two changes.
        gamma: factor of a change. Default: 0.1.

    Raises:
        ValueError: step_size is below 1.

    Source: report 004 (step decay); :class:`torch.optim.lr_scheduler.StepLR`.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        expect(step_size >= 1, "step_size", step_size, "a number of epochs of at least 1")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return float(base_lr * self.gamma ** (epoch // self.step_size))


class MultiStepLR(LRScheduler):
    """lr = initial lr * gamma^(number of milestones reached).

    Args:
        milestones: epochs at which the learning rate changes; an epoch given twice counts twice.
        gamma: factor of a change. Default: 0.1.

    Source: report 002; :class:`torch.optim.lr_scheduler.MultiStepLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return float(base_lr * self.gamma ** bisect_right(self.milestones, epoch))

    def state_dict(self) -> dict[str, Any]:
        counts = {epoch: self.milestones.count(epoch) for epoch in self.milestones}  # as torch
        return {**super().state_dict(), "milestones": counts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        counts = state_dict["milestones"]
        self.milestones = sorted(epoch for epoch in counts for _ in range(counts[epoch]))


class ExponentialLR(LRScheduler):
    """lr = initial lr * gamma^epoch.

    Args:
        gamma: factor of an epoch.

    Source: report 004; :class:`torch.optim.lr_scheduler.ExponentialLR`.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return float(base_lr * self.gamma**epoch)


class InverseTimeLR(LRScheduler):
    """lr = initial lr / (1 + decay * epoch).

    torch has no class of this name; there, and here, it is
    ``LambdaLR(optimizer, lambda epoch: 1 / (1 + decay * epoch))``.

    Args:
        decay: 1 / the epoch with half of the initial learning rate.

    Raises:
        ValueError: decay is negative.

    Source: report 004 (time decay).
    """

    def __init__(self, optimizer: Optimizer, decay: float, last_epoch: int = -1) -> None:
        expect(decay >= 0, "decay", decay, "a number of at least 0")
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr / (1 + self.decay * epoch)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) (1 + cos(pi epoch / T_max)) / 2.

    It falls for T_max epochs, rises for T_max epochs, and so on (Loshchilov and Hutter, 2017).

    Args:
        T_max: epochs from the largest to the smallest learning rate.
        eta_min: the smallest learning rate. Default: 0.

    Raises:
        ValueError: T_max is below 1.

    Source: :class:`torch.optim.lr_scheduler.CosineAnnealingLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,  # noqa: N803 -- torch's name
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        expect(T_max >= 1, "T_max", T_max, "a number of epochs of at least 1")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        share = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return self.eta_min + (base_lr - self.eta_min) * share


class ReduceLROnPlateau:
    """lr <- max(lr * factor, min_lr) once a monitored value has not improved for long.

    A value improves when it passes the best so far by ``threshold``: below best * (1 - threshold)
    ("rel") or best - threshold ("abs") in mode "min", above with + for - in mode "max". After more
    than ``patience`` epochs in a row without that, the learning rate falls, and epochs count again
    ``cooldown`` epochs later.

    Args:
        optimizer: the optimizer whose "lr" it lowers.
        mode: "min" or "max". Default: "min".
        factor: factor of a fall, below 1. Default: 0.1.
        patience: epochs without improvement that are let pass. Default: 10.
        threshold: what counts as improvement. Default: 1e-4.
        threshold_mode: "rel" or "abs". Default: "rel".
        cooldown: epochs after a fall that do not count. Default: 0.
        min_lr: the smallest learning rate, or a list of one a parameter group. Default: 0.
        eps: a fall of no more than this is not made. Default: 1e-8.

    Raises:
        ValueError: factor is 1 or more, a mode is unknown, or there are not as many min_lr as
            groups.
        TypeError: optimizer is not an optimizer of minifw.

    Source: :class:`torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        expect(factor < 1, "factor", factor, "a number below 1")
        expect(mode in ("min", "max"), "mode", mode, "'min' or 'max'")
        expect(threshold_mode in ("rel", "abs"), "threshold mode", threshold_mode, "'rel' or 'abs'")
        groups = len(_checked(optimizer).param_groups)
        self.min_lrs = list(min_lr) if isinstance(min_lr, Sequence) else [min_lr] * groups
        if len(self.min_lrs) != groups:
            raise ValueError(
                f"expected {groups} min_lrs, one a parameter group, got {len(self.min_lrs)}"
            )
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def step(self, metrics: SupportsFloat) -> None:
        """Advance to the next epoch, with the monitored value of the last one."""
        current = float(metrics)
        self.last_epoch += 1
        margin = -self.threshold if self.mode == "min" else self.threshold
        limit = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        if current < limit if self.mode == "min" else current > limit:
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, min_lr in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    get_last_lr = LRScheduler.get_last_lr
    state_dict = LRScheduler.state_dict
    load_state_dict = LRScheduler.load_state_dict


def _checked(optimizer: Optimizer) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer of minifw.optim")
    return optimizer
