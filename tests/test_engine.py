"""The equivalence engine: what it says of right and wrong, and of checks that prove nothing."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.examples.autograd_function import Linear
from minifw import nn
from minifw.nn.rule import Pullback
from minifw.testing import Report, Status, UsageError, Verdict, verify
from minifw.testing.case import Input
from minifw.testing.catalog import CHECKS
from minifw.testing.check import check
from minifw.testing.comparison import Comparison
from minifw.testing.cross_check import gradcheck, hear
from minifw.testing.example import DTYPES, Example, parse_input
from minifw.testing.verdict import judge

DOUBLE = torch.float64


def one_entry_wrong(row: int, column: int) -> type:
    """A Linear layer with an entry of its weight's gradient wrong by a factor of 1 + 1e-5."""

    class Wrong(Linear):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            grad_input, grad_weight, grad_bias = Linear.backward(ctx, grad_output)
            grad_weight[row, column] *= 1 + 1e-5
            return grad_input, grad_weight, grad_bias

    return Wrong


def elementwise(
    function: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor]
) -> Callable[[], nn.Module]:
    return lambda: nn.Activation(function, derivative)


def of(report: Report, tensor: str) -> list[Verdict]:
    return [verdict for verdict in report.verdicts if verdict.tensor == tensor]


def plain(subject: Any, reference: Any, *shapes: str, **options: Any) -> Report:
    """Without witnesses and fuzzing, in float64."""
    options = {"dtypes": ["float64"], "skip": ["cross-check", "gradcheck", "fuzzing"]} | options
    return verify(subject, reference, shapes, **options)


# A factor of 1 + 1e-5 in one entry.


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(5))
def test_one_entry_wrong_by_1e_5_is_found_in_float64(row: int, column: int) -> None:
    wrong = one_entry_wrong(row, column)
    report = plain(wrong, torch.nn.Linear, "4,5", arguments=(5, 3), max_examples=0)
    assert report.status == Status.FAILED
    found = report.failures[0]
    assert (found.tensor, found.where) == ("weight.grad", (row, column))
    assert found.actual / found.expected == pytest.approx(1 + 1e-5, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "arguments"), [("Linear", (3, 2)), ("LayerNorm", (3,)), ("Softmax", (1,))]
)
def test_in_float32_it_is_found_where_the_verdict_claims_the_power_to(
    name: str, arguments: tuple[int, ...]
) -> None:
    def verdict_on(factors: Tensor, example: Example, **options: Any) -> Verdict:
        class Subject(getattr(nn, name)):  # type: ignore[misc]
            def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
                output, pullback = super().rule(input)
                return output, lambda grad: pullback(grad) * factors

        reference = getattr(torch.nn, name)
        comparison = Comparison("", Subject, reference, (Input((1, 3)),), arguments)
        (verdict,) = [
            v for v in check(comparison, example, **options) if v.tensor == "input.0.grad"
        ]
        return verdict

    examples = [Example(dtype="float32", seed=seed) for seed in range(12)]
    right = torch.ones(1, 3)
    trusted = [verdict_on(right, example, measure_power=True) for example in examples]
    assert {Status.PASSED} == {verdict.status for verdict in trusted}
    claimed = [verdict.example for verdict in trusted if verdict.power == 1.0]
    assert claimed
    for example, column in itertools.product(claimed, range(3)):
        wrong = right.clone()
        wrong[0, column] += 1e-5
        verdict = verdict_on(wrong, example)
        assert (verdict.status, verdict.where) == (Status.FAILED, (0, column))


def test_power_is_claimed_in_float64_and_float32_alone() -> None:
    report = plain(Linear, torch.nn.Linear, "4,5", arguments=(5, 3), dtypes=tuple(DTYPES))
    powers = pd.DataFrame(report.rows()).set_index(["tensor", "dtype"])["power"]["weight.grad"]
    assert powers["float64"] == 1.0
    assert 0.5 < powers["float32"] <= 1.0
    assert powers[["bfloat16", "float16"]].isna().all()
    assert report.power("float64") == 1.0


def test_the_bound_beside_a_power_is_the_one_an_error_has_to_exceed() -> None:
    example = Example(dtype="float32")
    for v in check(Comparison("", Linear, torch.nn.Linear, (Input((4, 5)),), (5, 3)), example):
        assert math.isnan(v.power)
    comparison = Comparison("", one_entry_wrong(0, 0), torch.nn.Linear, (Input((4, 5)),), (5, 3))
    found, measured = (
        check(comparison, example, measure_power=measured) for measured in (False, True)
    )
    assert [v.bound for v in found if v.tensor == "weight.grad"] == [
        v.bound for v in measured if v.tensor == "weight.grad"
    ]


# Checks that cannot fail.


def test_a_sum_of_the_outputs_proves_nothing_of_softmax() -> None:
    ones = [torch.ones(4, 5)]
    report = plain(lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), "4,5", cotangents=ones)
    assert report.status == Status.MISTRUSTED
    (verdict, *_) = of(report, "input.0.grad")
    assert verdict.reason in ("every entry is below the bound", "every entry is 0")
    assert plain(lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), "4,5").status == "PASSED"


def test_a_wrong_backward_hides_behind_a_sum_of_the_outputs() -> None:
    # No gradient at all, where that of the sum is 0: the reason why cotangents are drawn.
    class NoGradient(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            return input.softmax(1), torch.zeros_like

    reference = lambda: torch.nn.Softmax(1)  # noqa: E731
    hidden = plain(NoGradient, reference, "4,5", cotangents=[torch.ones(4, 5)])
    assert hidden.status == Status.MISTRUSTED
    assert plain(NoGradient, reference, "4,5").status == Status.FAILED


def test_a_zero_cotangent_proves_nothing() -> None:
    report = plain(nn.Tanh, torch.nn.Tanh, "4,3", cotangents=[torch.zeros(4, 3)])
    assert report.status == Status.MISTRUSTED
    assert "every entry is 0" in str(report)


def test_outputs_that_do_not_depend_on_the_input_prove_nothing() -> None:
    reference = lambda: torch.nn.Softmax(1)  # noqa: E731
    report = plain(lambda: nn.Softmax(1), reference, "4,1", contract="torch")
    assert report.status == Status.MISTRUSTED
    assert {"other inputs give the same"} <= {v.reason for v in of(report, "output")}


def test_an_input_without_influence_proves_nothing() -> None:
    class Forgets(torch.nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return input * 0 + 3

    class AlsoForgets(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            return input * 0 + 3, torch.zeros_like

    report = plain(AlsoForgets, Forgets, "4,3")
    assert report.status == Status.MISTRUSTED
    assert "input.0.grad" in str(report)


# Side effects, calls, and errors.


def test_an_input_that_is_changed_in_place_fails() -> None:
    class InPlace:
        def forward(self, input: Tensor) -> Tensor:
            self.output = input.tanh_()
            return self.output

        def backward(self, grad_output: Tensor) -> Tensor:
            return grad_output * (1 - self.output.square())

        def parameters(self) -> dict[str, Tensor]:
            return {}

        def gradients(self) -> dict[str, Tensor]:
            return {}

    report = plain(InPlace, torch.nn.Tanh, "4,3")
    assert "input.0 was modified" in str(report)


def test_a_cotangent_that_is_changed_in_place_fails() -> None:
    class InPlace(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            output = input.tanh()
            return output, lambda grad: grad.mul_(1 - output.square())

    assert "cotangent.0 was modified" in str(plain(InPlace, torch.nn.Tanh, "4,3"))


def test_a_gradient_that_shares_memory_with_the_cotangent_fails() -> None:
    class Bias:
        def __init__(self) -> None:
            self.bias = torch.zeros(4, 3)
            self.grad: Tensor | None = None

        def forward(self, input: Tensor) -> Tensor:
            return input + self.bias

        def backward(self, grad_output: Tensor) -> Tensor:
            self.grad = grad_output if self.grad is None else self.grad + grad_output
            return grad_output.clone()

        def parameters(self) -> dict[str, Tensor]:
            return {"bias": self.bias}

        def gradients(self) -> dict[str, Tensor | None]:
            return {"bias": self.grad}

    class Reference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(4, 3))

        def forward(self, input: Tensor) -> Tensor:
            return input + self.bias

    report = plain(Bias, Reference, "4,3")
    assert "the gradient of bias shares its memory with cotangent.0" in str(report)


def test_state_in_the_module_and_not_in_the_call_fails() -> None:
    class Last(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            self.kept = (input.tanh(),)
            return self.kept[0], lambda grad: grad * (1 - self.kept[0].square())

    report = plain(Last, torch.nn.Tanh, "4,3")
    assert {"two-forwards", "chained"} == {v.check for v in report.failures}


def test_gradients_that_are_assigned_and_not_added_fail() -> None:
    class Assigns(nn.Linear):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            output, pullback = super().rule(input)

            def assign(grad: Tensor, **options: Any) -> Any:
                self.zero_grad()
                return pullback(grad, **options)

            return output, assign

    report = plain(Assigns, torch.nn.Linear, "4,3", arguments=(3, 3))
    assert {"accumulated", "two-forwards", "chained"} == {v.check for v in report.failures}


def test_an_error_of_the_subject_alone_is_reported() -> None:
    class NoEmpty(nn.Tanh):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            if not len(input):
                raise ValueError("no samples")
            return super().rule(input)

    report = plain(NoEmpty, torch.nn.Tanh, "4,3")
    assert report.status == Status.ERROR
    assert "ERROR call in float64, empty-batch: ValueError" in str(report)
    assert "no samples" in str(report)


def test_what_the_reference_refuses_is_skipped_with_its_reason() -> None:
    report = plain(nn.Linear, torch.nn.Linear, "4,5", arguments=(5, 3))
    (verdict,) = [v for v in report.verdicts if v.check == "zero-dimensional"]
    assert verdict.status == Status.SKIPPED
    assert verdict.reason.startswith("the reference refuses it: RuntimeError")


def test_an_output_of_another_shape_fails() -> None:
    report = plain(lambda: nn.Flatten(0), torch.nn.Flatten, "4,5")
    assert report.status == Status.FAILED
    assert "expected shape [4, 5], torch.float64, got shape [20], torch.float64" in str(report)


def test_a_missing_gradient_counts_as_zeros() -> None:
    class NoGradient(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            return input.tanh(), lambda grad: None

    report = plain(NoGradient, torch.nn.Tanh, "4,3")
    assert {"input.0.grad"} <= {verdict.tensor for verdict in report.failures}


def test_a_gradient_where_the_reference_has_none_fails() -> None:
    class Of(torch.nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return input.detach() + torch.zeros((), dtype=input.dtype, requires_grad=True)

    class Identity(nn.Module):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            return input.clone(), lambda grad: grad.clone()

    assert "a gradient, where the reference has none" in str(plain(Identity, Of, "4,3"))


# Witnesses.


def comparison(subject: Any, reference: Any = torch.nn.Tanh) -> Comparison:
    return Comparison("", subject, reference, (Input((4, 3)),))


def test_a_wrong_derivative_stands_against_autograd_and_differences() -> None:
    wrong = comparison(elementwise(torch.tanh, lambda x: 1 - x.tanh()))
    (testimony,) = hear(wrong)
    assert testimony.verdict == "rule and rule in float64 stand against the others"
    assert "Jacobian mismatch" in gradcheck(wrong)


def test_a_rule_that_is_wrong_in_float32_alone_stands_alone() -> None:
    def derivative(x: Tensor) -> Tensor:
        wrong = 1e-3 if x.dtype == torch.float32 else 0.0
        return 1 - x.tanh().square() + wrong

    (testimony,) = hear(comparison(elementwise(torch.tanh, derivative)))
    assert testimony.verdict == "rule stands against the others"


def test_a_reference_of_another_function_stands_alone() -> None:
    # The subject is right in itself: what it was compared with is not what it computes.
    sine = comparison(elementwise(torch.sin, torch.cos))
    (testimony,) = hear(sine)
    assert testimony.verdict == "autograd stands against the others"
    assert gradcheck(sine) == ""


def test_a_witness_that_cannot_be_heard_is_named() -> None:
    class OnlyFloat32(nn.Tanh):
        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            if input.dtype != torch.float32:
                raise TypeError("float32 only")
            return super().rule(input)

    (testimony,) = hear(comparison(OnlyFloat32))
    assert "rule in float64: TypeError" in testimony.verdict
    assert testimony.status == Status.FAILED


# The judge.


def judged(actual: list[float], exact: list[float], **options: Any) -> Verdict:
    tensors = [torch.tensor(values, dtype=DOUBLE) for values in (actual, exact)]
    return judge("x.grad", tensors[0], tensors[1], tensors[1], [], cotangent=1.0, **options)


def test_the_worst_entry_is_named() -> None:
    verdict = judged([1.0, 2.0, 3.5], [1.0, 2.0, 3.0])
    assert (verdict.status, verdict.where, verdict.absolute) == (Status.FAILED, (2,), 0.5)
    assert verdict.relative == pytest.approx(0.5 / 3)
    assert verdict.ulp == pytest.approx(0.5 / 2**-51)
    assert (verdict.actual, verdict.expected) == (3.5, 3.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_has_to_be_in_the_same_places(value: float) -> None:
    assert judged([1.0, value], [1.0, value]).status == Status.PASSED
    assert judged([1.0, value], [1.0, 2.0]).where == (1,)
    assert judged([value, value], [1.0, value]).status == Status.FAILED
    assert judged([value], [value]).reason == "no entry is finite"


def test_shapes_and_dtypes_have_to_agree() -> None:
    one = torch.ones(1)
    verdict = judge("output", torch.ones(2), one, one, [], 1.0)
    assert verdict.reason == "expected shape [1], torch.float32, got shape [2], torch.float32"
    assert judge("output", one.double(), one, one, [], 1.0).status == Status.FAILED
    assert judge("output", None, one, one, [], 1.0).status == Status.FAILED


# Wrong usage.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear, torch.nn.Linear, ["4,5"]), "reference cannot be made"),
        ((nn.Linear, torch.nn.Linear, ["4,5"], (4, 3)), "reference cannot be called"),
        ((lambda *_: nn.Linear(5, 2), torch.nn.Linear, ["4,5"], (5, 3)), r"\[2, 5\].*\[3, 5\]"),
        ((object, torch.nn.Tanh, ["4,5"]), "subject must be"),
        ((nn.Tanh, object, ["4,5"]), "reference must be"),
        ((nn.Tanh, torch.nn.Tanh, ["4,x"]), "expected an input such as"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        verify(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtypes": ["float8"]}, "unknown dtype 'float8'"), ({"skip": ["luck"]}, "check 'luck'")],
)
def test_unknown_names_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        verify(nn.Tanh, torch.nn.Tanh, ["4,5"], **options)


# Examples.


@pytest.mark.parametrize(
    "example",
    [Example(), Example(dtype="float16", sizes={5: 2}, seed=3), *CHECKS["strided"].examples],
    ids=str,
)
def test_an_example_is_read_back_from_what_it_prints(example: Example) -> None:
    assert example == Example.parse(str(example))


@pytest.mark.parametrize("text", ["", "[]", '{"color": 1}', "{'seed': 1}", '{"dtype": "int8"}'])
def test_what_is_no_example_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an example such as"):
        Example.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4,3", Input((4, 3))),
        ("", Input(())),
        ("4:float", Input((4,))),
        ("4:long:10", Input((4,), "index", False, 10)),
        ("4,3:probability", Input((4, 3), "probability")),
        ("4,3:binary:constant", Input((4, 3), "binary", True)),
    ],
)
def test_inputs_are_read(text: str, expected: Input) -> None:
    assert expected == parse_input(text)


@pytest.mark.parametrize("text", ["4:long", "4:double", "4:float:10", "a"])
def test_what_is_no_input_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an input such as"):
        parse_input(text)


def test_the_fuzzer_shrinks_to_an_example_that_fails_again() -> None:
    class OnlySmall(nn.Tanh):
        """Wrong for more than three features, and there alone."""

        def rule(self, input: Tensor) -> tuple[Tensor, Pullback]:
            output, pullback = super().rule(input)
            wide = input.dim() and input.shape[-1] > 3
            return output, lambda grad: pullback(grad) * (1.5 if wide else 1.0)

    report = verify(OnlySmall, torch.nn.Tanh, ["2,2"], max_examples=100, skip=["sizes"])
    assert report.status == Status.FAILED
    (fuzzed,) = [verdict for verdict in report.failures if verdict.check == "fuzzing"]
    assert fuzzed.example.sizes == {2: 4}
    again = check(Comparison("", OnlySmall, torch.nn.Tanh, (Input((2, 2)),)), fuzzed.example)
    assert Status.FAILED in {verdict.status for verdict in again}


# What the subject refuses.


class TwoDimensional(torch.nn.Module):
    """A layer for matrices that are not empty, and says so."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 2 or not input.numel():
            raise ValueError(f"expected a matrix that is not empty, got {list(input.shape)}")
        return input * 2


class OtherRanksWrong(torch.nn.Module):
    """The same, but it gives something else for what is no matrix."""

    def forward(self, input: Tensor) -> Tensor:
        return input * 2 if input.dim() == 2 else input


def double(input: Tensor) -> Tensor:
    return input * 2


def test_shapes_that_were_not_given_may_be_refused_and_that_is_said():
    report = verify(TwoDimensional, double, ["4,3"], dtypes=["float64"])
    states = {clause.name: clause for clause in report.clauses}
    assert report.status == Status.PASSED
    assert {states["ranks"].state, states["empty"].state} == {"refused"}
    assert "expected a matrix that is not empty, got [3]" in states["ranks"].reason
    assert "refused: ranks, empty" in report.headline


def test_a_refusal_decides_where_it_is_required():
    report = verify(TwoDimensional, double, ["4,3"], require=["ranks"], dtypes=["float64"])
    assert report.status == Status.ERROR
    assert report.failures[0].clause == "ranks"


def test_another_result_is_no_refusal():
    report = verify(OtherRanksWrong, double, ["4,3"], dtypes=["float64"], max_examples=0)
    assert report.status == Status.FAILED
    assert report.failures[0].clause == "ranks"
