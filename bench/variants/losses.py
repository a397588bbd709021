"""Losses: fused, stable by other means, or with their gradient computed ahead."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 -- its usual name

from bench.variants.variant import variant

CLASSES = ("5,4", "5:long:4")
PAIR = ("5,4", "5,4")
BINARY = ("5,4", "5,4:binary:constant")


@variant(torch.nn.CrossEntropyLoss, *CLASSES)
class LogSumExp(torch.nn.Module):
    """Cross-entropy as log-sum-exp minus the target's logit"""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        picked = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        return (logits.logsumexp(-1) - picked).mean()


@variant(torch.nn.CrossEntropyLoss, *CLASSES, kind="Function")
class GradientAhead(torch.autograd.Function):
    """Cross-entropy whose gradient is computed in the forward pass, as fused kernels do"""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logs = wide.log_softmax(-1)
        place = target.unsqueeze(-1)
        rows = max(target.numel(), 1)
        ctx.save_for_backward((logs.exp().scatter_add(-1, place, -torch.ones_like(logs))) / rows)
        return -logs.gather(-1, place).mean().to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (ahead,) = ctx.saved_tensors
        return (ahead * grad).to(grad.dtype), None


# It is right for rows of logits, and where no target is ignored.
@variant(
    torch.nn.CrossEntropyLoss, *CLASSES, init="label_smoothing=0.1", allow=("ranks", "domain-edges")
)
class Smoothed(torch.nn.Module):
    """Cross-entropy with smoothed labels as a mixture of two losses"""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        hard = F.nll_loss(logs, target)
        return (1 - self.smoothing) * hard - self.smoothing * logs.mean(-1).mean()


@variant(F.cross_entropy, *CLASSES, kind="function", call="reduction='none'")
def cross_entropy_one_hot(logits: Tensor, target: Tensor, reduction: str) -> Tensor:
    """Cross-entropy of each sample by one-hot targets"""
    assert reduction == "none"
    return -(F.one_hot(target, logits.shape[-1]) * logits.log_softmax(-1)).sum(-1)


@variant(torch.nn.NLLLoss, *CLASSES)
class Picked(torch.nn.Module):
    """NLLLoss by integer indexing"""

    def forward(self, logs: Tensor, target: Tensor) -> Tensor:
        if logs.dim() == 1:
            return -logs[target]
        return -logs[torch.arange(len(target), device=logs.device), target].mean()


@variant(torch.nn.BCEWithLogitsLoss, *BINARY)
class ByMax(torch.nn.Module):
    """BCE with logits by the larger of 0 and -x, which cancels in its derivative"""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        m = (-logits).clamp(min=0)
        logs = torch.log(torch.exp(-m) + torch.exp(-logits - m))
        return ((1 - target) * logits + m + logs).mean()


@variant(torch.nn.BCEWithLogitsLoss, *BINARY, kind="Function")
class FusedBCE(torch.autograd.Function):
    """BCE with logits whose backward pass is sigmoid minus target"""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(logits, target)
        return (F.softplus(logits) - logits * target).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        logits, target = ctx.saved_tensors
        return grad * (torch.sigmoid(logits) - target) / max(logits.numel(), 1), None


@variant(torch.nn.BCELoss, "5,4:probability", "5,4:binary:constant")
class ClampedLog(torch.nn.Module):
    """BCELoss by logarithms clamped at -100"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        logs = t * p.log().clamp(min=-100) + (1 - t) * torch.log1p(-p).clamp(min=-100)
        return -logs.mean()


@variant(torch.nn.HuberLoss, *PAIR, init="delta=0.7")
class HuberByClamp(torch.nn.Module):
    """Huber loss by a clamped difference, without branches"""

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        difference = (p - t).abs()
        near = difference.clamp(max=self.delta)
        return (0.5 * near * near + self.delta * (difference - near)).mean()


@variant(torch.nn.SmoothL1Loss, *PAIR, init="beta=0.5")
class SmoothByWhere(torch.nn.Module):
    """SmoothL1Loss by torch.where"""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        d = (p - t).abs()
        return torch.where(d < self.beta, d * d / (2 * self.beta), d - self.beta / 2).mean()


@variant(torch.nn.MSELoss, *PAIR)
class DotProduct(torch.nn.Module):
    """MSELoss as a dot product of the difference with itself"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        difference = (p - t).reshape(-1)
        return difference.dot(difference) / difference.numel()


@variant(torch.nn.MSELoss, *PAIR, kind="Function")
class FusedMSE(torch.autograd.Function):
    """MSELoss whose backward pass keeps the difference alone"""

    @staticmethod
    def forward(ctx: Any, p: Tensor, t: Tensor) -> Tensor:
        difference = p - t
        ctx.save_for_backward(difference)
        return difference.square().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (difference,) = ctx.saved_tensors
        grad_p = 2 * grad / max(difference.numel(), 1) * difference
        return grad_p, -grad_p


@variant(torch.nn.L1Loss, *PAIR)
class TwoSides(torch.nn.Module):
    """L1Loss as a sum of two one-sided losses"""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return F.relu(p - t).mean() + F.relu(t - p).mean()


@variant(
    torch.nn.KLDivLoss, "5,4", "5,4:probability:constant", init="'batchmean'",
    reference_init="reduction='batchmean'",
)  # fmt: skip
class KLBySums(torch.nn.Module):
    """KL divergence as entropy and cross-entropy, each summed by itself"""

    def __init__(self, reduction: str) -> None:
        super().__init__()

    def forward(self, logs: Tensor, p: Tensor) -> Tensor:
        return (torch.xlogy(p, p).sum() - (p * logs).sum()) / (len(p) if p.dim() else 1)


def _signed(x: Tensor, y: Tensor, sign: Tensor) -> Tensor:
    return F.cosine_embedding_loss(x, y, 2 * sign - 1, margin=0.2)


@variant(_signed, "5,4", "5,4", "5:binary:constant", kind="function")
def cosine_embedding(x: Tensor, y: Tensor, sign: Tensor) -> Tensor:
    """Cosine embedding loss by normalized rows"""
    cosine = (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1)
    return (sign * (1 - cosine) + (1 - sign) * F.relu(cosine - 0.2)).mean()


@variant(torch.nn.TripletMarginLoss, "5,4", "5,4", "5,4")
class TripletByNorm(torch.nn.Module):
    """TripletMarginLoss by norms of shifted differences"""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near = torch.linalg.vector_norm(anchor - positive + 1e-6, dim=-1)
        far = torch.linalg.vector_norm(anchor - negative + 1e-6, dim=-1)
        return F.relu(1 + near - far).mean()


@variant(torch.nn.SoftMarginLoss, "5,4", "5,4:binary:constant")
class SoftMarginBySoftplus(torch.nn.Module):
    """SoftMarginLoss by softplus"""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-x * y).mean()


@variant(torch.nn.GaussianNLLLoss, "5,4", "5,4:float:constant", "5,4:probability")
class GaussianByParts(torch.nn.Module):
    """GaussianNLLLoss by a normalized difference"""

    def forward(self, mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
        # At least 1e-6, with the gradient of what was given.
        variance = variance + (variance.clamp(min=1e-6) - variance).detach()
        return 0.5 * (variance.log() + ((mean - target) / variance.sqrt()) ** 2).mean()


@variant(torch.nn.PoissonNLLLoss, "5,4", "5,4:binary:constant")
class PoissonByDot(torch.nn.Module):
    """PoissonNLLLoss as a mean of exponentials minus a dot product"""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.exp().mean() - (x * t).sum() / x.numel()


def _info_nce(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x @ y.t(), torch.arange(len(x), device=x.device))


@variant(_info_nce, "5,4", "5,4", kind="function")
def contrastive(x: Tensor, y: Tensor) -> Tensor:
    """A contrastive loss by the diagonal of similarities"""
    scores = x @ y.t()
    return (scores.logsumexp(1) - (x * y).sum(1)).mean()
