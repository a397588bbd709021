"""Every row of reference/cases.py against autograd, and against finite differences."""

import pytest
import torch
from torch import Generator, Tensor

import minifw
from minifw import nn
from reference.cases import CASES, Case, draw_cotangents, draw_inputs, pair, seeded, trace

BATCHED = [case for case in CASES if case.batched]
REAL = [case for case in CASES if all(spec.domain == "real" for spec in case.inputs)]
SEEDS = (0, 1)

LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
    "strided": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "expanded": lambda tensor: tensor.narrow(0, 0, min(len(tensor), 1)).expand_as(tensor),
}


def rows(cases: list[Case] | tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    return LAYOUTS[layout](tensor) if tensor.dim() else tensor


def lay_out_cotangent(tensor: Tensor, layout: str) -> Tensor:
    """As :func:`lay_out`, but expanded in another dimension than the inputs.

    Of equal samples with equal gradients, batch normalisation makes nothing but rounding.
    """
    if layout == "expanded" and tensor.dim():
        return tensor.narrow(-1, 0, min(tensor.shape[-1], 1)).expand_as(tensor)
    return lay_out(tensor, layout)


def both(
    case: Case,
    dtype: torch.dtype,
    seed: int,
    layout: str = "contiguous",
    batch: int | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What PyTorch and minifw make of the case."""
    generator = Generator().manual_seed(seed)
    ours, twin = pair(case, generator, dtype)
    inputs = tuple(lay_out(t, layout) for t in draw_inputs(case, generator, dtype, batch))
    return tuple(  # type: ignore[return-value]
        # Another seed: a cotangent equal to the input is one that normalisation maps to 0.
        trace(case, module, inputs, seed + 100, lambda tensor: lay_out_cotangent(tensor, layout))
        for module in (twin, ours)
    )


def largest(tensor: Tensor) -> float:
    finite = tensor[tensor.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def assert_close(
    expected: dict[str, Tensor],
    actual: dict[str, Tensor],
    tolerance: dict[str, float],
    reproduce: str,
) -> None:
    """The same names, shapes and dtypes; NaN and infinity in the same places; else within reach."""
    assert list(expected) == list(actual), reproduce
    for name, there in expected.items():
        here = actual[name]
        where = f"{name} of {reproduce}"
        assert (there.shape, there.dtype) == (here.shape, here.dtype), where
        special = ~there.isfinite()
        assert torch.equal(special, ~here.isfinite()), where
        torch.testing.assert_close(
            here[special], there[special], rtol=0, atol=0, equal_nan=True, msg=where
        )
        error = (there - here)[~special].abs()
        error = error.max().item() if error.numel() else 0.0
        assert error <= tolerance[name], f"{where}: error {error}, allowed {tolerance[name]}"


def overall(expected: dict[str, Tensor], layout: str) -> float:
    """The largest entry of the whole pass, where every row is the same, else 0.

    What subtracts means then leaves nothing but the rounding of larger numbers.
    """
    return max(map(largest, expected.values())) if layout == "expanded" else 0.0


def relative(expected: dict[str, Tensor], layout: str = "") -> dict[str, float]:
    """1e-12 of the largest entry: some thousand roundings of float64, none of float32."""
    floor = 1e-15 * overall(expected, layout)
    return {name: 1e-12 * largest(tensor) + floor for name, tensor in expected.items()}


def ulp_of(value: float) -> float:
    float32 = torch.tensor(value, dtype=torch.float32)
    return (torch.nextafter(float32, torch.tensor(torch.inf)) - float32).item()


def float32_tolerance(
    exact: dict[str, Tensor], theirs: dict[str, Tensor], layout: str
) -> dict[str, float]:
    """4 times PyTorch's own error against float64, plus 2 ULP of the largest entry.

    Both sides round the same sums in orders of their own, so neither is nearer to the truth by
    more than luck: 4 is room for luck. The 2 ULP are for where PyTorch happens to err by nothing.
    """
    floor = ulp_of(overall(theirs, layout))
    return {
        name: 4 * largest(exact[name] - theirs[name].double())
        + 2 * ulp_of(largest(theirs[name]))
        + floor
        for name in theirs
    }


def check(case: Case, seed: int, layout: str, batch: int | None = None) -> None:
    """Both dtypes at once: what is expected of float32 is measured against float64."""
    reproduce = f"{case.name}, {layout=}, {seed=}, {batch=}"
    exact, actual = both(case, torch.float64, seed, layout, batch)
    assert_close(exact, actual, relative(exact, layout), f"{reproduce}, float64")
    expected, actual = both(case, torch.float32, seed, layout, batch)
    tolerance = float32_tolerance(exact, expected, layout)
    assert_close(expected, actual, tolerance, f"{reproduce}, float32")


@rows(CASES)
def test_equals_autograd_in_both_dtypes_and_every_layout(case: Case) -> None:
    for layout in LAYOUTS:
        for seed in SEEDS:
            check(case, seed, layout)


@rows(BATCHED)
def test_empty_and_one_element_batches(case: Case) -> None:
    for layout in LAYOUTS:
        for batch in (0, 1):
            check(case, 3, layout, batch)


@rows(REAL)
def test_nan_and_infinity_reach_the_same_places(case: Case) -> None:
    generator = Generator().manual_seed(4)
    ours, twin = pair(case, generator, torch.float64)
    special = torch.tensor([torch.inf, 0.0, torch.nan, -0.0, -torch.inf], dtype=torch.float64)
    inputs = draw_inputs(case, generator, torch.float64)
    flat = inputs[0].view(-1)
    flat[:5] = special[: len(flat)]
    expected = trace(case, twin, inputs, seed=5)
    actual = trace(case, ours, inputs, seed=5)
    assert_close(expected, actual, relative(expected), case.name)


@rows([case for case in CASES if case.training is None])
def test_the_mode_makes_no_difference_where_the_row_says_so(case: Case) -> None:
    generator = Generator().manual_seed(6)
    ours, _ = pair(case, generator, torch.float64)
    inputs = draw_inputs(case, generator, torch.float64)
    trained = trace(case, ours.train(), inputs, seed=7)
    evaluated = trace(case, ours.eval(), inputs, seed=7)
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)


@rows(CASES)
def test_gradients_equal_finite_differences(case: Case) -> None:
    generator = Generator().manual_seed(8)
    ours, _ = pair(case, generator, torch.float64)
    inputs = draw_inputs(case, generator, torch.float64)
    seed, step = 9, 1e-6

    def loss() -> float:
        with seeded(seed), minifw.no_grad():
            output = ours(*inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        pairs = zip(outputs, draw_cotangents(outputs, seed), strict=True)
        return sum((output * cotangent).sum().item() for output, cotangent in pairs)

    traced = trace(case, ours, inputs, seed)
    places = {f"input.{i}.grad": tensor for i, tensor in enumerate(inputs)}
    places |= {f"{path}.grad": parameter.data for path, parameter in ours.named_parameters()}
    grads = {name: grad for name, grad in traced.items() if name in places}
    constant = {f"input.{i}.grad" for i, spec in enumerate(case.inputs) if spec.constant}
    assert set(places) - constant == set(grads)
    for name, grad in grads.items():
        entries = places[name].view(-1)
        differences = []
        for index in range(len(entries)):
            there = entries[index].item()
            entries[index] = there + step
            above = loss()
            entries[index] = there - step
            below = loss()
            entries[index] = there
            differences.append((above - below) / (2 * step))
        expected = torch.tensor(differences, dtype=torch.float64).view(grad.shape)
        error = (expected - grad).abs().max().item()
        # The rounding of the loss divided by the step, about 1e-10, and a margin.
        assert error <= 1e-7 * max(1.0, largest(expected)), f"{name} of {case.name}: {error}"


def test_every_public_module_has_a_row() -> None:
    public = {
        name
        for name in nn.__all__
        if isinstance(vars(nn)[name], type)
        and issubclass(vars(nn)[name], nn.Module)
        and vars(nn)[name] not in (nn.Module, nn.ModuleList)  # which are never called
    }
    assert public == {case.module for case in CASES}


def test_every_row_has_a_name_of_its_own() -> None:
    assert len(CASES) == len({case.name for case in CASES})


@rows([case for case in CASES if case.module == "Dropout" and case.training and case.arguments])
def test_dropout_masks_are_the_same_in_every_dtype(case: Case) -> None:
    # Otherwise PyTorch's float32 error, which the tolerance is made of, would be a mask's.
    float32, _ = both(case, torch.float32, seed=10)
    float64, _ = both(case, torch.float64, seed=10)
    assert torch.equal(float32["output"] == 0, float64["output"] == 0)
