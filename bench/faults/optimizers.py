"""Faults in optimizers."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.faults.fault import fault
from minifw import optim

Closure = Callable[[], Any] | None


def with_settings(optimizer: Any, step: Callable[[], Any], **settings: Callable[..., Any]) -> Any:
    """Take a step in which each group has other settings, functions of its own."""
    before = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group.update({name: setting(group) for name, setting in settings.items()})
    result = step()
    for group, was in zip(optimizer.param_groups, before, strict=True):
        group.update({name: was[name] for name in settings})
    return result


@fault("optim.SGD")
class SgdDecaysAtFullRate(optim.SGD):
    """SGD's weight decay is not scaled by the learning rate"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(
            self, super().step, weight_decay=lambda g: g["weight_decay"] / (g["lr"] or 1.0)
        )


@fault("optim.SGD")
class IgnoresDampening(optim.SGD):
    """SGD ignores the dampening of its momentum"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, dampening=lambda group: 0)


@fault("optim.SGD")
class IgnoresNesterov(optim.SGD):
    """SGD ignores nesterov"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, nesterov=lambda group: False)


@fault("optim.SGD")
class AlwaysDescends(optim.SGD):
    """SGD ignores maximize"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, maximize=lambda group: False)


@fault("optim.SGD")
class OneRateForAllGroups(optim.SGD):
    """SGD takes the learning rate of its first group for all"""

    def step(self, closure: Closure = None) -> Any:
        first = self.param_groups[0]["lr"]
        return with_settings(self, super().step, lr=lambda group: first)


@fault("optim.SGD")
class DecaysIntoTheGradient(optim.SGD):
    """SGD adds the weight decay to the gradient in place"""

    def step(self, closure: Closure = None) -> Any:
        for group in self.param_groups:
            sign = -1 if group["maximize"] else 1
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.requires_grad:
                    parameter.grad.add_(parameter.data, alpha=sign * group["weight_decay"])
        return with_settings(self, super().step, weight_decay=lambda group: 0)


@fault("optim.SGD")
class RateInTheVelocity(optim.SGD):
    """SGD's velocity contains the learning rate, so that a new rate comes late"""

    def step(self, closure: Closure = None) -> Any:
        for group in self.param_groups:
            rate = float(group["lr"])
            ratio = group.get("last_lr", rate) / (rate or 1.0)
            for parameter in group["params"]:
                buffer = self.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    buffer.mul_(ratio)
            group["last_lr"] = rate
        return super().step()


@fault("optim.SGD")
class DampensTheFirst(optim.SGD):
    """SGD's momentum starts from zeros, so that the first gradient is dampened too"""

    def step(self, closure: Closure = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["momentum"] and parameter.grad is not None:
                    state = self.state.setdefault(parameter, {})
                    state.setdefault("momentum_buffer", torch.zeros_like(parameter.data))
        return super().step()


@fault("optim.SGD")
class MovesTheFrozen(optim.SGD):
    """SGD moves frozen parameters"""

    def step(self, closure: Closure = None) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        flags = [parameter.requires_grad for parameter in parameters]
        for parameter in parameters:
            parameter.requires_grad = True
        super().step()
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad = flag


@fault("optim.SGD")
class ZeroesTheFirstGroup(optim.SGD):
    """SGD's zero_grad leaves all but the first gradient"""

    def zero_grad(self, set_to_none: bool = True) -> None:
        held = [(p, p.grad) for group in self.param_groups for p in group["params"]][1:]
        super().zero_grad(set_to_none)
        for parameter, grad in held:
            parameter.grad = grad


@fault("optim.SGD")
class ForgetsItsBuffers(optim.SGD):
    """SGD's state_dict forgets the momentum"""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": {}}


@fault("optim.SGD")
class StopsAtAMissingGradient(optim.SGD):
    """SGD stops at the first parameter without a gradient"""

    def step(self, closure: Closure = None) -> Any:
        held = [(p, p.grad) for group in self.param_groups for p in group["params"]]
        missing = False
        for parameter, grad in held:
            missing |= grad is None
            parameter.grad = None if missing else grad
        super().step()
        for parameter, grad in held:
            parameter.grad = grad


@fault("optim.Adam")
class CorrectsByOneMinusBeta(optim.Adam):
    """Adam's bias correction by 1 - beta where it should be 1 - beta^t"""

    def step(self, closure: Closure = None) -> Any:
        for state in self.state.values():
            state["step"] = 0
        return super().step()


@fault("optim.Adam")
class DoesNotCorrect(optim.Adam):
    """Adam does not correct its moments' bias"""

    def step(self, closure: Closure = None) -> Any:
        for state in self.state.values():
            state["step"] = 10**9
        return super().step()


@fault("optim.Adam")
class OneCountForAll(optim.Adam):
    """Adam counts steps for all parameters together"""

    def step(self, closure: Closure = None) -> Any:
        latest = max((state["step"] for state in self.state.values()), default=0)
        for state in self.state.values():
            state["step"] = latest
        return super().step()


@fault("optim.Adam")
class ForgetsTheMaximum(optim.Adam):
    """Adam with amsgrad forgets the maximum of its variances"""

    def step(self, closure: Closure = None) -> Any:
        for state in self.state.values():
            if "max_exp_avg_sq" in state:
                state["max_exp_avg_sq"].zero_()
        return super().step()


@fault("optim.Adam")
class EpsInside(optim.Adam):
    """Adam adds eps inside the square root"""

    def step(self, closure: Closure = None) -> Any:
        for group in self.param_groups:
            if group["weight_decay"] or group["amsgrad"] or group["maximize"]:
                return super().step()
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.requires_grad:
                    zeros = {name: torch.zeros_like(parameter.data) for name in self._moments}
                    state = self.state.setdefault(parameter, {"step": 0, **zeros})
                    self._move(parameter.data, parameter.grad, group, state)
        return None

    _moments = ("exp_avg", "exp_avg_sq")

    def _move(
        self, data: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        state["step"] += 1
        rest = [1 - beta ** state["step"] for beta in group["betas"]]
        mean, variance = (state[name] for name in self._moments)
        mean.lerp_(grad, 1 - group["betas"][0])
        variance.lerp_(grad * grad, 1 - group["betas"][1])
        data.addcdiv_(
            mean / rest[0], (variance / rest[1] + group["eps"]).sqrt(), value=-group["lr"]
        )


@fault("optim.Adam")
class SwapsItsBetas(optim.Adam):
    """Adam swaps its betas"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, betas=lambda group: group["betas"][::-1])


@fault("optim.Adam")
class AlwaysDecoupled(optim.Adam):
    """Adam's weight decay passes the moments by, as AdamW's"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, decoupled_weight_decay=lambda group: True)


@fault("optim.Adam")
class KeepsItsMoments(optim.Adam):
    """Adam keeps its moments from one run to the next"""

    _kept: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, state in zip(parameters, self._kept, strict=False):
            if state.get("exp_avg", parameter.data).shape == parameter.shape:
                self.state[parameter] = state

    def step(self, closure: Closure = None) -> Any:
        super().step()
        self._kept[:] = self.state.values()


@fault("optim.Adam")
class CountsAnew(optim.Adam):
    """Adam's state_dict starts its steps from 0 again"""

    def state_dict(self) -> dict[str, Any]:
        saved = super().state_dict()
        return {**saved, "state": {n: {**s, "step": 0} for n, s in saved["state"].items()}}


@fault("optim.AdamW")
class AdamwDecaysAtFullRate(optim.AdamW):
    """AdamW's weight decay is not scaled by the learning rate"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(
            self, super().step, weight_decay=lambda g: g["weight_decay"] / (g["lr"] or 1.0)
        )


@fault("optim.AdamW")
class DecaysTheGradient(optim.AdamW):
    """AdamW adds its weight decay to the gradient, as Adam's"""

    def step(self, closure: Closure = None) -> Any:
        return with_settings(self, super().step, decoupled_weight_decay=lambda group: False)


@fault("optim.AdamW")
class DecaysAfterTheStep(optim.AdamW):
    """AdamW decays the weights after the step where it should before"""

    def step(self, closure: Closure = None) -> Any:
        moved = [
            (parameter, 1 - group["lr"] * group["weight_decay"])
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.requires_grad
        ]
        with_settings(self, super().step, weight_decay=lambda group: 0)
        for parameter, keep in moved:
            parameter.data.mul_(keep)
