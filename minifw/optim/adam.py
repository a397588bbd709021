"""Adam: steps scaled by running moments of the gradient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter
from minifw.optim.optimizer import Optimizer, expect

__all__ = ["Adam"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    For each parameter p with gradient g (-g if maximize), at its step t from 1::

        g <- g + weight_decay p           (p <- p - lr weight_decay p if decoupled)
        m <- beta1 m + (1 - beta1) g      (mean, from 0)
        v <- beta2 v + (1 - beta2) g^2    (uncentred variance, from 0)
        p <- p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    with the largest v so far in the last line if amsgrad.

    Args:
        params: the parameters to train, or groups of them.
        lr: learning rate. Default: 1e-3.
        betas: decay of the mean and of the variance. Default: (0.9, 0.999).
        eps: added to the denominator. Default: 1e-8.
        weight_decay: L2 penalty, or decay of the weights themselves if decoupled. Default: 0.
        amsgrad: whether the variance may not fall (Reddi et al., 2018). Default: False.
        maximize: whether to ascend instead. Default: False.
        decoupled_weight_decay: whether the decay passes the moments by. Default: False.

    Raises:
        ValueError: lr, eps or weight_decay is negative, a beta not in [0, 1); there are no
            parameters.

    Source: report 003; :class:`torch.optim.Adam`.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        expect(settings["eps"] >= 0, "epsilon value", settings["eps"], "a number of at least 0")
        for index, beta in enumerate(settings["betas"]):
            expect(0 <= beta < 1, f"beta parameter at index {index}", beta, "a number in [0, 1)")

    def update(
        self,
        group: dict[str, Any],
        trained: list[Parameter],
        params: list[Tensor],
        grads: list[Tensor],
    ) -> None:
        lr, (beta1, beta2), weight_decay = group["lr"], group["betas"], group["weight_decay"]
        moments = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        for parameter in trained:
            if parameter not in self.state:
                zeros = {name: torch.zeros_like(parameter.data) for name in moments}
                self.state[parameter] = {"step": 0, **zeros}
        states = [self.state[parameter] for parameter in trained]
        means, variances, *largest = ([state[name] for state in states] for name in moments)
        for state in states:
            state["step"] += 1
        steps = [state["step"] for state in states]

        if weight_decay and group["decoupled_weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay:
            grads = list(torch._foreach_add(grads, params, alpha=weight_decay))
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(variances, beta2)
        torch._foreach_addcmul_(variances, grads, grads, 1 - beta2)
        if largest:
            torch._foreach_maximum_(largest[0], variances)
        denominators = torch._foreach_sqrt(largest[0] if largest else variances)
        torch._foreach_div_(denominators, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(denominators, group["eps"])
        rates = [-(lr / (1 - beta1**step)) for step in steps]
        torch._foreach_addcdiv_(params, means, denominators, rates)
