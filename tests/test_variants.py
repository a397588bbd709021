"""Every variant of the catalog is right: proved here without the engine, by autograd in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.variants import VARIANTS, Variant
from minifw.testing.example import Example, draw_inputs, parse_input
from minifw.testing.from_text import read_call

RELATIVE = {torch.float64: 1e-10, torch.float32: 2e-5}
# PyTorch multiplies by 1/6, and by 1/alpha, rounded to float32, in float64 too.
ROUNDED_BY_PYTORCH = {torch.nn.Hardsigmoid: 1e-7, torch.nn.CELU: 1e-7}


def identifier(row: Variant) -> str:
    return f"{row.family}: {row.name}"


EXACT = [row for row in VARIANTS if not row.kind.startswith("random")]
RANDOM = [row for row in VARIANTS if row.kind.startswith("random")]


@pytest.fixture(autouse=True)
def default_dtype() -> Any:
    yield
    torch.set_default_dtype(torch.float32)


def make(factory: Any, init: str) -> Any:
    arguments, options = read_call(init)
    return factory(*arguments, **options)


def is_class(factory: Any) -> bool:
    return isinstance(factory, type)


def leaves(row: Variant, inputs: Sequence[Tensor]) -> list[Tensor]:
    specs = map(parse_input, row.inputs)
    return [
        tensor.clone().requires_grad_(tensor.is_floating_point() and not spec.constant)
        for tensor, spec in zip(inputs, specs, strict=True)
    ]


def flat(result: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if result is None:
        return []
    if isinstance(result, dict):
        return flat(list(result.values()))
    if isinstance(result, (list, tuple)):
        return [tensor for part in result for tensor in flat(part)]
    return [result]


def pull_back(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], to: Sequence[Tensor]) -> Any:
    return torch.autograd.grad(outputs, to, cotangents, allow_unused=True, materialize_grads=True)


def as_arrays(row: Variant, values: Sequence[Tensor]) -> list[Any]:
    laid_out = [v.t().contiguous() if row.columns and v.dim() == 2 else v for v in values]
    if row.arrays == "torch":
        return laid_out
    return [v.numpy() for v in laid_out]


def as_tensor(row: Variant, value: Any) -> Tensor:
    tensor = torch.as_tensor(value).detach().clone()
    return tensor.t() if row.columns and tensor.dim() == 2 else tensor


def like(value: Tensor, shape: Sequence[int]) -> Tensor:
    """``value``, in the shape that a variant or the reference keeps it in."""
    if value.shape == torch.Size(shape):
        return value
    if value.dim() == 2 and value.t().shape == torch.Size(shape):
        return value.t()
    return value.reshape(*shape)


def by_name_or_shape(module: torch.nn.Module, theirs: dict[str, Tensor]) -> list[Tensor]:
    """The module's parameters in the order of the reference's."""
    mine = dict(module.named_parameters())
    if mine.keys() == theirs.keys():
        return [mine[name] for name in theirs]
    found: list[Tensor] = []
    for value in theirs.values():
        sizes = sorted(size for size in value.shape if size > 1)
        (name,) = (n for n, p in mine.items() if sorted(s for s in p.shape if s > 1) == sizes)
        found.append(mine.pop(name))
    return found


def of_autograd(
    row: Variant, inputs: list[Tensor], theirs: dict[str, Tensor], cotangents: Any
) -> Any:
    given, parameters = (
        leaves(row, inputs),
        [value.clone().requires_grad_() for value in theirs.values()],
    )
    arguments, options = read_call(row.call)
    if row.kind == "module":
        module = make(row.subject, row.init)
        parameters = by_name_or_shape(module, theirs)
        for parameter, value in zip(parameters, theirs.values(), strict=True):
            parameter.data.copy_(like(value, parameter.shape))
        outputs = flat(module(*given))
    elif row.kind == "Function":
        outputs = flat(row.subject.apply(*given, *parameters))
    else:
        outputs = flat(row.subject(*given, *parameters, *arguments, **options))
    to = [t for t in (*given, *parameters) if t.requires_grad]
    grads = dict(zip(map(id, to), pull_back(outputs, cotangents, to), strict=True))
    return (
        [output.detach() for output in outputs],
        [grads.get(id(t)) for t in given],
        [like(grads[id(p)], v.shape) for p, v in zip(parameters, theirs.values(), strict=True)],
    )


def of_functions(
    row: Variant, inputs: list[Tensor], theirs: dict[str, Tensor], cotangents: Any
) -> Any:
    given, parameters = as_arrays(row, inputs), list(theirs.values())
    if row.kind == "with gradient":
        loss, grad = row.subject(*given)
        return [as_tensor(row, loss)], [as_tensor(row, grad) * cotangents[0]], []
    assert row.backward is not None
    if row.kind == "derivative":
        function, derivative = row.subject, row.backward
        if row.arrays == "float":
            function, derivative = np.vectorize(function), np.vectorize(derivative)
        value, slope = function(given[0]), derivative(given[0])
        return [as_tensor(row, value)], [as_tensor(row, slope) * cotangents[0]], []
    if parameters and row.subject.__name__ == "dense_forward":  # its weight is (in, out)
        parameters[0] = parameters[0].t()
    output, cache = row.subject(*given, *as_arrays(row, parameters))
    grads = flat_gradients(row.backward(*as_arrays(row, cotangents), cache))
    grads = [None if grad is None else as_tensor(row, grad) for grad in grads]
    of_parameters = [
        like(grad, value.shape)
        for grad, value in zip(grads[len(given) :], theirs.values(), strict=True)
    ]
    return [as_tensor(row, output)], grads[: len(given)], of_parameters


def flat_gradients(result: Any) -> list[Any]:
    """As flat, with None for none."""
    if isinstance(result, (list, tuple)):
        return [grad for part in result for grad in flat_gradients(part)]
    return [result]


def of_object(
    row: Variant, inputs: list[Tensor], theirs: dict[str, Tensor], cotangents: Any
) -> Any:
    made, given = make(row.subject, row.init), as_arrays(row, inputs)
    ordered = [given[place] for place in row.order or range(len(given))]
    if getattr(made, "params", None) == {}:  # they are made by the first call
        made.forward(*ordered)
        made.backward(*as_arrays(row, cotangents))
    for (value, _), wanted in zip(row.held(made), theirs.values(), strict=True):
        wanted = like(wanted, value.shape)
        value[...] = wanted.numpy() if row.arrays == "numpy" else wanted
    output = as_tensor(row, made.forward(*ordered))
    scale: Any = 1
    if row.kind == "object":
        grads = flat_gradients(made.backward(*as_arrays(row, cotangents)))
    else:
        scale = cotangents[0]
        grads = flat_gradients(made.backward(*(ordered if row.kind == "loss of inputs" else ())))
    return (
        [output],
        [None if grad is None else as_tensor(row, grad) * scale for grad in grads],
        [
            like(torch.as_tensor(grad).clone(), wanted.shape)
            for (_, grad), wanted in zip(row.held(made), theirs.values(), strict=True)
        ],
    )


HANDS = {
    **dict.fromkeys(("module", "Function", "function"), of_autograd),
    **dict.fromkeys(("pair", "derivative", "with gradient"), of_functions),
    **dict.fromkeys(("object", "loss", "loss of inputs"), of_object),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("row", EXACT, ids=identifier)
def test_values_and_gradients_are_autograds_of_the_reference(row: Variant, seed: int) -> None:
    dtype = torch.float32 if row.dtypes == ("float32",) else torch.float64
    torch.set_default_dtype(dtype)
    torch.manual_seed(seed)
    specs = tuple(map(parse_input, row.inputs))
    example = Example(seed=seed, dtype=str(dtype).removeprefix("torch."))
    generator = torch.Generator().manual_seed(seed)
    inputs = list(draw_inputs(example, specs, generator, "cpu"))

    reference, theirs = row.reference, {}
    if is_class(reference):
        init = row.init if row.reference_init is None else row.reference_init
        reference = make(reference, init)
        for parameter in reference.parameters():
            parameter.data.normal_()
        theirs = {name: p.detach().clone() for name, p in reference.named_parameters()}
    arguments, options = read_call(row.call)
    given = leaves(row, inputs)
    outputs = flat(reference(*given, *arguments, **options))
    cotangents = [torch.randn(o.shape, generator=generator, dtype=dtype) for o in outputs]
    if row.kind.startswith(("loss", "with gradient")):
        cotangents = [torch.ones(())]
    parameters = list(reference.parameters()) if theirs else []
    to = [t for t in (*given, *parameters) if t.requires_grad]
    expected = dict(zip(map(id, to), pull_back(outputs, cotangents, to), strict=True))

    values, grads, of_parameters = HANDS[row.kind](row, inputs, theirs, cotangents)

    def close(actual: Tensor, wanted: Tensor) -> None:
        wanted = wanted.detach()
        size = max(wanted.abs().max().item(), 1) if wanted.numel() else 1
        relative = ROUNDED_BY_PYTORCH.get(row.reference, RELATIVE[dtype])
        wanted = wanted.to(actual.dtype)
        torch.testing.assert_close(actual, wanted, rtol=relative, atol=relative * size)

    assert len(values) == len(outputs)
    for actual, wanted in zip(values, outputs, strict=True):
        close(actual, wanted)
    for place, (spec, tensor) in enumerate(zip(specs, given, strict=True)):
        if id(tensor) in expected and not spec.constant:
            close(grads[place], expected[id(tensor)])
    assert len(of_parameters) == len(parameters)
    for actual, parameter in zip(of_parameters, parameters, strict=True):
        close(actual, expected[id(parameter)])


@pytest.mark.parametrize("row", RANDOM, ids=identifier)
def test_dropout_keeps_its_share_scales_it_and_masks_gradients_alike(row: Variant) -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    (p,), _ = read_call(row.init)
    made = make(row.subject, row.init)
    x = torch.ones(100, 200, requires_grad=row.kind == "random")
    y = made.forward(x)
    grad = torch.randn(x.shape)
    grad_x = torch.autograd.grad(y, x, grad)[0] if row.kind == "random" else made.backward(grad)
    kept = y.detach() != 0
    assert abs(kept.double().mean().item() - (1 - p)) < 0.02
    torch.testing.assert_close(y.detach(), kept / (1 - p))
    torch.testing.assert_close(grad_x, grad * kept / (1 - p))
    made.eval()
    torch.testing.assert_close(made.forward(x), x)


def test_names_are_unique() -> None:
    names = [row.name for row in VARIANTS]
    assert sorted(set(names)) == sorted(names)
