"""Learning-rate schedules, under torch's class names."""

from collections.abc import Callable

from minifw.optim.optimizer import Optimizer

__all__ = ["LambdaLR"]


class LambdaLR:
    """lr = initial lr * lr_lambda(epoch), with epoch the number of calls of :meth:`step`.

    Args:
        optimizer: the optimiser whose "lr" it sets, at once for epoch 0.
        lr_lambda: factor for an epoch.

    Source: report 002 (lr falls at given epochs); :class:`torch.optim.lr_scheduler.LambdaLR`.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.optimizer = optimizer
        self.lr_lambda = lr_lambda
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_epoch = -1
        self.step()

    def step(self) -> None:
        """Go on to the next epoch."""
        self.last_epoch += 1
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * self.lr_lambda(self.last_epoch)
