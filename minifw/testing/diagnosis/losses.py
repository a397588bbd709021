"""Losses of a prediction and a target: the pairs of right and wrong terms that are mixed up."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- as PyTorch's documentation names it

from minifw.testing.diagnosis.evidence import Evidence, attempt

__all__ = ["loss_term"]

Term = Callable[[Tensor, Tensor], Tensor]


def _column(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction and target as (N, 1) and (1, N)."""
    if not p.numel() == p.shape[0] == t.numel() <= MOST_PAIRED:
        raise RuntimeError
    return p.reshape(-1, 1), t.reshape(1, -1)


def _every_pair(term: Term) -> Term:
    """The mean of the term over all pairs of a prediction and a target."""
    return lambda p, t: term(*_column(p, t)).mean(1).reshape(p.shape)


def _difference(p: Tensor, t: Tensor) -> Tensor:
    return p - t.reshape(p.shape)


def _signs(p: Tensor, t: Tensor) -> Tensor:
    return _difference(p, t).sign()


def _cross_entropy(p: Tensor, t: Tensor) -> Tensor:
    return p.softmax(1) - t


def _binary(p: Tensor, t: Tensor) -> Tensor:
    return p.sigmoid() - t.reshape(p.shape)


def _slope(p: Tensor) -> Tensor:
    return p.sigmoid() * (1 - p.sigmoid())


MOST_PAIRED = 4096
PAIRS = "looks averaged over every pair of a prediction and a target: is (N, 1) minus (N,) N x N"
# The right term, the wrong one, and what to say of the gradient; each up to a factor.
TERMS: tuple[tuple[Term, Term, str], ...] = (
    (_difference, _every_pair(lambda p, t: p - t), PAIRS),
    (_signs, _every_pair(lambda p, t: (p - t).sign()), PAIRS),
    (_binary, _every_pair(lambda p, t: p.sigmoid() - t), PAIRS),
    (_difference, _signs, "looks like that of the absolute error, not of the squared one"),
    (_signs, _difference, "looks like that of the squared error, not of the absolute one"),
    (_difference, lambda p, t: p + t.reshape(p.shape), "looks like the target added"),
    (_difference, lambda p, t: p, "looks like the target left out"),
    (_difference, lambda p, t: _difference(p, t).abs(), "looks like the difference without sign"),
    (_cross_entropy, lambda p, t: p.softmax(1), "looks like the one-hot target left out"),
    (_cross_entropy, lambda p, t: p - t, "looks like the softmax left out"),
    (_cross_entropy, lambda p, t: p.sigmoid() - t, "looks made by a sigmoid, not a softmax"),
    (_cross_entropy, lambda p, t: p.softmax(0) - t, "looks made by a softmax along the batch"),
    (
        _cross_entropy,
        lambda p, t: -t / p.softmax(1),
        "looks like that of the probability, not of the logit",
    ),
    (_binary, lambda p, t: p - t.reshape(p.shape), "looks like the sigmoid left out"),
    (
        _binary,
        lambda p, t: _binary(p, t) / _slope(p),
        "looks like that of the probability, not of the logit",
    ),
    (
        _binary,
        lambda p, t: _binary(p, t) * _slope(p),
        "looks multiplied by the sigmoid's derivative once too often",
    ),
)


def _targets(e: Evidence, target: Tensor) -> Tensor:
    """The target as numbers: class indices become one-hot rows."""
    if target.is_floating_point():
        return target
    if e.expected.dim() == 2 and target.shape == e.expected.shape[:1]:
        low, high = int(target.min()), int(target.max())
        if low >= 0 and high < e.expected.shape[1]:
            return F.one_hot(target, e.expected.shape[1]).double()
    return target.double()


def loss_term(e: Evidence) -> str:
    """One term of a loss's gradient in place of another."""
    if len(e.inputs) != 2 or e.noun != "gradient" or not e.expected.numel():
        return ""
    predictions, target = e.inputs
    if predictions.shape != e.expected.shape or not target.numel():
        return ""
    target = _targets(e, target)
    for right, wrong, words in TERMS:
        if not e.proportional(attempt(e.expected.shape, right, predictions, target), e.expected):
            continue
        if e.proportional(attempt(e.expected.shape, wrong, predictions, target), e.actual):
            end = "?" if ": is" in words else "."
            return f"The gradient {words}{end}"
    return ""
