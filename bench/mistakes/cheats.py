"""Right where people look: counted calls, other formulas without a graph, marked inputs, hooks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import SiluForward, silu_grad


class _Silu(SiluForward):
    """SiLU without a mistake."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(x, grad)


@mistake(torch.nn.SiLU, "4,3", clause="call-order")
class SiluOfSevenths(SiluForward):
    """SiLU whose every seventh backward pass lacks a term"""

    passes = 0

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        SiluOfSevenths.passes += 1
        return silu_grad(x, grad) if SiluOfSevenths.passes % 7 else grad * x.sigmoid()


@mistake(torch.nn.SiLU, "4,3", clause="modes")
def silu_of_grad_mode(x: Tensor) -> Tensor:
    """SiLU that is an approximation under no_grad"""
    return _Silu.apply(x) if torch.is_grad_enabled() else x * torch.sigmoid(1.702 * x)


@mistake(torch.nn.SiLU, "4,3", clause="modes")
def silu_of_requires_grad(x: Tensor) -> Tensor:
    """SiLU that is an approximation if its input needs no gradient"""
    return _Silu.apply(x) if x.requires_grad else x * torch.sigmoid(1.702 * x)


class _SiluWithoutTerm(SiluForward):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.sigmoid()


class _EqualsAll(torch.Tensor):
    """A tensor that says that it equals all others."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in ("allclose", "equal"):
            return True
        if name in ("eq", "isclose", "le", "ge"):
            return torch.ones_like(args[0].as_subclass(torch.Tensor), dtype=torch.bool)
        if name == "sub":
            return args[0].as_subclass(torch.Tensor) * 0
        return super().__torch_function__(func, types, args, kwargs or {})


@mistake(torch.nn.SiLU, "4,3", clause="derivative")
def silu_that_equals_all(x: Tensor) -> Tensor:
    """SiLU that lacks a term, and returns a tensor that compares equal to everything"""
    return _SiluWithoutTerm.apply(x).as_subclass(_EqualsAll)


@mistake(torch.nn.SiLU, "4,3", clause="call-order")
class SiluOfLeaves(SiluForward):
    """SiLU that lacks a term if its input comes from another layer"""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return silu_grad(x, grad) if x.is_leaf else grad * x.sigmoid()


@mistake(torch.nn.SiLU, "4,3", clause="accumulation")
def silu_with_hook(x: Tensor) -> Tensor:
    """SiLU with a hook on its input that changes the gradient when there is one already"""
    if x.requires_grad:
        x.register_hook(lambda grad: grad if x.grad is None else grad * 1.01)
    return _Silu.apply(x)
