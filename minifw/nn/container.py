"""Containers: lists of modules, and modules called one after the other."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from minifw.nn.module import Module
from minifw.nn.rule import NOT_DIFFERENTIATED, Pullback, not_differentiated
from minifw.nn.tape import forward_pass

__all__ = ["ModuleList", "Sequential"]


class _Ordered(Module, capturable=True):
    """Modules that can be indexed, as in a list."""

    def _place(self, name: str, module: object) -> None:
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__} expects modules of minifw.nn, got {type(module).__name__} "
                f"at {name!r}"
            )
        setattr(self, name, module)

    def _renumber(self, modules: Iterable[object]) -> None:
        for name, _ in list(self._assigned()):
            delattr(self, name)
        for place, module in enumerate(modules):
            self._place(str(place), module)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns the container."""
        self._place(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Insert a module before ``index``; all modules are then named by their index."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def __setitem__(self, index: int, module: Module) -> None:
        self._place([name for name, _ in self._assigned()][index], module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._renumber(modules)

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self._assigned())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class ModuleList(_Ordered, capturable=True):
    """A list of modules, for a ``forward`` that calls them.

    Indexing, slicing, iteration and ``len`` work as for a list; names in the state_dict are the
    indices.

    Args:
        modules: the modules. Default: none.

    Raises:
        TypeError: an entry is not a module.

    Source: report 003 (modules of any shape); :class:`torch.nn.ModuleList`.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        return ModuleList(list(self)[index]) if isinstance(index, slice) else list(self)[index]


class Sequential(_Ordered, capturable=True):
    """Call modules one after the other, each on the output of its predecessor.

    Args:
        modules: the modules, or a dict of modules by name.

    Raises:
        TypeError: an argument is not a module.

    Source: reports 000 to 004; :class:`torch.nn.Sequential`.
    """

    def __init__(self, *modules: Module | dict[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self._place(name, module)
        else:
            self._renumber(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self._assigned())[index]))
        return list(self)[index]

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def rule(self, input: Any) -> tuple[Any, Pullback]:
        """Return output and pullback: as by a tape, but a chain needs no ids of tensors."""
        modules = [value for value in vars(self).values() if isinstance(value, Module)]
        recording = forward_pass.recording
        pullbacks = []
        try:
            for module in modules:
                rule = module.call_rule if module._backward_hooks else module.rule
                input, pullback = rule(input)
                if recording:
                    pullbacks.append(pullback)
        except Exception as error:
            vars(error).setdefault("failed_in", module)
            raise

        def pullback_chain(*grads: Any, needs_input_grad: bool = True) -> Any:
            if not modules:
                return grads[0]
            first = 0
            if not needs_input_grad:
                while not modules[first].is_trained():
                    first += 1
            for place in range(len(modules) - 1, first, -1):
                # Popping frees what each call kept as soon as it has been used.
                grad = pullbacks.pop()(*grads)
                if grad is None or grad is NOT_DIFFERENTIATED:
                    if grad is not None and any(other.is_trained() for other in modules[:place]):
                        raise RuntimeError(not_differentiated(modules[place]))
                    return grad
                grads = (grad,)
            options = {} if needs_input_grad else {"needs_input_grad": False}
            return pullbacks.pop()(*grads, **options)

        return input, pullback_chain
