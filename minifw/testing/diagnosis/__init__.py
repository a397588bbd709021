"""What kind of mistake a wrong tensor looks like.

::

    >>> import torch
    >>> expected = torch.randn(4, 3)
    >>> diagnose("weight.grad", 4 * expected, expected, inputs=[torch.randn(4, 5)])
    "The gradient looks like 4 times PyTorch's; the batch has 4 samples: is the mean missing?"

Each kind of mistake is a function of the evidence that returns a sentence or nothing; the most
specific kinds come first, and the first sentence is the diagnosis. A kind speaks only if it
explains the error in every entry.
"""

from collections.abc import Sequence

from torch import Tensor

from minifw.testing.diagnosis.arrangement import other_shape, rearranged
from minifw.testing.diagnosis.evidence import Evidence, Kind, evidence_of, plain, size
from minifw.testing.diagnosis.factors import (
    constant_factor,
    factor_per_slice,
    lost_precision,
    small_constant,
    zero,
)
from minifw.testing.diagnosis.losses import loss_term
from minifw.testing.diagnosis.normalization import added_term, assigned, statistics_held_constant
from minifw.testing.diagnosis.places import (
    few_entries,
    not_finite,
    wrong_at_indices,
    wrong_at_values,
)
from minifw.testing.diagnosis.pullback import (
    other_cotangent,
    other_function,
    other_operand,
    other_place,
    same_for_every_sample,
)

__all__ = ["KINDS", "diagnose"]

KINDS: tuple[Kind, ...] = (
    zero,
    lost_precision,
    constant_factor,
    rearranged,
    other_cotangent,
    other_operand,
    other_place,
    other_function,
    same_for_every_sample,
    loss_term,
    assigned,
    wrong_at_values,
    wrong_at_indices,
    statistics_held_constant,
    added_term,
    factor_per_slice,
    few_entries,
    small_constant,
)


def diagnose(
    tensor: str,
    actual: Tensor,
    expected: Tensor,
    *,
    inputs: Sequence[Tensor] = (),
    cotangents: Sequence[Tensor] = (),
    output: Tensor | None = None,
    bound: float = 0.0,
    own_difference: Tensor | None = None,
) -> str:
    """What the mistake looks like, in one or two sentences; "" if nothing is recognized.

    Args:
        tensor: its name; one that ends in ".grad" is a gradient.
        actual: what the subject made.
        expected: what is right.
        inputs: of the forward pass.
        cotangents: of the backward pass, one for each output.
        output: the right output.
        bound: the largest error that is allowed; by default a millionth of the largest entry.
        own_difference: the gradient of the subject's own forward pass by central differences.

    Nothing is raised: a verdict must not be lost because its diagnosis fails.
    """
    try:
        return _diagnose(
            tensor, actual, expected, inputs, cotangents, output, bound, own_difference
        )
    except Exception:
        return ""


def _diagnose(
    tensor: str,
    actual: Tensor,
    expected: Tensor,
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    output: Tensor | None,
    bound: float,
    own_difference: Tensor | None,
) -> str:
    tensors = [actual, expected, *inputs, *cotangents, *(t for t in [output] if t is not None)]
    if any(t.is_complex() for t in tensors) or not expected.numel():
        return ""
    if actual.shape != expected.shape:
        noun = "gradient" if tensor.endswith(".grad") else "output"
        return other_shape(noun, plain(actual).double(), plain(expected).double())
    e = evidence_of(tensor, actual, expected, inputs, cotangents, output, bound)
    words = not_finite(e, plain(actual).double(), plain(expected).double())
    if not words and e.wrong.any():
        words = next(filter(None, (kind(e) for kind in KINDS)), "")
    return " ".join(filter(None, [words, _which_pass(e, own_difference)]))


def _which_pass(e: Evidence, own_difference: Tensor | None) -> str:
    """Whether the forward pass or the backward pass is wrong."""
    if own_difference is None or own_difference.shape != e.expected.shape or not e.wrong.any():
        return ""
    own = plain(own_difference).double()
    if not bool(own.isfinite().all()):
        return ""
    # Differences have an error of their own, far below that of a mistake.
    far = 0.05 * size(e.error)
    if size(own - e.expected) < far:
        return (
            "The backward pass is not the derivative of the forward pass, whose differences "
            "agree with PyTorch's gradient."
        )
    if size(own - e.actual) < far:
        return (
            "The backward pass is the derivative of the forward pass: the forward pass computes "
            "another function."
        )
    return (
        "The backward pass is not the derivative of the forward pass, and the forward pass "
        "computes another function too."
    )
