"""Adam: steps scaled by running moments of the gradient."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter
from minifw.optim.optimizer import Group, Optimizer, Parameters, Tensors, expect

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer, keeps_grads=False):
    """Adam (Kingma and Ba, 2015).

    For each parameter p with gradient g (-g if maximize), at its step t from 1::

        g <- g + weight_decay p           (p <- p - lr weight_decay p if decoupled)
        m <- beta1 m + (1 - beta1) g      (mean, from 0)
        v <- beta2 v + (1 - beta2) g^2    (uncentered variance, from 0)
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
        decoupled_weight_decay: whether the decay leaves the moments out. Default: False.

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
        self._blocks: dict[Parameter, tuple[Parameters, list[_Block]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Pickle does not keep views of one tensor together, so a copy lays its moments out anew.
        return {**vars(self), "_blocks": {}}

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        expect(settings["eps"] >= 0, "epsilon value", settings["eps"], "a number of at least 0")
        for index, beta in enumerate(settings["betas"]):
            expect(0 <= beta < 1, f"beta parameter at index {index}", beta, "a number in [0, 1)")

    def update(self, group: Group, trained: Parameters, params: Tensors, grads: Tensors) -> None:
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        elif group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        states = [self.state.setdefault(parameter, {"step": 0}) for parameter in trained]
        before, blocks = self._blocks.get(trained[0], ([], []))
        if before != trained or not all(block.holds(states, names) for block in blocks):
            alike: dict[Any, list[int]] = {}  # equally many steps make a block
            for index, (state, data) in enumerate(zip(states, params, strict=True)):
                kind = (state["step"], data.dtype, data.device)
                alike.setdefault(kind, []).append(index)
            blocks = [_Block(indices, states, names, params) for indices in alike.values()]
            self._blocks[trained[0]] = trained, blocks
        for block in blocks:
            block.step(group, states, params, grads)


class AdamW(Adam, keeps_grads=False):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): see :class:`Adam`.

    The weights shrink by a factor 1 - lr * weight_decay each step, independently of the moments.

    Args:
        params: the parameters to train, or groups of them.
        lr: learning rate. Default: 1e-3.
        betas: decay of the mean and of the variance. Default: (0.9, 0.999).
        eps: added to the denominator. Default: 1e-8.
        weight_decay: decay of the weights. Default: 1e-2.
        amsgrad: whether the variance may not fall. Default: False.
        maximize: whether to ascend instead. Default: False.

    Raises:
        ValueError: as :class:`Adam`.

    Source: :class:`torch.optim.AdamW`.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # as torch, whatever the saved value


class _Block:
    """The moments of several parameters, each laid end to end in one tensor.

    One call then updates the moments of all parameters, in a third of the time of one call each.
    The moments in ``states`` become views of these tensors.
    """

    def __init__(
        self, indices: list[int], states: list[Group], names: list[str], params: Tensors
    ) -> None:
        self._indices = indices
        self._like = params[indices[0]]
        self._shapes = [params[index].shape for index in indices]
        self._whole: Tensors = []
        self._parts: dict[str, Tensors] = {}
        for name in names:
            whole, self._parts[name] = self._lay_out()
            self._whole.append(whole)
            for index, part in zip(indices, self._parts[name], strict=True):
                if name in states[index]:
                    part.copy_(states[index][name])
                states[index][name] = part
        # Buffer for the gradients and the denominator; a large one costs more memory than it saves.
        self._scratch = self._lay_out() if self._whole[0].numel() < 2**18 else None

    def _lay_out(self) -> tuple[Tensor, Tensors]:
        """Return zeros for all parameters end to end, and views in the parameters' shapes."""
        sizes = [shape.numel() for shape in self._shapes]
        whole = self._like.new_zeros(sum(sizes))
        cut = zip(torch.split(whole, sizes), self._shapes, strict=True)
        return whole, [part.view(shape) for part, shape in cut]

    def holds(self, states: list[Group], names: list[str]) -> bool:
        """Return whether the moments in ``states`` are exactly the views of this block."""
        return len(self._whole) == len(names) and all(
            states[index].get(name) is part
            for name in names
            for index, part in zip(self._indices, self._parts[name], strict=True)
        )

    def step(self, group: Group, states: list[Group], params: Tensors, grads: Tensors) -> None:
        """Update the moments by the gradients, and the parameters by the moments."""
        for index in self._indices:
            states[index]["step"] += 1
        step, (beta1, beta2) = states[self._indices[0]]["step"], group["betas"]
        mean, variance, *largest = self._whole
        scratch, parts = self._scratch or self._lay_out()
        torch._foreach_copy_(parts, [grads[index] for index in self._indices])
        mean.lerp_(scratch, 1 - beta1)
        variance.mul_(beta2).addcmul_(scratch, scratch, value=1 - beta2)
        for maximum in largest:
            variance = torch.maximum(maximum, variance, out=maximum)
        denominator = torch.sqrt(variance, out=scratch)  # overwrites the gradient
        denominator.div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        rate, params = -(group["lr"] / (1 - beta1**step)), [params[i] for i in self._indices]
        torch._foreach_addcdiv_(params, self._parts["exp_avg"], parts, value=rate)
