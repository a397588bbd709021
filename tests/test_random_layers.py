"""Random layers with draws of their own: what must hold of any draws."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minifw.testing import Report, Status, verify
from minifw.testing.clause import CLAUSES


class Dropout:
    """A right dropout with draws of other shapes than PyTorch's."""

    def __init__(self, p: float = 0.5) -> None:
        self.p, self.training = p, True

    def kept(self, like: Tensor) -> Tensor:
        return (torch.rand(like.numel()).view(like.shape) >= self.p).to(like)

    def factor(self, input: Tensor) -> Tensor:
        return self.kept(input) / (1 - self.p) if self.training else torch.ones_like(input)

    def forward(self, input: Tensor) -> Tensor:
        self.mask = self.factor(input)
        return input * self.mask

    def backward(self, grad_output: Tensor) -> Tensor:
        return grad_output * self.mask


class WithNumpy(Dropout):
    """Draws of a generator of its own, which no seed of torch reaches."""

    rng = np.random.default_rng(0)

    def kept(self, like: Tensor) -> Tensor:
        return torch.from_numpy(self.rng.random(tuple(like.shape)) >= self.p).to(like)


class ScaledInEvaluation(Dropout):
    """As it was first published: no factor in training, 1 - p in evaluation."""

    def factor(self, input: Tensor) -> Tensor:
        return self.kept(input) if self.training else torch.full_like(input, 1 - self.p)


class AutogradDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, p):
        mask = torch.bernoulli(torch.full((input.numel(),), 1 - p)).view(input.shape) / (1 - p)
        ctx.save_for_backward(mask.to(input))
        return input * mask.to(input)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.saved_tensors[0], None


class ModuleDropout(nn.Module):
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return AutogradDropout.apply(input, self.p) if self.training else input


class Unscaled(Dropout):
    def factor(self, input: Tensor) -> Tensor:
        return self.kept(input) if self.training else torch.ones_like(input)


class OtherMaskInBackward(Dropout):
    def backward(self, grad_output: Tensor) -> Tensor:
        return grad_output * self.factor(grad_output)


class NoMaskInBackward(Dropout):
    def backward(self, grad_output: Tensor) -> Tensor:
        return grad_output


class AlwaysActive(Dropout):
    def factor(self, input: Tensor) -> Tensor:
        return self.kept(input) / (1 - self.p)


class DropsTooMany(Dropout):
    def kept(self, like: Tensor) -> Tensor:
        return (torch.rand(like.shape) >= self.p * 1.2).to(like)


class OneMask(Dropout):
    def kept(self, like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return (torch.rand(like.shape, generator=generator) >= self.p).to(like)


class WholeRows(Dropout):
    def kept(self, like: Tensor) -> Tensor:
        return (torch.rand(len(like), 1) >= self.p).to(like).expand(like.shape)


def report_on(subject: type, reference: type = nn.Dropout, shape: str = "4,5") -> Report:
    others = [name for name in CLAUSES if name not in ("derivative", "modes")]
    return verify(
        subject, reference, [shape], (0.2,), dtypes=["float64"], skip=others, max_examples=3
    )


@pytest.mark.parametrize("subject", [Dropout, WithNumpy, ScaledInEvaluation, ModuleDropout])
def test_right_dropout_passes_with_draws_of_its_own(subject):
    report = report_on(subject)
    assert report.status == Status.PASSED, report


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (Unscaled, "0.8 times"),
        (OtherMaskInBackward, "input.0.grad"),
        (NoMaskInBackward, "input.0.grad"),
        (AlwaysActive, "other-mode"),
        (DropsTooMany, "of the entries are dropped, and 20"),
        (OneMask, "the same entries are dropped in every call"),
    ],
)
def test_wrong_dropout_fails_with_the_mistake_named(subject, said):
    report = report_on(subject)
    assert report.status == Status.FAILED
    assert said in str(report), report


def test_entries_dropped_by_rows_are_reported():
    report = report_on(WholeRows)
    broken = {clause.name: clause.reason for clause in report.clauses if clause.state == "broken"}
    assert list(broken) == ["modes"]
    assert "together more often" in broken["modes"]


def test_dropout_of_channels_is_told_from_dropout_of_entries():
    assert report_on(nn.Dropout2d, nn.Dropout2d, "2,3,4,4").status == Status.PASSED
    report = report_on(nn.Dropout, nn.Dropout2d, "2,3,4,4")
    assert report.status == Status.FAILED
    assert "together less often" in str(report)


def test_alpha_dropout_may_draw_otherwise():
    class Alpha(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.inner = nn.AlphaDropout(p)

        def forward(self, input: Tensor) -> Tensor:
            return self.inner(input.flip(0)).flip(0)

    assert report_on(Alpha, nn.AlphaDropout).status == Status.PASSED
