"""Containers: modules made of modules. None of them needs a backward of its own."""

from collections.abc import Iterator
from typing import Any, overload

from minifw.nn.module import Module
from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback, forward_pass, not_differentiated

__all__ = ["Sequential"]


class Sequential(Module):
    """Call modules one after the other, each on the output of the one before.

    Args:
        modules: the modules, or one dict of modules by name.

    Raises:
        TypeError: an argument is not a module.

    Source: reports 000 to 004; :class:`torch.nn.Sequential`.
    """

    def __init__(self, *modules: Module | dict[str, Module]) -> None:
        named: dict[str, Any] = (
            modules[0]
            if len(modules) == 1 and isinstance(modules[0], dict)
            else {str(index): module for index, module in enumerate(modules)}
        )
        for name, module in named.items():
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential expects modules of minifw.nn, got {type(module).__name__} "
                    f"at {name!r}"
                )
            setattr(self, name, module)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def rule(self, input: Any) -> tuple[Any, Pullback]:
        """What the tape would make of ``forward``, less the bookkeeping that a chain can spare."""
        modules = [value for value in vars(self).values() if isinstance(value, Module)]
        recording = forward_pass.recording
        pullbacks = []
        for module in modules:
            try:
                input, pullback = module.rule(input)
            except Exception as error:
                vars(error).setdefault("failed_in", module)
                raise
            if recording:
                pullbacks.append(pullback)

        def pullback_chain(*grads: Any, needs_input_grad: bool = True) -> Any:
            if needs_input_grad:
                first = 0
            else:
                first = next(i for i, module in enumerate(modules) if module.is_trained())
            while len(pullbacks) > first + 1:
                grad = pullbacks.pop()(*grads)
                if grad is None or grad is NOT_DIFFERENTIATED:
                    before, module = modules[: len(pullbacks)], modules[len(pullbacks)]
                    if grad is not None and any(other.is_trained() for other in before):
                        raise RuntimeError(not_differentiated(module))
                    return grad
                grads = (grad,)
            if not modules:
                return grads[0]
            if needs_input_grad:
                return pullbacks.pop()(*grads)
            return pullbacks.pop()(*grads, needs_input_grad=False)

        return input, pullback_chain

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self._child_places())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(dict(list(self._child_places())[index]))
        return list(self)[index]
