"""Modules of both frameworks, and functions that autograd goes through."""

import functools
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import minifw
from minifw.nn.rule import as_tuple
from minifw.testing.subjects.arrays import flat
from minifw.testing.subjects.environment import kept, restored
from minifw.testing.subjects.subject import NotApplicable, Step, Subject

__all__ = ["Function", "MinifwModule", "Module", "TorchModule", "Traced"]


class Module(Subject):
    """What the modules of both frameworks have in common."""

    def slots(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self.made.named_parameters()}

    def slot_gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.made.named_parameters()}

    def buffers(self) -> dict[str, Tensor]:
        return dict(self.made.named_buffers())

    def load_parameters(self, values: Mapping[str, Tensor]) -> None:
        before = {name: tensor.clone() for name, tensor in self.parameters().items()}
        self.set_parameters(values)
        state = {name: value.clone() for name, value in self.made.state_dict().items()}
        self.set_parameters(before)
        self.made.load_state_dict(state)

    def replace_parameters(self, change: Callable[[Tensor], Tensor]) -> None:
        for _, parameter in self.made.named_parameters():
            parameter.data = change(parameter.data)

    def freeze(self, names: Iterable[str] | None = None) -> bool:
        own = {self.fits[name].slot for name in (self.fits if names is None else names)}
        for name, parameter in self.made.named_parameters():
            parameter.requires_grad_(name not in own)
        return True


class MinifwModule(Module):
    """A module of minifw, with the tape as its stack of calls."""

    kind = "minifw module"
    contract = "minifw"

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        with kept(self.changes, "forward"):
            return as_tuple(self.made(*inputs))

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        with kept(self.changes, "backward"):
            return as_tuple(self.made.backward(*grad_outputs))

    def step(self, inputs: Sequence[Any]) -> Step:
        self.made.zero_grad()
        return Step(functools.partial(self.forward, *inputs), self.backward)

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
    in_graph = True

    def __init__(
        self, made: Any, dtype: torch.dtype, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        super().__init__(made)
        self.dtype, self.arguments, self.options = dtype, arguments, options
        self.silent: frozenset[int] = frozenset()  # places of inputs without gradient
        self.reaches = False  # whether autograd went through the latest call
        self.factor: Callable[[Tensor], float] | None = None  # of a loss, by its input
        self._calls: list[tuple[tuple[Any, ...], tuple[Tensor, ...]]] = []
        self._next = -1  # of them, to go back through
        self._how = ""  # autograd is used; see use_autograd
        self._shared: dict[int, tuple[Any, Any]] = {}  # inputs with their one leaf, by identity

    def use_autograd(self, how: str) -> None:
        self._how = how

    def choose_call(self, place: int) -> None:
        self._next = place

    def without_gradient(self, places: Collection[int]) -> None:
        self.silent = frozenset(places)

    def differentiate_twice(
        self, inputs: Sequence[Any], draw: Callable[[Sequence[Tensor], str], list[Tensor]]
    ) -> dict[str, Tensor]:
        self.forward(*inputs)
        leaves, outputs = self._calls.pop()
        sources = {
            f"input.{place}": value
            for place, value in enumerate(leaves)
            if isinstance(value, Tensor) and value.requires_grad
        } | {name: value for name, value in self.trained().items() if value.requires_grad}
        outputs = tuple(output for output in outputs if output.requires_grad)
        if not outputs or not sources:
            raise NotApplicable("nothing requires a gradient")
        cotangents = [cotangent.requires_grad_() for cotangent in draw(outputs, "")]
        first = torch.autograd.grad(
            outputs, list(sources.values()), cotangents, create_graph=True, allow_unused=True
        )
        pairs = zip(sources, first, strict=True)
        grads = [self._as_reference(name, grad) for name, grad in pairs if grad is not None]
        weights = draw(grads, "weights")
        total = torch.stack([(g * w).sum() for g, w in zip(grads, weights, strict=True)]).sum()
        try:
            # All of the graph: a refusal stands where no path leads to the sources.
            torch.autograd.backward(total, retain_graph=True)
            second = torch.autograd.grad(total, [*sources.values(), *cotangents], allow_unused=True)
        except RuntimeError as error:
            raise NotApplicable(f"it refuses a second derivative: {error}") from error
        finally:
            for source in sources.values():
                source.grad = None
        names = [*sources, *(f"cotangent.{place}" for place in range(len(cotangents)))]
        return {
            f"{name}.grad": self._as_reference(name, grad.detach())
            for name, grad in zip(names, second, strict=True)
            if grad is not None
        }

    def trained(self) -> dict[str, Tensor]:
        """The parameters as they stand in autograd's graph, by the reference's names."""
        return {}

    def _as_reference(self, name: str, grad: Tensor) -> Tensor:
        """A gradient in the shape of the reference's, whose weight may lie transposed."""
        return self.fits[name].gradient(grad) if name in self.fits else grad

    def _called(self, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        outputs = tensors(self.call(*inputs))
        factor = self.factor(inputs[0]) if self.factor else 1.0
        return outputs if factor == 1.0 else tuple(output * factor for output in outputs)

    def call(self, *leaves: Any) -> Any:
        """Call what was made, within autograd."""
        return self.made(*leaves, *self.arguments, **self.options)

    def _leaves(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs as leaves of the graph; a tensor that is given twice is one leaf."""
        made = {id(value): leaf(value) for value in inputs}
        if self._how == "one leaf":
            for value in inputs:
                self._shared.setdefault(id(value), (value, made[id(value)]))
            made = {key: own for key, (_, own) in self._shared.items()}
        return tuple(
            value if place in self.silent else made[id(value)] for place, value in enumerate(inputs)
        )

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        leaves = given = self._leaves(inputs)
        with restored():
            torch.set_grad_enabled(True)
            torch.set_default_dtype(self.dtype)
            if self._how == "not leaves":
                given = tuple(
                    v * 1 if isinstance(v, Tensor) and v.requires_grad else v for v in leaves
                )
            with kept(self.changes, "forward"):
                try:
                    outputs = self._called(given)
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
        leaves, outputs = self._calls[self._next]
        if self._how == "retained":
            for value in leaves:
                if isinstance(value, Tensor):
                    value.grad = None
        else:
            self._calls.pop(self._next)
        self._next = -1
        # Else nothing that requires grad has influence on the output, or nothing depends on it.
        reached = [
            place
            for place, output in enumerate(outputs)
            if output.requires_grad and grad_outputs[place] is not None
        ]
        if reached:
            pair = ([outputs[place] for place in reached], [grad_outputs[p] for p in reached])
            with restored():
                torch.set_default_dtype(self.dtype)
                with kept(self.changes, "backward"):
                    if self._how == "asked":
                        return self._ask(leaves, *pair)
                    torch.autograd.backward(*pair, retain_graph=self._how == "retained")
        return tuple(value.grad if isinstance(value, Tensor) else None for value in leaves)

    def _ask(
        self, leaves: tuple[Any, ...], outputs: list[Tensor], cotangents: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs, by torch.autograd.grad; those of parameters as asked."""
        places = [
            i for i, value in enumerate(leaves) if isinstance(value, Tensor) and value.requires_grad
        ]
        trained = {name: value for name, value in self.trained().items() if value.requires_grad}
        sources = [*(leaves[place] for place in places), *trained.values()]
        if not sources:
            return (None,) * len(leaves)
        found = torch.autograd.grad(outputs, sources, cotangents, allow_unused=True)
        if any(leaves[place].grad is not None for place in places):
            self.changes.append("the grad of an input was filled by torch.autograd.grad")
        parameters = zip(trained, found[len(places) :], strict=True)
        self.asked = {
            name: self._as_reference(name, grad) for name, grad in parameters if grad is not None
        }
        grads = dict(zip(places, found, strict=False))
        return tuple(grads.get(place) for place in range(len(leaves)))

    def forward_mode(
        self, inputs: Sequence[Any], draw: Callable[[Sequence[Tensor], str], list[Tensor]]
    ) -> tuple[Tensor, ...]:
        real = [v for v in inputs if isinstance(v, Tensor) and v.is_floating_point()]
        tangents = iter(draw(real, ""))
        ad: Any = torch.autograd.forward_ad
        with restored(), torch.no_grad(), ad.dual_level(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.set_default_dtype(self.dtype)
            duals = [
                ad.make_dual(v.detach(), next(tangents))
                if isinstance(v, Tensor) and v.is_floating_point()
                else v
                for v in inputs
            ]
            try:
                unpack: Any = ad.unpack_dual
                parts = [unpack(output) for output in self._called(tuple(duals))]
            except Exception as error:
                raise NotApplicable(f"it refuses forward mode: {error}".splitlines()[0]) from error
        if all(tangent is None for _, tangent in parts):  # an operator of torch.library
            raise NotApplicable("forward mode does not go through it")
        return tuple(
            torch.zeros_like(primal) if tangent is None else tangent.clone()
            for primal, tangent in parts
        )

    def mapped(self, stacked: Sequence[Any]) -> tuple[Tensor, ...]:
        with restored(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operation has no batching rule of its own
            torch.set_default_dtype(self.dtype)
            try:
                mapped = torch.func.vmap(lambda *given: self._called(given), in_dims=-1)
                return tuple(output.clone() for output in mapped(*stacked))
            except Exception as error:
                raise NotApplicable(f"it refuses vmap: {error}".splitlines()[0]) from error

    def step(self, inputs: Sequence[Any]) -> Step:
        for value in self.trained().values():
            value.grad = None
        leaves = self._leaves(inputs)
        reached: list[Tensor] = []

        def forward() -> tuple[Tensor, ...]:
            outputs = self._called(leaves)
            reached[:] = [output for output in outputs if output.requires_grad]
            return outputs

        def backward(*cotangents: Tensor) -> list[Tensor | None]:
            torch.autograd.backward(reached, cotangents[: len(reached)])
            return [value.grad if isinstance(value, Tensor) else None for value in leaves]

        return Step(forward, backward)

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        with restored(), torch.no_grad():
            torch.set_default_dtype(self.dtype)
            with kept(self.changes, "forward"):
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

    def trained(self) -> dict[str, Tensor]:
        slots = dict(self.made.named_parameters())
        return {name: slots[fit.slot] for name, fit in self.fits.items()}

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

    def trained(self) -> dict[str, Tensor]:
        return {name: self._parameters[fit.slot] for name, fit in self.fits.items()}

    def slots(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._parameters.items()}

    def slot_gradients(self) -> dict[str, Tensor | None]:
        return {name: value.grad for name, value in self._parameters.items()}

    def replace_parameters(self, change: Callable[[Tensor], Tensor]) -> None:
        for value in self._parameters.values():
            value.data = change(value.data)

    def freeze(self, names: Iterable[str] | None = None) -> bool:
        own = {self.fits[name].slot for name in (self.fits if names is None else names)}
        for name, value in self._parameters.items():
            value.requires_grad_(name not in own)
        return True
