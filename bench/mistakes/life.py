"""State kept between calls: stale weights, caches under a wrong key, buffers used again."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.mistakes.mistake import mistake
from bench.mistakes.parts import (
    Linear,
    Scale,
    cube,
    mean,
    rows,
    softmax,
    softmax_grad,
    wide,
)


class _WeightGiven(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(x, kept)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, kept = ctx.saved_tensors
        return grad @ kept, rows(grad).t() @ rows(x), rows(grad).sum(0), None


class _KeepsWeight(Linear):
    """A linear layer with a copy of the weight for the backward pass, made when ``key`` changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.kept, self.kept_for = torch.empty(0), None

    def key(self) -> Any:
        """What the copy is made for."""
        return self.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        key = self.key()
        if key != self.kept_for:
            self.kept, self.kept_for = self.weight.detach().clone(), key
        return _WeightGiven.apply(x, self.weight, self.bias, self.kept)


@mistake(torch.nn.Linear, "4,5", clause="life", init="5, 3")
class LinearOfFirstWeight(_KeepsWeight):
    """Linear whose backward pass uses the weight of the first call"""


@mistake(torch.nn.Linear, "4,5", clause="life", init="5, 3")
class LinearOfVersion(_KeepsWeight):
    """Linear that trusts the weight's version, which .data does not raise"""

    def key(self) -> Any:
        return id(self.weight), self.weight._version, self.weight.dtype


@mistake(torch.nn.Linear, "4,5", clause="life", init="5, 3")
class LinearOfTraining(_KeepsWeight):
    """Linear that does not see in evaluation mode that its weight has changed"""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.kept_for = None
        return super().forward(x)


@mistake(torch.nn.Linear, "4,5", clause="life", init="5, 3")
class LinearOfLoading(_KeepsWeight):
    """Linear that sees load_state_dict, but no step of an optimizer"""

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self.kept_for = None
        super()._load_from_state_dict(*arguments, **options)


@mistake(torch.nn.Linear, "4,5", clause="life", init="5, 3")
class LinearOfGradients(_KeepsWeight):
    """Linear that sees steps by the gradient, which load_state_dict leaves as it is"""

    def key(self) -> Any:
        grad = self.weight.grad
        return self.weight.dtype, id(grad), None if grad is None else grad._version


class _InputOfModule(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any) -> Tensor:
        ctx.module = module
        module.x = x.detach()
        return x.sigmoid()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        s = ctx.module.x.sigmoid()
        return grad * s * (1 - s), None


@mistake(torch.nn.Sigmoid, "4,3", clause="call-order")
class SigmoidOfModule(torch.nn.Module):
    """Sigmoid that keeps its input on the module, where the next call replaces it"""

    def forward(self, x: Tensor) -> Tensor:
        return _InputOfModule.apply(x, self)


@mistake(softmax, "4,5", clause="call-order")
class SoftmaxByShape(Function):
    """Softmax that keeps its output by shape, where the next call replaces it"""

    outputs: dict[Any, Tensor] = {}  # noqa: RUF012 -- the mistake

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.key = x.shape, x.dtype
        y = x.softmax(-1)
        SoftmaxByShape.outputs[ctx.key] = y.detach()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return softmax_grad(SoftmaxByShape.outputs[ctx.key], grad)


@mistake(torch.tanh, "4,3", clause="life")
class TanhByAddress(Function):
    """Tanh that remembers its output by the address of its input, which may be filled again"""

    address: Any = None
    remembered: Any = None  # output, and the input so that its address stays its own

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        address = x.data_ptr(), x.shape, x.stride(), x.dtype
        if TanhByAddress.address != address:
            TanhByAddress.address, TanhByAddress.remembered = address, (x.tanh(), x)
        ctx.save_for_backward(TanhByAddress.remembered[0])
        return x.tanh()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class _Workspace(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, module: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.module = module
        return x * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        parts = rows(grad * x)
        space = ctx.module.space
        if space is None or len(space) < len(parts) or space.dtype != parts.dtype:
            space = ctx.module.space = torch.zeros_like(parts)
        space[: len(parts)] = parts
        return grad * weight, space.sum(0), None


@mistake(Scale, "4,5", clause="life", init="5")
class ScaleOfWorkspace(Scale):
    """Scale whose workspace keeps rows of a larger batch, and adds them to a smaller one"""

    space: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return _Workspace.apply(x, self.weight, self)


class _Captured(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(x, kept)
        return x * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, kept = ctx.saved_tensors
        return grad * kept, rows(grad * x).sum(0), None


@mistake(Scale, "4,5", clause="life", init="5")
class ScaleCaptured(Scale):
    """Scale that keeps the weight of its third call of a size for all later ones"""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.calls: dict[Any, int] = {}
        self.captured: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        key = x.shape, x.dtype
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] == 3:
            self.captured[key] = self.weight.detach().clone()
        return _Captured.apply(x, self.weight, self.captured.get(key, self.weight.detach()))


class _SiluOfFactor(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return F.silu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(wide(x))
        return (wide(grad) * s * (1 + wide(x) * (1 - s) * ctx.factor)).to(grad.dtype), None


@mistake(torch.nn.SiLU, "4,3", clause="life")
class SiluAfterTen(torch.nn.Module):
    """SiLU that is wrong from its eleventh call, when it would be compiled"""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return _SiluOfFactor.apply(x, 1.0 if self.calls <= 10 else 1.01)


class _NotZeroed(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, module: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.module = module
        return x * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        ctx.module.total = ctx.module.total + rows(grad * x).sum(0)
        return grad * weight, ctx.module.total, None


@mistake(Scale, "4,5", clause="call-order", init="5")
class ScaleNotZeroed(Scale):
    """Scale whose buffer of the weight gradient is not zeroed after the first call"""

    total: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return _NotZeroed.apply(x, self.weight, self)


class _OneOutput(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, outputs: dict[Any, Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        y = outputs.setdefault((x.shape, x.dtype), torch.empty(x.shape, dtype=x.dtype))
        y.copy_(x.sigmoid())
        return y.view(y.shape).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        s = ctx.saved_tensors[0].sigmoid()
        return grad * s * (1 - s), None


@mistake(torch.nn.Sigmoid, "4,3", clause="side-effects")
class SigmoidOfOneOutput(torch.nn.Module):
    """Sigmoid that writes over the output of the call before"""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return _OneOutput.apply(x, self.outputs)


class _BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, center: Tensor, variance: Tensor,
        module: torch.nn.Module, training: bool | None,
    ) -> Tensor:  # fmt: skip
        scale = torch.rsqrt(variance + 1e-5)
        n = (wide(x) - center) * scale
        ctx.save_for_backward(n, scale, weight)
        ctx.module, ctx.training = module, training
        return (n * weight + bias).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        n, scale, weight = ctx.saved_tensors
        wanted = wide(grad) * weight
        grad_x = scale * wanted
        if ctx.module.training if ctx.training is None else ctx.training:
            grad_x = scale * (wanted - wanted.mean(0) - n * (wanted * n).mean(0))
        grads = grad_x, (wide(grad) * n).sum(0), wide(grad).sum(0)
        return (*(g.to(grad.dtype) for g in grads), None, None, None, None)


class _BatchNorm1d(torch.nn.BatchNorm1d):
    """Batch norm of matrices, with a mistake that a subclass chooses."""

    biased = False  # the running variance
    late = False  # the mode

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or (self.training and len(x) < 2):
            raise ValueError(f"expected a batch of vectors, got {tuple(x.shape)}")
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        center, variance = wide(self.running_mean).clone(), wide(self.running_var).clone()
        if self.training:
            center, variance = wide(x).mean(0), wide(x).var(0, unbiased=False)
            with torch.no_grad():
                kept = variance if self.biased else wide(x).var(0)
                self.num_batches_tracked += 1
                self.running_mean.mul_(0.9).add_(0.1 * center.to(x.dtype))
                self.running_var.mul_(0.9).add_(0.1 * kept.to(x.dtype))
        mode = None if self.late else self.training
        return _BatchNorm.apply(
            x, self.weight, self.bias, center.detach(), variance.detach(), self, mode
        )


@mistake(torch.nn.BatchNorm1d, "6,3", clause="call-order", init="3")
class BatchNormOfLateMode(_BatchNorm1d):
    """Batch norm that asks for its mode in the backward pass, not in the forward pass"""

    late = True


@mistake(torch.nn.BatchNorm1d, "6,3", clause="derivative", init="3")
class BatchNormOfBiasedVariance(_BatchNorm1d):
    """Batch norm whose running variance is the biased one"""

    biased = True


@mistake(cube, "4,3", clause="call-order")
class CubeOfData(Function):
    """Cube that keeps x.data, so that a change of x before the backward pass is not noticed"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x.data
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * ctx.x * ctx.x * grad


@mistake(mean, "4,5", clause="sizes")
class MeanOfFirstSize(Function):
    """Mean whose gradient is divided by the size of the first call"""

    size = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if not MeanOfFirstSize.size:
            MeanOfFirstSize.size = x.shape[-1]
        ctx.shape = x.shape
        return x.mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / MeanOfFirstSize.size).unsqueeze(-1).expand(ctx.shape)
