"""Optimizer: the base class of the optimizers, with parameters, settings and state."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter

__all__ = ["Group", "Optimizer", "Parameters", "Tensors", "expect"]

Group = dict[str, Any]  # settings of some parameters, with the parameters under "params"
Parameters = list[Parameter]
Tensors = list[Tensor]


def expect(valid: bool, name: str, value: object, expected: str) -> None:
    """Check a setting.

    Raises:
        ValueError: it is not valid.
    """
    if not valid:
        raise ValueError(f"Invalid {name}: {value}; expected {expected}")


class Optimizer:
    """Base class of the optimizers; a subclass defines :meth:`update`, and :meth:`check`.

    Args:
        keeps_grads: keyword of the class statement, ``class SGD(Optimizer, keeps_grads=False)``:
            whether ``update`` may keep a gradient that it was given. If not, gradients of captured
            calls need no copy. It holds for this class alone, not for subclasses. Default: True.
        params: the parameters to train, or groups of them: dicts of "params" and of settings that
            differ from the defaults.
        defaults: settings of groups that do not give them.

    Attributes:
        param_groups (list[dict]): parameters under "params", settings such as "lr" beside them.
        state (dict): the state of each parameter, such as its momentum, under torch's names.

    Raises:
        ValueError: a setting is out of its range, there are no parameters, or a parameter appears
            twice (torch only warns if both are in one group).
        TypeError: an entry is not a Parameter, or a group's "params" are a set, which has no order.

    Source: :class:`torch.optim.Optimizer`.
    """

    _keeps_grads = True

    def __init_subclass__(cls, keeps_grads: bool = True) -> None:
        cls._keeps_grads = keeps_grads

    def __init__(
        self, params: Iterable[Parameter] | Iterable[dict[str, Any]], defaults: dict[str, Any]
    ) -> None:
        self.check(defaults)
        self.defaults = defaults
        self.state: dict[Parameter, dict[str, Any]] = {}
        self.param_groups: list[Group] = []
        if isinstance(params, Parameter):
            raise TypeError("optimizer expects a list of Parameters or dicts, got one Parameter")
        listed: list[Any] = list(params)
        if not listed:
            raise ValueError("optimizer got an empty parameter list; pass model.parameters()")
        for group in listed if isinstance(listed[0], dict) else [{"params": listed}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to train.

        Args:
            param_group: one or more parameters under "params", and settings that differ from the
                defaults. Unlike torch, settings are checked.

        Raises:
            ValueError, TypeError: as the constructor.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer got a set of parameters, whose order may change; use a list")
        params = [params] if isinstance(params, Parameter) else list(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for parameter in params:
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    "optimizer can only optimize Parameters of minifw.nn, "
                    f"but one of the params is {type(parameter).__name__}"
                )
            if id(parameter) in known:
                raise ValueError(
                    f"some parameters appear more than once, one of shape {list(parameter.shape)}; "
                    "list each in one group only"
                )
            known.add(id(parameter))
        group = {**self.defaults, **param_group, "params": params}
        self.check(group)
        self.param_groups.append(group)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Check the settings of a group.

        Raises:
            ValueError: a setting is out of its range.
        """
        for name, words in (("lr", "learning rate"), ("weight_decay", "weight_decay value")):
            value = settings.get(name, 0)
            expect(value >= 0, words, value, "a number of at least 0")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters by their gradients.

        A parameter that has no gradient or is frozen does not change. (torch changes a frozen
        parameter as long as it has a gradient, even a zero one.)

        Args:
            closure: function that recomputes the gradients, called first. Default: none.

        Returns:
            The loss, as ``closure`` returned it.
        """
        loss = None if closure is None else closure()
        for group in self.param_groups:
            trained, params, grads = [], [], []
            for parameter in group["params"]:
                if parameter.requires_grad and parameter._grad is not None:
                    trained.append(parameter)
                    params.append(parameter.data)
                    grads.append(parameter.grad if self._keeps_grads else parameter._grad)
            if trained:
                if group.get("maximize"):
                    grads = list(torch._foreach_neg(grads))
                self.update(group, trained, params, grads)
        return loss

    def update(self, group: Group, trained: Parameters, params: Tensors, grads: Tensors) -> None:
        """Change the parameters of one group, all of them at once.

        Args:
            group: settings of the group.
            trained: parameters to change.
            params: data of ``trained``, to change in place.
            grads: gradients of ``trained``, not to change; negated to maximize.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients to None, or to zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return settings and state in torch's format, parameters by number; shared, not copied."""
        params = [p for group in self.param_groups for p in group["params"]]
        number = {parameter: index for index, parameter in enumerate(params)}
        return {
            "state": {number[parameter]: state for parameter, state in self.state.items()},
            "param_groups": [
                {**group, "params": [number[p] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copy settings and state from ``state_dict``, of this framework or of torch.

        Raises:
            ValueError: number or sizes of its groups differ from this optimizer's, or it lacks
                settings of this optimizer, as the state of one of another kind does.
        """
        saved = state_dict["param_groups"]
        given = [len(group["params"]) for group in saved]
        expected = [len(group["params"]) for group in self.param_groups]
        if given != expected:
            raise ValueError(
                f"loaded state dict has parameter groups of sizes {given}, expected {expected}; "
                "create the optimizer with the groups of the saved one"
            )
        # Flags may be missing: older versions of torch have fewer.
        needed = {name for name, value in self.defaults.items() if not isinstance(value, bool)}
        for group in saved:
            if not needed <= group.keys():
                raise ValueError(
                    f"loaded state dict has no {', '.join(sorted(needed - group.keys()))}, which "
                    f"{type(self).__name__} needs; load it into an optimizer of the kind that "
                    "saved it"
                )
        self.param_groups = [
            {**self.defaults, **group, "params": present["params"]}
            for group, present in zip(saved, self.param_groups, strict=True)
        ]
        parameters = {
            number: parameter
            for group, present in zip(saved, self.param_groups, strict=True)
            for number, parameter in zip(group["params"], present["params"], strict=True)
        }
        self.state = {
            parameters[number]: {
                name: _convert(name, value, parameters[number]) for name, value in state.items()
            }
            for number, state in state_dict["state"].items()
        }

    def __repr__(self) -> str:
        lines = [
            f"Parameter Group {index}\n"
            + "".join(f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params")
            for index, group in enumerate(self.param_groups)
        ]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + ")"


def _convert(name: str, value: Any, parameter: Parameter) -> Any:
    """Return a copy of ``value`` with the parameter's dtype and device; a step as a number."""
    if name == "step":
        return int(value)  # torch keeps the step in a tensor, and accepts a number
    if isinstance(value, Tensor):
        return value.detach().to(parameter.device, parameter.dtype, copy=True)
    return value
