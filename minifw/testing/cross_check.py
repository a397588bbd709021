"""Witnesses: four ways to one gradient, and which of them stands alone.

The hand-written rule in the dtype it is used in, the same rule in float64, autograd's gradient of
the reference, and central differences of the subject's own forward pass. Where three agree, the
fourth is the one to look at: the rule alone in float32 means rounding; autograd alone, a reference
that is another function; the differences alone, a point without derivative. The rule in both dtypes
against the other two means a wrong derivative. :func:`torch.autograd.gradcheck` is asked too.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minifw.testing.case import seeded
from minifw.testing.check import check, first_line
from minifw.testing.comparison import Comparison, Drawn, draw
from minifw.testing.example import Example
from minifw.testing.passes import Pass
from minifw.testing.remote import RemoteSubject
from minifw.testing.subjects import Subject
from minifw.testing.verdict import Status, largest

__all__ = ["WITNESSES", "Testimony", "bridged", "gradcheck", "hear"]

WITNESSES = ("rule", "rule in float64", "autograd", "central differences")

STEP = 1e-6
# The rounding of a sum of outputs, about 1e-16 of it, divided by the step, and a margin.
DIFFERENCES = 1e-7
ENTRIES = 64  # of each tensor that differences are taken in


@dataclass(frozen=True)
class Testimony:
    """What the witnesses say of one gradient.

    Attributes:
        tensor: its name.
        where: the entry in which they are farthest apart.
        values: what each says there; None for one that could not be heard.
        verdict: "all agree", or who stands against whom.
    """

    tensor: str
    where: tuple[int, ...]
    values: tuple[float | None, ...]
    verdict: str

    @property
    def status(self) -> Status:
        """PASSED if all agree, FAILED if they do not or one could not be heard."""
        return Status.PASSED if self.verdict == "all agree" else Status.FAILED

    def __str__(self) -> str:
        said = ", ".join(
            f"{name} {value:.9g}"
            for name, value in zip(WITNESSES, self.values, strict=True)
            if value is not None
        )
        return f"{self.tensor}{list(self.where)}: {self.verdict} ({said})"

    def as_dict(self) -> dict[str, Any]:
        """A row of the table."""
        said = dict(zip(WITNESSES, self.values, strict=True))
        return {"tensor": self.tensor, "where": list(self.where), **said, "verdict": self.verdict}


def hear(comparison: Comparison, seed: int = 0) -> list[Testimony]:
    """Ask all witnesses for the gradients of one plain example in float32."""
    example = Example(dtype="float32", seed=seed)
    verdicts = {v.tensor: v for v in check(comparison, example) if v.tensor.endswith(".grad")}
    drawn = draw(comparison, example)
    double = torch.float64

    def said(subject: Subject, dtype: torch.dtype) -> dict[str, Tensor]:
        return Pass(subject, comparison.inputs, example).run(drawn.inputs_in(dtype))

    accounts: list[dict[str, Tensor]] = []
    silent: list[str] = []
    sources: tuple[Callable[[], dict[str, Tensor]], ...] = (
        lambda: said(drawn.subject(torch.float32), torch.float32),
        lambda: said(drawn.subject(double), double),
        lambda: said(drawn.reference(double), double),
        lambda: _differences(drawn),
    )
    for account in sources:
        try:
            accounts.append(account())
        except Exception as error:
            accounts.append({})
            silent.append(f"{WITNESSES[len(accounts) - 1]}: {first_line(error)}")
    testimonies = []
    for tensor, verdict in verdicts.items():
        values = [account.get(tensor) for account in accounts]
        if verdict.bound > 0 and values[2] is not None:
            testimony = _compare(tensor, values, verdict.bound)
            heard = "; ".join([testimony.verdict, *silent])
            testimonies.append(replace(testimony, verdict=heard))
    return testimonies


def _compare(tensor: str, values: Sequence[Tensor | None], bound: float) -> Testimony:
    """Who agrees with whom, each within the sum of what both may be off."""
    heard = {i: v.double() for i, v in enumerate(values) if v is not None}
    exact = heard[2]
    top = largest(exact)
    own = (bound, 1e-12 * max(top, 1.0), 1e-12 * max(top, 1.0), DIFFERENCES * max(top, 1.0))
    known = ~torch.stack(list(heard.values())).isnan().any(0)
    apart: dict[tuple[int, int], Tensor] = {
        (a, b): torch.where(known, (heard[a] - heard[b]).abs(), 0.0)
        for a, b in itertools.combinations(heard, 2)
    }
    agree = {pair: distance.max().item() <= own[pair[0]] + own[pair[1]]
             for pair, distance in apart.items() if distance.numel()}  # fmt: skip
    spread = sum(apart.values(), torch.zeros_like(exact))
    where = tuple(int(i) for i in torch.unravel_index(spread.argmax(), spread.shape))
    said = tuple(heard[i][where].item() if i in heard else None for i in range(len(values)))
    return Testimony(tensor, where, said, _verdict(list(heard), agree))


def _verdict(heard: list[int], agree: dict[tuple[int, int], bool]) -> str:
    if all(agree.values()):
        return "all agree"
    # One that agrees with everybody is too rough to tell them apart.
    parties = [w for w in heard if not all(same for pair, same in agree.items() if w in pair)]
    for size in (1, 2):
        for few in itertools.combinations(parties, size):
            if all(
                same == ((a in few) == (b in few))
                for (a, b), same in agree.items()
                if a in parties and b in parties
            ):
                names = " and ".join(WITNESSES[witness] for witness in few)
                return f"{names} stand{'s' if size == 1 else ''} against the others"
    return "each stands alone: " + ", ".join(
        f"{WITNESSES[a]} and {WITNESSES[b]} disagree" for (a, b), same in agree.items() if not same
    )


def _differences(drawn: Drawn) -> dict[str, Tensor]:
    """(L(x + h) - L(x - h)) / 2h, with L the sum of the outputs times their cotangents.

    NaN where none was taken.
    """
    double = torch.float64
    subject, inputs = drawn.subject(double), drawn.inputs_in(double)[0]
    if isinstance(subject, RemoteSubject):
        return subject.tensors(_differences)
    example, specs = drawn.example, drawn.comparison.inputs
    with seeded(example.seed):
        outputs = subject.forward_only(*inputs)
    cotangents = Pass(subject, specs, example).draw(outputs, "")

    def loss() -> float:
        with seeded(example.seed):
            outputs = subject.forward_only(*inputs)
        pairs = zip(outputs, cotangents, strict=True)
        return sum(float((output * cotangent).sum()) for output, cotangent in pairs)

    places = {
        f"input.{i}.grad": tensor
        for i, (tensor, spec) in enumerate(zip(inputs, specs, strict=True))
        if tensor.is_floating_point() and not spec.constant
    }
    parameters = subject.parameters()
    places |= {f"{name}.grad": tensor for name, tensor in parameters.items()}
    result = {}
    for name, tensor in places.items():
        grad = torch.full_like(tensor, torch.nan, memory_format=torch.contiguous_format)
        places_in = list(itertools.product(*map(range, tensor.shape)))
        order = torch.randperm(len(places_in), generator=torch.Generator().manual_seed(0))
        for place in (places_in[number] for number in order[:ENTRIES].tolist()):
            there = tensor[place].clone()

            def loss_at(value: Tensor, name: str = name, tensor: Tensor = tensor,
                        place: tuple[int, ...] = place) -> float:  # fmt: skip
                tensor[place] = value
                subject.set_parameters(parameters)
                return loss()

            grad[place] = (loss_at(there + STEP) - loss_at(there - STEP)) / (2 * STEP)
            loss_at(there)
        result[name] = grad
    return result


class _Bridge(torch.autograd.Function):
    """A subject as a step of autograd's graph, its parameters among the inputs."""

    @staticmethod
    def forward(ctx: Any, make: Callable[..., Any], *tensors: Tensor) -> Any:
        ctx.make, ctx.tensors = make, tensors
        with torch.enable_grad():
            _, outputs = make(*tensors)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        with torch.enable_grad():
            subject, _ = ctx.make(*ctx.tensors)  # anew, since autograd may come more than once
            grads = list(subject.backward(*grad_outputs))
        parameter_grads = list(subject.gradients().values())
        # A subject may be silent about its last inputs.
        grads += [None] * (len(ctx.tensors) - len(parameter_grads) - len(grads))
        return None, *grads, *parameter_grads


def gradcheck(comparison: Comparison, seed: int = 0) -> str:
    """Ask :func:`torch.autograd.gradcheck` about the subject; return what it objects to, or ""."""
    drawn = draw(comparison, Example(seed=seed))
    subject = drawn.subject(torch.float64)
    try:
        return subject.text(_gradcheck) if isinstance(subject, RemoteSubject) else _gradcheck(drawn)
    except Exception as error:  # its process is lost
        return first_line(error)


def _gradcheck(drawn: Drawn) -> str:
    function, tensors = bridged(drawn)
    try:
        torch.autograd.gradcheck(function, tensors, fast_mode=True)
    except Exception as error:
        return first_line(error)
    return ""


def bridged(drawn: Drawn) -> tuple[Callable[..., Any], list[Tensor]]:
    """The subject as a function in autograd's graph, and what it is differentiated by."""
    comparison, seed = drawn.comparison, drawn.example.seed
    inputs = drawn.inputs_in(torch.float64)[0]
    parameters = list(drawn.subject(torch.float64).parameters().values())

    def make(*tensors: Tensor) -> tuple[Subject, tuple[Tensor, ...]]:
        subject = drawn.subject(torch.float64)
        names = subject.parameters()
        subject.set_parameters(dict(zip(names, tensors[len(inputs) :], strict=True)))
        with seeded(seed):
            outputs = subject.forward(*(tensor.detach() for tensor in tensors[: len(inputs)]))
        return subject, outputs

    tensors = [
        tensor.detach()
        .clone()
        .requires_grad_(
            tensor.is_floating_point()
            and not spec.constant
            and place not in comparison.without_gradient
        )
        for place, (tensor, spec) in enumerate(zip(inputs, comparison.inputs, strict=True))
    ]
    tensors += [parameter.clone().requires_grad_() for parameter in parameters]
    apply: Any = _Bridge.apply
    return functools.partial(apply, make), tensors
