"""The tree of modules: children, parameters and buffers by path, modes and state."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor

from minifw.nn.parameter import Parameter

if TYPE_CHECKING:
    from minifw.nn.module import Module

__all__ = ["ModuleTree"]


class ModuleTree:
    """The half of :class:`~minifw.nn.module.Module` that does not compute.

    The tree is read off the attributes, in the order of their first assignment.

    Attributes:
        training (bool): set by :meth:`train` and :meth:`eval`; default True.
        members (int | None): how many models it is a stack of; None if it is no stack.
    """

    training: bool = True
    members: int | None = None
    # Names of buffers, and whether the state_dict has them.
    _buffers: Mapping[str, bool] = MappingProxyType({})

    def __setattr__(self, name: str, value: object) -> None:
        present = vars(self).get(name)
        if name in self._buffers and not isinstance(value, Tensor | None):
            raise TypeError(
                f"cannot assign {type(value).__name__} as buffer {name!r} of {type(self).__name__} "
                "(torch.Tensor or None expected)"
            )
        if isinstance(present, ModuleTree) and not isinstance(value, ModuleTree | Parameter | None):
            raise TypeError(
                f"cannot assign {type(value).__name__} as child module {name!r} of "
                f"{type(self).__name__} (Module or None expected); del {name} first"
            )
        if isinstance(present, Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"cannot assign {type(value).__name__} as parameter {name!r} of "
                f"{type(self).__name__} (Parameter or None expected); to change its values assign "
                f"to {name}.data"
            )
        super().__setattr__(name, value)

    def _child_places(self) -> Iterator[tuple[str, "Module"]]:
        """The modules assigned to this one, each with its name; a shared module has several."""
        for name, value in vars(self).items():
            if isinstance(value, ModuleTree):
                yield name, cast("Module", value)

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules assigned to this one, each once, with its name."""
        seen: set[Module] = set()
        for name, child in self._child_places():
            if child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator["Module"]:
        """The modules assigned to this one, each once."""
        return (child for _, child in self.named_children())

    def _named_places(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Every path that leads to a module; a shared module has several."""
        yield prefix, cast("Module", self)
        for name, child in self._child_places():
            yield from child._named_places(f"{prefix}.{name}" if prefix else name)

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, each once, with its path ("" for this one)."""
        seen: set[Module] = set()
        for path, module in self._named_places():
            if module not in seen:
                seen.add(module)
                yield path, module

    def modules(self) -> Iterator["Module"]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters of this module and all below it, each once, with its path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def parameters(self) -> Iterator[Parameter]:
        """The parameters of this module and all below it, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Assign ``tensor`` as state that is not trained; :meth:`to` moves and casts it.

        Args:
            name: of the attribute.
            tensor: the values; None for a buffer that is not in use.
            persistent: whether :meth:`state_dict` has it. Default: True.

        Raises:
            TypeError: the name is not a string, or the tensor not a tensor.
            KeyError: the name is empty, has a dot, or is that of another attribute.
        """
        if not isinstance(name, str):
            raise TypeError(f"buffer name should be a string, got {type(name).__name__}")
        if not name or "." in name or (hasattr(self, name) and name not in self._buffers):
            raise KeyError(
                f"expected a buffer name without a dot that {type(self).__name__} has no other "
                f"attribute of, got {name!r}"
            )
        if not isinstance(tensor, Tensor | None):
            raise TypeError(f"buffer {name!r} must be a torch.Tensor, got {type(tensor).__name__}")
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, None if tensor is None else tensor.detach())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers of this module and all below it, each once, with its path."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name in module._buffers:
                value = vars(module)[name]
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def buffers(self) -> Iterator[Tensor]:
        """The buffers of this module and all below it, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, function: Callable[["Module"], object]) -> Self:
        """Call ``function`` on every module below this one, then on this one, as torch does."""
        for child in self.children():
            child.apply(function)
        function(cast("Module", self))
        return self

    def is_trained(self) -> bool:
        """Whether any parameter here or below has ``requires_grad``."""
        for value in vars(self).values():
            if isinstance(value, Parameter):
                trained = value.requires_grad
            elif isinstance(value, ModuleTree):
                trained = value.is_trained()
            else:
                continue
            if trained:
                return True
        return False

    # Modes and state.

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout at work) here and below."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad`` of every parameter; False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of every parameter to None, or to zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None  # unread, as to read one that is lent is to copy it
            elif parameter.grad is not None:
                parameter.grad = torch.zeros_like(parameter.grad)

    def to(self, *args: Any, **options: Any) -> Self:
        """Move and cast parameters and buffers, as :meth:`torch.Tensor.to`; returns the module.

        What is not floating-point is moved and keeps its dtype.

        Raises:
            TypeError: the dtype is not floating-point; nothing has been cast.
        """

        def moved(tensor: Tensor) -> Tensor:
            there = tensor.to(*args, **options)
            if not tensor.is_floating_point():
                return tensor.to(there.device)
            if not there.is_floating_point():
                raise TypeError(f"to only accepts floating-point dtypes, but got {there.dtype}")
            return there

        parameters = [(parameter, moved(parameter.data)) for parameter in self.parameters()]
        buffers = {id(buffer): moved(buffer) for buffer in self.buffers()}
        for parameter, data in parameters:
            parameter.data = data
            if parameter.grad is not None:
                parameter.grad = parameter.grad.to(*args, **options)
        for module in self.modules():
            for name in module._buffers:
                value = vars(module)[name]
                if value is not None:
                    setattr(module, name, buffers[id(value)])
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of parameters and persistent buffers by path, in torch's keys and order.

        They are shared with the module, not copied.
        """
        state = {}
        for path, module in self._named_places():
            of = vars(module)
            named = [(name, value.data) for name, value in of.items() if type(value) is Parameter]
            named += [(name, of[name]) for name, kept in module._buffers.items() if kept]
            for name, tensor in named:
                if tensor is not None:
                    state[f"{path}.{name}" if path else name] = tensor
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy ``state_dict``, of this framework or of torch, into parameters and buffers.

        With ``strict=False`` it transfers what two models share. A parameter keeps its
        ``requires_grad``. To replace a parameter itself, assign another:
        ``module.weight = Parameter(...)``, before the optimizer is made, which holds those it got.

        Args:
            state_dict: tensors by path.
            strict: whether the keys must be exactly those of :meth:`state_dict`. Default: True.

        Raises:
            RuntimeError: keys are missing or unexpected, or shapes differ; all of them are listed,
                and nothing has been copied.
        """
        own = self.state_dict()
        faults = []
        if strict:
            faults += [f"missing key {key!r}" for key in own if key not in state_dict]
            faults += [f"unexpected key {key!r}" for key in state_dict if key not in own]
        shared = [key for key in own if key in state_dict]
        faults += [
            f"size mismatch for {key!r}: expected shape {list(own[key].shape)}, "
            f"got {list(state_dict[key].shape)}"
            for key in shared
            if own[key].shape != state_dict[key].shape
        ]
        if faults:
            raise RuntimeError(
                f"cannot load state_dict into {type(self).__name__}: " + "; ".join(faults)
            )
        for key in shared:
            own[key].copy_(state_dict[key].detach())

    # Representation, as torch.

    def extra_repr(self) -> str:
        """The constructor arguments worth showing."""
        return ""

    def _describe(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __repr__(self) -> str:
        lines = [
            f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._child_places()
        ]
        if not lines:
            return self._describe()
        head = [self.extra_repr()] if self.extra_repr() else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"
