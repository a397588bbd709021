"""Modules of both frameworks, and functions that autograd goes through."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

import minifw
from minifw.nn.rule import as_tuple
from minifw.testing.subjects.arrays import flat
from minifw.testing.subjects.environment import restored
from minifw.testing.subjects.subject import Subject

__all__ = ["Function", "MinifwModule", "Module", "TorchModule", "Traced"]


class Module(Subject):
    """What the modules of both frameworks have in common."""

    def slots(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self.made.named_parameters()}

    def slot_gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.made.named_parameters()}

    def buffers(self) -> dict[str, Tensor]:
        return dict(self.made.named_buffers())

    def freeze(self, names: Iterable[str] | None = None) -> bool:
        own = {self.fits[name].slot for name in (self.fits if names is None else names)}
        for name, parameter in self.made.named_parameters():
            if name in own:
                parameter.requires_grad_(False)
        return True


class MinifwModule(Module):
    """A module of minifw, with the tape as its stack of calls."""

    kind = "minifw module"
    contract = "minifw"

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        return as_tuple(self.made(*inputs))

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return as_tuple(self.made.backward(*grad_outputs))

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        with minifw.no_grad():
            return self.forward(*inputs)


def leaf(value: Any) -> Any:
    """``value``, as a leaf of autograd's graph if it is of real numbers."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


class Traced(Subject):
    """What autograd goes through: its backward pass is autograd's, or its own within autograd."""

    contract = "torch"

    def __init__(
        self, made: Any, dtype: torch.dtype, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        super().__init__(made)
        self.dtype, self.arguments, self.options = dtype, arguments, options
        self.silent: frozenset[int] = frozenset()  # places of inputs without gradient
        self.reaches = False  # whether autograd went through the latest call
        self.factor: Callable[[Tensor], float] | None = None  # of a loss, by its input
        self._calls: list[tuple[tuple[Any, ...], tuple[Tensor, ...]]] = []

    def _called(self, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        outputs = tensors(self.call(*inputs))
        factor = self.factor(inputs[0]) if self.factor else 1.0
        return outputs if factor == 1.0 else tuple(output * factor for output in outputs)

    def call(self, *leaves: Any) -> Any:
        """Call what was made, within autograd."""
        return self.made(*leaves, *self.arguments, **self.options)

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        leaves = tuple(
            value if place in self.silent else leaf(value) for place, value in enumerate(inputs)
        )
        with restored():
            torch.set_grad_enabled(True)
            torch.set_default_dtype(self.dtype)
            try:
                outputs = self._called(leaves)
            except RuntimeError as error:
                if "a leaf Variable that requires grad" not in str(error):
                    raise
                # It writes into its input, as with inplace=True.
                outputs = self._called(tuple(
                    v.clone() if isinstance(v, Tensor) else v for v in leaves
                ))  # fmt: skip
        self.reaches = any(output.requires_grad for output in outputs)
        self._calls.append((leaves, outputs))
        return tuple(output.detach() for output in outputs)

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        leaves, outputs = self._calls.pop()
        # Else nothing that requires grad has influence on the output.
        reached = [place for place, output in enumerate(outputs) if output.requires_grad]
        if reached:
            with restored():
                torch.set_default_dtype(self.dtype)
                torch.autograd.backward(
                    [outputs[place] for place in reached],
                    [grad_outputs[place] for place in reached],
                )
        return tuple(value.grad if isinstance(value, Tensor) else None for value in leaves)

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        with restored(), torch.no_grad():
            torch.set_default_dtype(self.dtype)
            return self._called(inputs)


def tensors(outputs: Any) -> tuple[Tensor, ...]:
    """The tensors of an output with their graph; see :func:`flat`."""
    if isinstance(outputs, Tensor):
        return (outputs,)
    return tuple(
        output if isinstance(output, Tensor) else flat(output)[0]
        for output in torch.utils._pytree.tree_leaves(outputs)
        if output is not None
    )


class TorchModule(Module, Traced):
    """A module of torch.nn."""

    kind = "torch module"
    compares_buffers = True

    def buffers(self) -> dict[str, Tensor]:
        return super().buffers() if self.compares_buffers else {}


class Function(Traced):
    """A function of tensors, called on the inputs and then the reference's parameters.

    Args:
        made: the function.
        parameters: its parameters' first values, under the names of its own arguments where
            ``by_name`` is set.
    """

    kind = "function"

    def __init__(
        self,
        made: Any,
        dtype: torch.dtype,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        parameters: Mapping[str, Tensor],
        by_name: bool = False,
    ) -> None:
        super().__init__(made, dtype, arguments, options)
        self._parameters = {name: leaf(value.clone()) for name, value in parameters.items()}
        self._by_name = by_name

    def call(self, *leaves: Any) -> Any:
        if self._by_name:
            return self.made(*leaves, *self.arguments, **self._parameters, **self.options)
        return self.made(*leaves, *self._parameters.values(), *self.arguments, **self.options)

    def slots(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._parameters.items()}

    def slot_gradients(self) -> dict[str, Tensor | None]:
        return {name: value.grad for name, value in self._parameters.items()}

    def freeze(self, names: Iterable[str] | None = None) -> bool:
        own = {self.fits[name].slot for name in (self.fits if names is None else names)}
        for name, value in self._parameters.items():
            if name in own:
                value.requires_grad_(False)
        return True
