"""Wrong subjects that only a special way of calling them tells from right ones."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from minifw.testing.catalog import catalog
from minifw.testing.check import check
from minifw.testing.comparison import Comparison
from minifw.testing.example import parse_input
from minifw.testing.isolation import _decode, _encode
from minifw.testing.verdict import failures


class Tanh(Function):
    """A right one."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        output = input.tanh()
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (output,) = ctx.saved_tensors
        return grad * (1 - output * output)


class Draws(Tanh):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        torch.rand(1)
        return Tanh.backward(ctx, grad)


class Threads(Tanh):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        torch.set_num_threads(torch.get_num_threads() + 1)
        return Tanh.backward(ctx, grad)


class FirstEntry(Tanh):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return Tanh.backward(ctx, grad) * bool(grad.flatten()[0] != 0)


class Buffer(Tanh):
    buffer = torch.empty(4, 3, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return Buffer.buffer.copy_(Tanh.backward(ctx, grad))


class Scaled(Function):
    """Its saved gradient is scaled in place."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.derivative = 1 - input.tanh() ** 2
        return input.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return ctx.derivative.mul_(grad).clone()


class Unsaved(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.input = input.data
        return input.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * (1 - ctx.input.tanh() ** 2)


class Leaf(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        return input.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        return grad * (1 - input.tanh() ** 2) * (1 if input.is_leaf else 2)


class Forward(Function):
    """Wrong in forward mode, and mapped along a last dimension."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input.cumsum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad.flip(-1).cumsum(-1).flip(-1)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.flip(-1).cumsum(-1)

    @staticmethod
    def vmap(info: Any, dims: Any, input: Tensor) -> Any:
        return Forward.apply(input), dims[0]


class Both(Function):
    """An output without a gradient ends the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Any:
        ctx.save_for_backward(input)
        return input.sin(), input.exp()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Any:
        (input,) = ctx.saved_tensors
        if not first.any() or not second.any():
            return None
        return first * input.cos() + second * input.exp()


class Product(Function):
    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(one, other)
        return one * other

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        one, other = ctx.saved_tensors
        flat = other.as_strided((other.numel(),), (1,)).view(other.shape)
        return grad * (flat if one.is_contiguous() else other), grad * one


class Cached(torch.nn.Linear):
    """Keeps its weight when it is evaluated."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training or not hasattr(self, "kept"):
            self.kept = self.weight * 1
        return torch.nn.functional.linear(
            input, self.kept.detach() + 0 * self.weight, self.bias
        ) + (input @ (self.weight - self.weight.detach()).t())


def mean_of_all(input: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(input, target, reduction="sum") / target.numel()


def last_classes(input: Tensor, target: Tensor) -> Tensor:
    classes = input.reshape(-1, input.shape[-1] if input.dim() < 3 else input.shape[1])
    return torch.nn.functional.cross_entropy(classes, target.reshape(-1))


CROSS_ENTROPY = (torch.nn.functional.cross_entropy, "4,10", "4:long:10")


@pytest.mark.parametrize(
    ("subject", "name", "reference", "inputs"),
    [
        (Draws, "values-float64", torch.tanh, ["4,3"]),
        (Threads, "values-float64", torch.tanh, ["4,3"]),
        (FirstEntry, "last-row-cotangent", torch.tanh, ["4,3"]),
        (Buffer, "asked", torch.tanh, ["4,3"]),
        (Scaled, "retained", torch.tanh, ["4,3"]),
        (Unsaved, "changed-between", torch.tanh, ["4,3"]),
        (Leaf, "not-leaves", torch.tanh, ["4,3"]),
        (Forward, "forward-mode", lambda x: x.cumsum(-1), ["4,3"]),
        (Forward, "mapped", lambda x: x.cumsum(-1), ["4,3"]),
        (Both, "outputs-unused", lambda x: (x.sin(), x.exp()), ["4,3"]),
        (Product, "one-input-laid-out", torch.mul, ["4,3", "4,3"]),
        (mean_of_all, "ignored", CROSS_ENTROPY[0], CROSS_ENTROPY[1:]),
        (last_classes, "trailing-dimension", CROSS_ENTROPY[0], CROSS_ENTROPY[1:]),
    ],
)
def test_a_check_finds_what_it_is_for(subject: Any, name: str, reference: Any, inputs: Any) -> None:
    specs = tuple(map(parse_input, inputs))

    def found(what: Any) -> Any:
        comparison = Comparison("", what, reference, specs, one_sided=True)
        planned = catalog(("float64",), comparison)[name]
        return [
            v
            for e in planned.examples
            for v in failures(check(comparison, e, name, planned.clause))
        ]

    assert found(subject)
    assert not found(reference)


def test_a_weight_kept_from_an_earlier_evaluation_is_found() -> None:
    specs = (parse_input("4,5"),)
    comparison = Comparison("", Cached, torch.nn.Linear, specs, (5, 3), one_sided=True)
    planned = catalog(("float64",), comparison)["evaluated-weights"]
    assert failures(check(comparison, planned.examples[0], "", planned.clause))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 1), ()])
def test_tensors_of_odd_strides_cross_the_border(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(*shape, 2)[..., 0]
    assert torch.equal(_decode(_encode({"t": tensor}, {}))[0]["t"], tensor)
