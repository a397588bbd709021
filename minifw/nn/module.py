"""Module: what every layer, loss and model is; its children, parameters, buffers and state."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self, TypeVar

from torch import Tensor

from minifw.nn.differentiable import Differentiable
from minifw.nn.parameter import Parameter

__all__ = ["Module"]


class Module(Differentiable, capturable=True):
    """Base class of every layer, loss and model.

    A subclass assigns parameters and sub-modules to attributes and defines one of two methods. It
    never defines ``backward``.

    - ``forward(*inputs)`` calls other modules and returns the output, as in torch. A
      :class:`~minifw.nn.tape.Tape` records the calls and goes through them in reverse.
    - ``rule(*inputs)`` computes on tensors and returns output and pullback: the closure that maps
      the gradient of the output to that of each input (:mod:`minifw.nn.rule`).

    >>> import torch
    >>> from minifw import nn
    >>> module = nn.ReLU()
    >>> module(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    >>> module.backward(torch.tensor([10.0, 10.0]))
    tensor([ 0., 10.])

    Attributes:
        training (bool): set by :meth:`train` and :meth:`eval`; default True.
    """

    training: bool = True
    # Names of buffers, and whether the state_dict has them.
    _buffers: Mapping[str, bool] = MappingProxyType({})

    def __setattr__(self, name: str, value: object) -> None:
        present, kind = vars(self).get(name), ""
        if name in self._buffers and not isinstance(value, Tensor | None):
            kind, expected = "buffer", "torch.Tensor or None expected"
        elif isinstance(present, Module) and not isinstance(value, Module | Parameter | None):
            kind, expected = "child module", f"Module or None expected; del {name} first"
        elif isinstance(present, Parameter) and not isinstance(value, Parameter | None):
            kind = "parameter"
            expected = f"Parameter or None expected; to change its values assign to {name}.data"
        if kind:
            raise TypeError(
                f"cannot assign {type(value).__name__} as {kind} {name!r} of {type(self).__name__} "
                f"({expected})"
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in self._buffers:
            self._buffers = {key: kept for key, kept in self._buffers.items() if key != name}

    def _assigned(self) -> Iterator[tuple[str, "Module"]]:
        """Iterate over the modules assigned to this one; a shared module appears several times."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Iterate over the modules assigned to this one, each once, with its name."""
        return _once(self._assigned())

    def children(self) -> Iterator["Module"]:
        """Iterate over the modules assigned to this one, each once."""
        return (child for _, child in self.named_children())

    def _paths(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Iterate over all paths and their modules; a shared module has several paths."""
        yield prefix, self
        for name, child in self._assigned():
            yield from child._paths(_join(prefix, name))

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Iterate over this module and all below it, each once, with its path ("" for this one)."""
        return _once(self._paths())

    def modules(self) -> Iterator["Module"]:
        """Iterate over this module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters of this module and all below it, each once, with its path."""
        return _once(
            (_join(path, name), value)
            for path, module in self.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, Parameter)
        )

    def parameters(self) -> Iterator[Parameter]:
        """Iterate over the parameters of this module and all below it, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Assign ``tensor`` as state that is not trained; :meth:`to` moves and casts it.

        Args:
            name: name of the attribute.
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
        """Iterate over the buffers of this module and all below it, each once, with its path."""
        return _once(
            (_join(path, name), vars(module)[name])
            for path, module in self.named_modules()
            for name in module._buffers
            if vars(module)[name] is not None
        )

    def buffers(self) -> Iterator[Tensor]:
        """Iterate over the buffers of this module and all below it, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, function: Callable[["Module"], object]) -> Self:
        """Call ``function`` on every module below this one, then on this one, as torch does."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def is_trained(self) -> bool:
        for value in vars(self).values():
            if isinstance(value, Parameter):
                trained = value.requires_grad
            elif isinstance(value, Module):
                trained = value.is_trained()
            else:
                continue
            if trained:
                return True
        return False

    # Modes and state.

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, statistics run) here and below."""
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
            parameter.zero_grad(set_to_none)

    def to(self, *args: Any, **options: Any) -> Self:
        """Move and cast parameters and buffers, as :meth:`torch.Tensor.to`; returns the module.

        Tensors that are not floating-point are moved and keep their dtype.

        Raises:
            TypeError: the dtype is not floating-point; nothing has been cast.
        """

        def moved(tensor: Tensor) -> Tensor:
            result = tensor.to(*args, **options)
            if not tensor.is_floating_point():
                return tensor.to(result.device)
            if not result.is_floating_point():
                raise TypeError(f"to only accepts floating-point dtypes, but got {result.dtype}")
            return result

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
        """Return the tensors of parameters and persistent buffers by path, in torch's order.

        They are shared with the module, not copied.
        """
        state: dict[str, Tensor] = {}
        for path, module in self._paths():
            values = vars(module)
            named = [(name, p.data) for name, p in values.items() if type(p) is Parameter]
            named += [(name, values[name]) for name, kept in module._buffers.items() if kept]
            state |= {_join(path, name): tensor for name, tensor in named if tensor is not None}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy ``state_dict``, of this framework or of torch, into parameters and buffers.

        With ``strict=False`` it transfers the tensors that two models have in common. A parameter
        keeps its ``requires_grad``. To replace a parameter itself, assign another before you make
        the optimizer, which keeps the parameters it was given: ``module.weight = Parameter(...)``.

        Args:
            state_dict: tensors by path.
            strict: whether the keys must be exactly those of :meth:`state_dict`. Default: True.

        Raises:
            RuntimeError: keys are missing or unexpected, or shapes differ. The message lists all of
                them, and nothing has been copied.
        """
        expected = self.state_dict()
        shared = [key for key in expected if key in state_dict]
        faults = []
        if strict:
            faults += [f"missing key {key!r}" for key in expected if key not in state_dict]
            faults += [f"unexpected key {key!r}" for key in state_dict if key not in expected]
        for key in shared:
            shape, found = list(expected[key].shape), list(state_dict[key].shape)
            if shape != found:
                faults.append(f"size mismatch for {key!r}: expected shape {shape}, got {found}")
        if faults:
            raise RuntimeError(
                f"cannot load state_dict into {type(self).__name__}: " + "; ".join(faults)
            )
        for key in shared:
            expected[key].copy_(state_dict[key].detach())

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._assigned()]
        if not lines:
            return self._describe()
        head = [self.extra_repr()] if self.extra_repr() else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"


T = TypeVar("T")


def _once(named: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Iterate over each value once, under its first name."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
