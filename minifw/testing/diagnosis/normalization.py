"""Missing or added terms: a mean, a variance, the cotangent, one of two contributions."""

import torch
from torch import Tensor

from minifw.testing.diagnosis.evidence import Evidence, attempt, proportion, size, times

__all__ = ["added_term", "assigned", "statistics_held_constant"]


def _statistics_dims(dims: int) -> list[tuple[int, ...]]:
    """The dimensions that statistics are taken over: features, batch, space, groups of them."""
    everything = tuple(range(dims))
    candidates = [everything[-n:] for n in range(1, dims + 1)]
    candidates += [(0,), tuple(d for d in everything if d != 1)]
    return [c for n, c in enumerate(candidates) if c and c not in candidates[:n]]


def statistics_held_constant(e: Evidence) -> str:
    """The error is constant, or linear in the input, along the dimensions of a mean."""
    if not e.expected.dim() or e.noun != "gradient":
        return ""
    for dims in _statistics_dims(e.expected.dim()):
        slices = e.expected.sum(dims).numel()
        terms = e.expected.numel() // max(slices, 1)
        # A line through few points is always near them.
        if terms < 4:
            continue
        where = "dimension " + " and ".join(map(str, dims))
        mean = e.error.mean(dims, keepdim=True)
        centered = [
            size(t.mean(dims)) <= max(e.tolerance, 1e-6 * size(t)) for t in (e.actual, e.expected)
        ]
        if e.fits(e.expected + mean) and centered == [False, True]:
            return (
                f"A mean over {where} looks not subtracted: the gradient does not account for "
                "the mean depending on the input."
            )
        if e.fits(e.expected + mean) and centered == [True, False]:
            return f"A mean over {where} looks subtracted that should not be."
        for x in e.inputs:
            if x.shape != e.expected.shape or not x.is_floating_point():
                continue
            deviation = x - x.mean(dims, keepdim=True)
            square = (deviation**2).sum(dims, keepdim=True).clamp(min=1e-300)
            slope = (e.error * deviation).sum(dims, keepdim=True) / square
            if not e.fits(e.expected + mean + slope * deviation) or not centered[1]:
                continue
            missing = "variance" if e.fits(e.expected + slope * deviation) else "mean and variance"
            verb = "depending" if missing == "variance" else "both depending"
            return (
                f"The gradient looks as if it did not account for the {missing} over {where} "
                f"{verb} on the input."
            )
    return ""


def added_term(e: Evidence) -> str:
    """The error is a number times the cotangent, an input, the output, or a constant."""
    if e.known < 4 or not bool(e.finite.all()):
        return ""
    terms: dict[str, Tensor | None] = {"1": torch.ones_like(e.expected)}
    for g in e.cotangents:
        if g.numel() > 1:
            terms["the cotangent"] = g
            summed = attempt(e.expected.shape, lambda g: g.sum_to_size(e.expected.shape), g)
            terms["the cotangent summed"] = summed
    for index, x in enumerate(e.inputs):
        terms[e.input_name(index)] = x.double()
    terms["the output"] = e.output
    for name, term in terms.items():
        if not e.proportional(term, e.error):
            continue
        assert term is not None
        factor = proportion(e.error, term)
        amount = f"{factor:.4g}" if name == "1" else times(factor, name)
        if abs(factor - 1) < 1e-5 and name != "1":
            return f"The {e.noun} looks like PyTorch's with {name} added to it."
        if abs(factor + 1) < 1e-5 and name != "1":
            return f"A term looks missing: the {e.noun} is PyTorch's without {name}."
        return f"The {e.noun} looks like PyTorch's with {amount} added to every entry."
    return ""


def assigned(e: Evidence) -> str:
    """Where PyTorch adds two cotangents or more, the gradient is one of them."""
    wrong = e.wrong
    if e.noun != "gradient" or not wrong.any():
        return ""
    for index in e.inputs:
        if index.is_floating_point() or not index.numel() or not e.expected.dim():
            continue
        if int(index.min()) < 0 or int(index.max()) >= e.expected.shape[0]:
            continue
        counts = index.flatten().bincount(minlength=e.expected.shape[0])
        repeated = (counts > 1).reshape(-1, *[1] * (e.expected.dim() - 1)).expand_as(wrong)
        if (wrong & ~repeated).any() or (e.right & repeated).any() or not e.right.any():
            continue
        return (
            "Wrong only in rows whose index is given more than once: the gradient looks "
            "assigned where it should be added."
        )
    for g in e.cotangents:
        values = torch.unique(g)
        if len(values) < 2 or (wrong & (e.actual.abs() <= e.limit)).any():
            continue

        def single(tensor: Tensor, values: Tensor = values) -> Tensor:
            after = torch.searchsorted(values, tensor.contiguous()).clamp(1, len(values) - 1)
            distance = torch.minimum(
                (tensor - values[after - 1]).abs(), (tensor - values[after]).abs()
            )
            return distance <= e.tolerance

        sums = e.expected[wrong]
        made = single(e.actual[wrong]).all() and not single(sums).any()
        rest = single(sums - e.actual[wrong]).double().mean() >= 0.5
        if made and rest and (sums.abs() > e.limit).all() and single(e.expected[e.right]).all():
            return (
                "Each wrong entry is one cotangent where PyTorch's is a sum of several: the "
                "gradient looks assigned where it should be added."
            )
    return ""
