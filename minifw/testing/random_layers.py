"""Random layers: dropout and its relatives, with draws of their own.

Two layers that draw different random numbers are not equal number by number. But a layer that acts
entry by entry has few outcomes for each: dropped, or kept and scaled. So the reference follows the
subject: for each entry it takes that of its own outcomes that is nearest to what the subject made,
and goes back through that outcome. Subject and reference are then compared as exactly as layers
without randomness. How often each outcome comes is a question for many calls: :func:`judge_draws`.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minifw.testing.case import seeded
from minifw.testing.comparison import Comparison, draw
from minifw.testing.example import DTYPES, Example, copied
from minifw.testing.passes import NotApplicable, Pass
from minifw.testing.subjects import Subject
from minifw.testing.verdict import Status, Verdict

__all__ = ["Following", "acts_at_random", "judge_draws", "scale"]

DRAWS = 400  # of the reference, to see every outcome of an entry
LARGEST = 2_000_000  # entries in all of them
OUTCOMES = 2  # of an entry: dropped and kept; more are not a layer that drops
# Standard errors between two shares: one right layer in a billion is as far off by chance.
SIGMAS = 6.0
# Between the variances of the share per call, each known to a tenth from 200 calls. Entries that
# are dropped together, by rows or channels, multiply it by their number.
VARIANCE = 2.0


def acts_at_random(comparison: Comparison) -> bool:
    """Whether the reference draws random numbers for each entry by itself.

    So it can follow a subject. A layer with parameters, as attention with dropout inside, is
    compared with its own draws alone.
    """
    found = comparison.found
    if "random" not in found:
        try:
            found["random"] = _acts_at_random(comparison)
        except Exception:
            found["random"] = False
    return bool(found["random"])


def _acts_at_random(comparison: Comparison) -> bool:
    drawn = draw(comparison, Example())
    reference = drawn.reference(torch.float64)
    inputs, others = drawn.inputs_in(torch.float64)
    if len(inputs) != 1 or reference.parameters() or not inputs[0].numel():
        return False

    def outputs(value: Tensor, seed: int) -> Tensor:
        with seeded(seed):
            return reference.forward_only(value)[0]

    several = torch.stack([outputs(inputs[0], seed) for seed in range(16)])
    if several[0].shape != inputs[0].shape or not (several != several[0]).any():
        return False
    most = max(len(entry.unique()) for entry in several.flatten(1).T)
    half = torch.arange(inputs[0].numel()).view(inputs[0].shape) % 2 == 0
    mixed = outputs(torch.where(half, inputs[0], others[0]), 0)
    return most <= OUTCOMES and torch.equal(mixed[half], several[0][half])


class Following(Subject):
    """The reference, with the outcomes that a subject has drawn.

    Args:
        like: the reference.
        named: what came out of the subject's pass, by name.
        factor: by which the subject's outputs are multiplied.
        training: whether the reference is in training mode.
    """

    def __init__(
        self, like: Subject, named: Mapping[str, Tensor], factor: float = 1.0, training: bool = True
    ) -> None:
        super().__init__(like.made)
        self.like, self.factor, self.training = like, factor, training
        self.kind, self.in_graph = like.kind, like.in_graph
        self._outputs = [t for name, t in named.items() if name.split(".")[-1] == "output"]
        self._grads = [t for name, t in named.items() if name.endswith("input.0.grad")]
        self._calls: list[tuple[Tensor, Tensor]] = []  # possible outcomes and their derivatives
        self._next = -1
        self._known: tuple[Tensor, ...] = ()

    def _outcomes(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """What the reference may make of each entry, and the derivatives."""
        if self._known and torch.equal(self._known[0], value):
            return self._known[1], self._known[2]
        count = min(DRAWS, LARGEST // max(value.numel(), 1)) if self.training else 1
        with seeded(0), torch.inference_mode(False), torch.enable_grad():
            if value.dim():  # all draws in one call
                (output,) = self.like.forward(torch.cat([value] * count))
                (slope,) = self.like.backward(torch.ones_like(output))
                assert slope is not None
                possible, derivatives = (t.view(count, *value.shape) for t in (output, slope))
            else:
                pairs = [
                    (self.like.forward(value)[0], self.like.backward(torch.ones_like(value))[0])
                    for _ in range(count)
                ]
                possible, derivatives = map(torch.stack, zip(*pairs, strict=True))
        # Dropped and kept, of the smallest and the largest derivative.
        places = torch.stack([derivatives.abs().argmin(0), derivatives.abs().argmax(0)])
        possible, derivatives = possible.gather(0, places), derivatives.gather(0, places)
        dropped = possible[derivatives == 0]
        if dropped.numel() and (dropped == dropped[0]).all():
            # What no draw may have shown for an entry is what it was for others.
            possible = torch.cat([possible, dropped[0].expand(1, *value.shape)])
            derivatives = torch.cat([derivatives, torch.zeros(1, *value.shape).to(derivatives)])
        possible, derivatives = possible * self.factor, derivatives * self.factor
        self._known = value.clone(), possible, derivatives
        return possible, derivatives

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        possible, slopes = self._outcomes(inputs[0])
        made = self._outputs.pop(0) if self._outputs else possible[0]
        if made.shape != possible[0].shape:
            made = possible[0]
        distance = (possible.double() - made.double()).abs()
        same = (possible == made) | (possible.isnan() & made.isnan())  # infinite or not
        distance = torch.where(same, 0.0, distance.nan_to_num(math.inf))
        # Of 0, kept and dropped are the same, and only the gradient tells.
        near = distance <= distance.amin(0)
        self._calls.append((near, slopes))
        return (possible.gather(0, near.int().argmax(0, keepdim=True))[0],)

    def forward_only(self, *inputs: Any) -> tuple[Tensor, ...]:
        outputs = self.forward(*inputs)
        self._calls.pop()
        return outputs

    def backward(self, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        near, slopes = self._calls.pop(self._next)
        self._next = -1
        grads = grad_outputs[0] * slopes
        made = self._grads.pop(0) if self._grads else grads[0]
        made = made if made.shape == grads[0].shape else grads[0]
        distance = (grads.double() - made.double()).abs().nan_to_num(math.inf)
        place = torch.where(near, distance, math.inf).argmin(0, keepdim=True)
        place = torch.where(near.gather(0, place), place, near.int().argmax(0, keepdim=True))
        return (grads.gather(0, place)[0],)

    def choose_call(self, place: int) -> None:
        self._next = place

    def train(self, mode: bool) -> None:
        self.training, self._known = mode, ()
        self.like.train(mode)


def scale(comparison: Comparison) -> float:
    """By what a subject that does not scale when it trains scales when it is evaluated.

    Old dropout multiplies by 1 - p in evaluation, PyTorch's divides by it in training. Either is
    right by itself: the first is the second times 1 - p, in both modes.
    """
    found = comparison.found
    if "scale" not in found:
        found["scale"] = 1.0
        with contextlib.suppress(Exception):
            drawn = draw(comparison, Example(dtype=comparison.base, other_mode=True))
            dtype = DTYPES[comparison.base]
            subject = drawn.subject(dtype)
            if subject.switches and comparison.training is not False:
                inputs = drawn.inputs_in(dtype)[0]
                ratios = subject.forward_only(*inputs)[0] / drawn.reference(dtype).forward_only(
                    *inputs
                )[0].to(dtype)
                if torch.allclose(ratios, ratios.mean(), rtol=1e-5):
                    found["scale"] = round(ratios.mean().item(), 6)
    return float(found["scale"])


def judge_draws(comparison: Comparison, example: Example) -> list[Verdict]:
    """Judge how often, and how much together, entries are dropped in many equal calls.

    Raises:
        NotApplicable: nothing is drawn for each entry by itself.
    """
    if not acts_at_random(comparison):
        raise NotApplicable("it does not draw random numbers for each entry by itself")
    drawn, dtype = draw(comparison, example), DTYPES[example.dtype]
    inputs = [tuple(map(copied, inputs)) for inputs in drawn.inputs_in(dtype)]

    def dropped(subject: Subject, factor: float = 1.0) -> Tensor:
        """For each call, which entries have no influence on the output."""
        named = Pass(subject, comparison.inputs, example).run(inputs)
        follower = Following(drawn.reference(dtype), named, factor)
        calls = []
        for _ in range(len(named) // 2):
            follower.forward(*inputs[0])
            (slope,) = follower.backward(torch.ones_like(inputs[0][0]))
            calls.append((torch.as_tensor(slope) == 0).flatten())
        return torch.stack(calls).double()

    theirs = dropped(drawn.reference(dtype))
    ours = dropped(drawn.subject(dtype), 1.0 if comparison.strict else scale(comparison))
    shares = [calls.mean(1) for calls in (ours, theirs)]
    mean, expected = (share.mean().item() for share in shares)
    error = math.sqrt(sum(share.var().item() for share in shares) / len(shares[0]))

    def verdict(clause: str, reason: str) -> Verdict:
        status = Status.FAILED if reason else Status.PASSED
        return Verdict("output", status, reason, "draws", clause, example)

    if (ours == ours[0]).all() and not (theirs == theirs[0]).all():
        return [verdict("derivative", "the same entries are dropped in every call")]
    reason = ""
    if abs(mean - expected) > SIGMAS * error:
        reason = f"{mean:.1%} of the entries are dropped, and {expected:.1%} by the reference"
    together = ""
    ratio = shares[0].var().item() / shares[1].var().item()
    if not 1 / VARIANCE < ratio < VARIANCE:
        how = "together more often" if ratio > 1 else "together less often"
        together = f"entries are dropped {how} than the reference's, as by rows or channels"
    return [verdict("derivative", reason), verdict("modes", together)]
