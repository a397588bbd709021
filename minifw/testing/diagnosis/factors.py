"""The gradient is a number times the right one, or has lost its sign or some of its digits."""

import math
from collections.abc import Callable

import torch

from minifw.testing.diagnosis.evidence import Evidence, proportion, size, times

__all__ = ["constant_factor", "factor_per_slice", "lost_precision", "small_constant", "zero"]

SIGN = "is the sign wrong"
LIKELY = ("is the mean missing", "is it divided by their number once too often")
# By which a gradient is off that is averaged wrongly over a number of things, likely ones first.
MEANS: tuple[tuple[Callable[[int], float], str], ...] = (
    (lambda n: n, LIKELY[0]),
    (lambda n: 1 / n, LIKELY[1]),
    (lambda n: 2 * n, "is the mean missing, and a factor of 2 wrong"),
    (lambda n: n / 2, "is the mean missing, and a factor of 2 wrong"),
    (lambda n: 2 / n, "is it divided by their number once too often, and a factor of 2 wrong"),
    (
        lambda n: 1 / (2 * n),
        "is it divided by their number once too often, and a factor of 2 wrong",
    ),
    (math.sqrt, "is a division by their square root missing"),
    (lambda n: 1 / math.sqrt(n), "is it divided by their square root once too often"),
    (lambda n: n / (n - 1), "is a variance divided by one less than their number"),
    (lambda n: (n - 1) / n, "is a variance divided by their number, not by one less"),
)
PLAIN = {
    2.0: "is it added twice, or a factor of 1/2 missing",
    0.5: "is a factor of 2 missing",
    math.log(2): "is a logarithm to base 2 meant",
    1 / math.log(2): "is a logarithm to base 2 meant",
    math.log(10): "is a logarithm to base 10 meant",
    1 / math.log(10): "is a logarithm to base 10 meant",
}
# A factor nearer to 1 is an epsilon's doing, not a mean's.
NEAR_ONE = 1e-3


def zero(e: Evidence) -> str:
    """Zero in every entry."""
    if size(e.actual) or not size(e.expected):
        return ""
    if e.noun == "gradient":
        return "The gradient is zero everywhere: is it cut off on the way, or never written?"
    return f"The {e.noun} is zero everywhere: is it never written?"


def _counts(e: Evidence) -> dict[str, int]:
    """What a mean may be over, with how many."""
    counts = {}
    if e.inputs and e.inputs[0].dim():
        first = e.inputs[0]
        counts["the batch has {} samples"] = first.shape[0]
        if first.dim() > 1:
            counts["the input has {} features"] = first.shape[-1]
            counts["the input has {} entries"] = first.numel()
        if first.dim() > 2:
            counts["a sample has {} entries"] = first[:1].numel()
            counts["the input has {} channels"] = first.shape[1]
            counts["a channel has {} places"] = first[:1, :1].numel()
    if e.output is not None and e.output.dim():
        counts["the output has {} entries"] = e.output.numel()
        if e.output.dim() > 1:
            counts["the output has {} features"] = e.output.shape[-1]
    return {words.format(count): count for words, count in counts.items() if count > 1}


def _because(factor: float, counts: dict[str, int]) -> str:
    """Where the factor may come from."""

    def equal(number: float) -> bool:
        return math.isclose(factor, number, rel_tol=1e-5)

    reasons = [SIGN] if factor < 0 else []
    factor = abs(factor)
    means = [
        f"{' and '.join(found)}: {question}"
        for number, question in MEANS
        if (found := [words for words, n in counts.items() if equal(number(n))])
    ]
    plain = [question for number, question in PLAIN.items() if equal(number)]
    # A root of 4 samples and a variance of 2 are less likely than an ordinary 2.
    likely = [m for m in means if m.endswith(LIKELY)] + plain or means[:1]
    return "; or ".join(reasons + likely)


def constant_factor(e: Evidence) -> str:
    """A number times the right one: -1, 2, the number of samples or of features, any other."""
    factor = proportion(e.actual, e.expected)
    if not math.isfinite(factor) or abs(factor - 1) < NEAR_ONE:
        return ""
    if abs(factor) < 1e-9 or not e.fits(factor * e.expected):
        return ""
    scalars = [g.item() for g in e.cotangents if g.numel() == 1]
    for scalar in scalars if e.noun == "gradient" else ():
        if scalar and scalar != 1 and math.isclose(factor * scalar, 1, rel_tol=1e-5):
            return f"The cotangent, {scalar:.4g}, looks ignored: the gradient is that of ones."
        if scalar != 1 and math.isclose(factor, scalar, rel_tol=1e-5):
            return f"The gradient looks multiplied by the cotangent, {scalar:.4g}, twice."
    reason = _because(factor, _counts(e))
    if math.isclose(factor, -1, rel_tol=1e-5):
        return f"The sign looks wrong: the {e.noun} is -1 times PyTorch's."
    # One number is always a multiple of another.
    if e.known < 3 and reason in ("", SIGN):
        return ""
    multiple = times(factor, "PyTorch's")
    like = f"The {e.noun} looks like {multiple}"
    return f"{like}; {reason}?" if reason else f"{like}, in every entry."


def factor_per_slice(e: Evidence) -> str:
    """Each row, column or channel times a number of its own."""
    for dim in range(e.expected.dim()):
        others = [d for d in range(e.expected.dim()) if d != dim]
        slices = e.expected.shape[dim]
        if not others or slices < 2 or e.known < 3 * slices:
            continue
        square = (e.expected**2).sum(others, keepdim=True)
        factors = (e.actual * e.expected).sum(others, keepdim=True) / square.clamp(min=1e-300)
        if (factors - 1).abs().max() > NEAR_ONE and e.fits(factors * e.expected):
            low, high = factors.min().item(), factors.max().item()
            name = slice_name(e.expected.dim(), dim)
            return (
                f"Each {name} of the {e.noun} looks like PyTorch's times a number of its own, "
                f"from {low:.4g} to {high:.4g}: is a factor taken along another dimension?"
            )
    return ""


def slice_name(dims: int, dim: int) -> str:
    """What a sentence calls a part of a tensor at one index of a dimension."""
    if dims == 1:
        return "entry"
    if dims == 2:
        return ("row", "column")[dim]
    return "channel" if dim == 1 else f"slice along dimension {dim}"


def lost_precision(e: Evidence) -> str:
    """As far off as the numbers of a smaller dtype are apart, and all of them its numbers."""
    share = size(e.error) / size(e.expected) if size(e.expected) else math.inf
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        eps = torch.finfo(dtype).eps
        if not e.dtype.is_floating_point or torch.finfo(e.dtype).eps >= eps or share > 64 * eps:
            continue
        places = e.wrong | e.right
        if e.known >= 4 and torch.equal(e.actual[places].to(dtype).double(), e.actual[places]):
            name = str(dtype).removeprefix("torch.")
            return f"Every entry is a number of {name}: looks computed in {name} inside."
    return ""


def small_constant(e: Evidence) -> str:
    """An error far below the gradient: by an epsilon if it has one sign, else by rounding."""
    share = size(e.error) / size(e.expected) if size(e.expected) else math.inf
    if share > NEAR_ONE or e.known < 4:
        return ""
    places = e.wrong | e.right
    relative = e.error[places] / e.expected[places]
    factor = proportion(e.error, e.expected)
    if e.fits((1 + factor) * e.expected):
        about = f"{abs(factor):.0e}".replace("e-0", "e-")
        return (
            f"The {e.noun} is off by the same {about} of each entry: looks like a small constant "
            f"(an epsilon of about {about})."
        )
    if e.known >= 8 and ((relative >= 0).all() or (relative <= 0).all()):
        return (
            f"The {e.noun} is off in one direction, by at most {share:.1g} of its largest entry: "
            "looks like a small constant (an epsilon) that is another, or in another place."
        )
    if share <= 16 * torch.finfo(torch.float32).eps and e.dtype == torch.float64:
        return (
            f"The {e.noun} is off by {share:.1g} of its largest entry, about as much as float32 "
            "rounds: looks computed in float32 inside, or with a constant of few digits."
        )
    return (
        f"The {e.noun} is off by {share:.1g} of its largest entry alone: looks like a small "
        "constant (an epsilon) that is another, a constant of few digits, or lower precision."
    )
