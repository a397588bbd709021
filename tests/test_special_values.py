"""Values at the edges, and errors: what rows of drawn numbers do not reach."""

import math
import warnings
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import pytest
import torch
from torch import Tensor

from minifw import nn
from reference.torch_changes import CHANGES, lacks

NAN, INF = math.nan, math.inf
MODERATE = [0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 19.9, 20.1, -20.1, 88.8, -88.8, 1e4, -1e4]
EXTREME = torch.tensor([*MODERATE, 1e20, -1e20, 3e38, -3e38, INF, -INF, NAN])
LOGITS = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4], [0.0, 1.0, 2.0]])
MASKED = torch.tensor([[1.0, -INF, 0.0], [-INF, -INF, -INF], [INF, 0.0, 1.0], [NAN, 0.0, 1.0]])
CLASSES = torch.tensor([0, 1, -100, 2])
PROBABILITIES = torch.tensor([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]])
WEIGHT = torch.tensor([0.5, 0.0, 2.0])

Make = Callable[[Any], Any]


def both(make: Make, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradient of the first input, of PyTorch and of minifw."""
    twin, ours = make(torch.nn), make(nn)
    leaf = inputs[0].clone().requires_grad_()
    expected = twin(leaf, *inputs[1:])
    cotangent = torch.arange(1.0, expected.numel() + 1).view(expected.shape).to(expected)
    expected.backward(cotangent)
    actual = ours(*inputs)
    grad = ours.backward(cotangent)
    grad = grad[0] if isinstance(grad, tuple) else grad
    return [expected.detach(), leaf.grad], [actual, grad]


def assert_same(make: Make, *inputs: Tensor) -> None:
    """Equal to 1e-5, or to 1e-6 of all moderate entries; NaN and infinity in the same places."""
    expected, actual = both(make, *inputs)
    for there, here in zip(expected, actual, strict=True):
        assert there.dtype == here.dtype
        atol = there[there.abs() < 1e10].abs().sum().item() * 1e-6 + 1e-5
        torch.testing.assert_close(here, there, rtol=1e-5, atol=atol, equal_nan=True)


ELEMENTWISE: dict[str, Make] = {
    "ReLU": lambda nn: nn.ReLU(),
    "LeakyReLU": lambda nn: nn.LeakyReLU(),
    "LeakyReLU(-0.5)": lambda nn: nn.LeakyReLU(-0.5),
    "ELU": lambda nn: nn.ELU(),
    "ELU(-2)": lambda nn: nn.ELU(-2.0),
    "Softplus": lambda nn: nn.Softplus(),
    "Softplus(3, 1000)": lambda nn: nn.Softplus(3.0, 1000.0),
    "GELU": lambda nn: nn.GELU(),
    "GELU(tanh)": lambda nn: nn.GELU("tanh"),
    "SiLU": lambda nn: nn.SiLU(),
    "Tanh": lambda nn: nn.Tanh(),
    "Sigmoid": lambda nn: nn.Sigmoid(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_activations_of_extreme_inputs(make: Make, dtype: torch.dtype) -> None:
    inputs = EXTREME.to(dtype)
    if dtype == torch.float32 and isinstance(make(nn), nn.GELU):
        # torch's float32 kernel overflows: it makes infinity of 3e38 and NaN of infinity, which
        # its float64 kernel does not.
        inputs = torch.cat([inputs[:15], inputs[-1:]])
    # A multiple of every vector length: in what is left over torch treats NaN otherwise (ELU).
    assert_same(make, inputs.repeat(32))
    assert_same(make, inputs[4])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "make",
    [
        lambda nn, **o: nn.MSELoss(**o),
        lambda nn, **o: nn.L1Loss(**o),
        lambda nn, **o: nn.SmoothL1Loss(**o),
        lambda nn, **o: nn.SmoothL1Loss(beta=0.0, **o),
        lambda nn, **o: nn.SmoothL1Loss(beta=1e4, **o),
        lambda nn, **o: nn.HuberLoss(**o),
        lambda nn, **o: nn.HuberLoss(delta=1e4, **o),
        lambda nn, **o: nn.BCEWithLogitsLoss(**o),
        lambda nn, **o: nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0), **o),
    ],
    ids=["mse", "l1", "smooth", "smooth 0", "smooth 1e4", "huber", "huber 1e4", "bce", "bce 3"],
)
def test_losses_of_extreme_inputs(make: Callable[..., Any], reduction: str) -> None:
    for target in (torch.zeros_like(EXTREME), torch.ones_like(EXTREME)):
        for special in (EXTREME, EXTREME[:13], EXTREME[:0], EXTREME[2]):
            of = target[: len(special)] if special.dim() else target[0]
            assert_same(lambda nn: make(nn, reduction=reduction), special, of)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_probabilities_of_exactly_0_and_1(target: float, reduction: str) -> None:
    input = torch.tensor([0.0, 1.0, 1e-45, 1 - 6e-8, 0.5])
    weight = torch.tensor([2.0])

    def make(nn: Any) -> Any:
        return nn.BCELoss(weight, reduction=reduction)

    assert_same(make, input, torch.full_like(input, target))
    assert all(tensor.isfinite().all() for tensor in both(make, input, input.round())[1])


@pytest.mark.parametrize("input", [LOGITS, MASKED], ids=["1e4", "masked"])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax_of_extreme_logits(name: str, dim: int, input: Tensor) -> None:
    assert_same(lambda nn: getattr(nn, name)(dim), input)


@pytest.mark.parametrize("input", [LOGITS, MASKED], ids=["1e4", "masked"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weight"])
@pytest.mark.parametrize("smoothing", [-0.5, 0.0, 0.1, 1.0])
@pytest.mark.parametrize("target", [CLASSES, PROBABILITIES], ids=["classes", "probabilities"])
def test_cross_entropy_of_extreme_logits(
    target: Tensor, smoothing: float, weight: Tensor | None, reduction: str, input: Tensor
) -> None:
    assert_same(
        lambda nn: nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing),
        input,
        target,
    )


@pytest.mark.parametrize("input", [LOGITS, MASKED], ids=["1e4", "masked"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weight"])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_nll_of_extreme_inputs(
    ignored: int, weight: Tensor | None, reduction: str, input: Tensor
) -> None:
    target = CLASSES.clamp(min=0) if ignored == 1 else CLASSES
    assert_same(
        lambda nn: nn.NLLLoss(weight, ignore_index=ignored, reduction=reduction), input, target
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_target_ignored_or_of_weight_0(smoothing: float, reduction: str) -> None:
    def make(nn: Any) -> Any:
        return nn.CrossEntropyLoss(WEIGHT, reduction=reduction, label_smoothing=smoothing)

    assert_same(make, LOGITS, torch.full((4,), -100))
    if reduction != "mean" or not smoothing:  # where 0 / 0 meets infinity
        assert_same(make, LOGITS, torch.tensor([1, -100, 1, 1]))


@pytest.mark.parametrize("name", ["NLLLoss", "CrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("input", "target"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        (torch.zeros(2, 3, 0), torch.zeros(2, 0, dtype=torch.long)),
        (torch.ones(3), torch.tensor(1)),
        (torch.ones(2, 3), torch.tensor([1, 2], dtype=torch.uint8)),
        (torch.ones(1, 3), torch.tensor([2])),
        (torch.rand(2, 3, 2, 2), torch.ones(2, 2, 2, dtype=torch.long)),
    ],
    ids=["no sample", "no place", "unbatched", "uint8", "one sample", "rank 4"],
)
def test_classes_of_other_shapes(input: Tensor, target: Tensor, reduction: str, name: str) -> None:
    assert_same(lambda nn: getattr(nn, name)(reduction=reduction), input, target)


@pytest.mark.parametrize(
    ("input", "target"),
    [
        (torch.zeros(0, 3), torch.zeros(0, 3)),
        (torch.ones(3), torch.tensor([0.1, 0.2, 0.7])),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.float64)),
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3)),
    ],
    ids=["no sample", "unbatched", "float64 target", "float64 input"],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_probabilities_of_other_shapes(reduction: str, input: Tensor, target: Tensor) -> None:
    assert_same(lambda nn: nn.CrossEntropyLoss(reduction=reduction), input, target)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (2, 3), (1, 3, 2)], ids=str)
def test_batch_norm_of_empty_and_small_batches(shape: tuple[int, ...], training: bool) -> None:
    input = torch.arange(math.prod(shape)).view(shape).float()
    for value in (1.0, 1e20, NAN, INF):
        with_value = input.clone()
        with_value.view(-1)[:1] = value
        assert_same(lambda nn: nn.BatchNorm1d(3).train(training), with_value)


@pytest.mark.parametrize("value", [1.0, 1e-30, 1e15, NAN, INF])
def test_layer_norm_of_extreme_inputs(value: float) -> None:
    for shape in ((2, 3), (3,), (0, 3), (1, 2, 3)):
        input = torch.zeros(shape)
        input.view(-1)[:1] = value
        assert_same(lambda nn: nn.LayerNorm(3), input)
    assert_same(lambda nn: nn.LayerNorm(3), torch.ones(2, 3))


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.0, 1.0, None])
def test_batch_norm_keeps_the_statistics_of_torch(momentum: float | None, track: bool) -> None:
    options = {"momentum": momentum, "track_running_stats": track, "dtype": torch.float64}
    twin, ours = torch.nn.BatchNorm1d(3, **options), nn.BatchNorm1d(3, **options)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        input = 5 + 3 * torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
        for training in (True, False):
            expected, actual = twin.train(training)(input), ours.train(training)(input)
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        assert list(twin.state_dict()) == list(ours.state_dict())
        for name, tensor in twin.state_dict().items():
            there = ours.state_dict()[name]
            torch.testing.assert_close(there, tensor.detach(), rtol=1e-14, atol=0)


def test_implicit_softmax_dimension_warns_as_torch() -> None:
    for shape in ((), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 2)):
        for name in ("Softmax", "LogSoftmax"):
            input = torch.arange(math.prod(shape)).view(shape).float()
            with pytest.warns(UserWarning, match="Implicit dimension choice"):
                assert_same(methodcaller(name), input)


R, X = torch.rand(3, 2), torch.ones(3, 4)
ERRORS: dict[str, tuple[Make, tuple[Tensor, ...]]] = {
    "gelu": (lambda nn: nn.GELU("erf"), (R,)),
    "softmax dim": (lambda nn: nn.Softmax(2), (R,)),
    "flatten dim": (lambda nn: nn.Flatten(), (R[0],)),
    "flatten order": (lambda nn: nn.Flatten(2, 1), (torch.ones(2, 3, 4),)),
    "layer shape": (lambda nn: nn.LayerNorm(3), (R,)),
    "layer empty": (lambda nn: nn.LayerNorm(()), (R,)),
    "layer dtype": (lambda nn: nn.LayerNorm(2), (R.double(),)),
    "batch of 1": (lambda nn: nn.BatchNorm1d(2), (R[:1],)),
    "batch dims": (lambda nn: nn.BatchNorm1d(2), (R[0],)),
    "batch channels": (lambda nn: nn.BatchNorm1d(3), (R,)),
    "batch eps": (lambda nn: nn.BatchNorm1d(2, eps=0.0), (R,)),
    "batch negative eps": (lambda nn: nn.BatchNorm1d(2, eps=-1.0).eval(), (R,)),
    "reduction": (lambda nn: nn.L1Loss(reduction="avg"), (R, R)),
    "class reduction": (lambda nn: nn.NLLLoss(reduction="avg"), (X, torch.tensor([0, 1, 2]))),
    "beta": (lambda nn: nn.SmoothL1Loss(beta=-1.0), (R, R)),
    "delta": (lambda nn: nn.HuberLoss(delta=0.0), (R, R)),
    "bce shape": (lambda nn: nn.BCELoss(), (R, R[0])),
    "bce dtype": (lambda nn: nn.BCELoss(), (R, R.double())),
    "bce weight": (lambda nn: nn.BCELoss(torch.ones(3)), (R, R)),
    "bce large weight": (lambda nn: nn.BCELoss(torch.ones(4, 3, 2)), (R, R)),
    "logits shape": (lambda nn: nn.BCEWithLogitsLoss(), (R, R[0])),
    "logits long": (lambda nn: nn.BCEWithLogitsLoss(), (R, R.long())),
    "logits weight": (lambda nn: nn.BCEWithLogitsLoss(torch.ones(4, 3, 2)), (R, R)),
    "logits pos_weight": (lambda nn: nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), (R, R)),
    "probabilities long": (lambda nn: nn.CrossEntropyLoss(), (X, X.long())),
    "probabilities ignored": (lambda nn: nn.CrossEntropyLoss(ignore_index=1), (X, X)),
    "probabilities weight": (lambda nn: nn.CrossEntropyLoss(torch.ones(3)), (X, X)),
    "smoothing": (lambda nn: nn.CrossEntropyLoss(label_smoothing=1.5), (X, X)),
    "scalars": (lambda nn: nn.CrossEntropyLoss(), (X.sum(), X.sum())),
    "scalar": (lambda nn: nn.NLLLoss(), (X.sum(), torch.tensor(0))),
    "ReLU inplace word": (lambda nn: nn.ReLU(inplaced=True), (X,)),
}
for _name in ("NLLLoss", "CrossEntropyLoss"):
    for _what, _input, _target in (
        ("too large", X, torch.tensor([0, 1, 4])),
        ("negative", X, torch.tensor([0, -1, 3])),
        ("float", X, torch.tensor([0.0, 1.0, 2.0])),
        ("int32", X, torch.tensor([0, 1, 2], dtype=torch.int32)),
        ("batch", X, torch.tensor([0, 1])),
        ("column", X, torch.zeros(3, 1, dtype=torch.long)),
        ("places", torch.ones(3, 4, 2), torch.zeros(3, 3, dtype=torch.long)),
        ("no places", torch.ones(3, 4, 2), torch.zeros(3, dtype=torch.long)),
        ("places batch", torch.ones(3, 4, 2), torch.zeros(2, 2, dtype=torch.long)),
        ("unbatched two", X[0], torch.tensor([0, 1])),
    ):
        ERRORS[f"{_name} {_what}"] = (methodcaller(_name), (_input, _target))
    for _what, _weight in (("shape", torch.ones(3)), ("dtype", torch.ones(4).double())):
        ERRORS[f"{_name} weight {_what}"] = (
            methodcaller(_name, _weight),
            (X, torch.tensor([0, 1, 2])),
        )


CHANGED = {
    "batch eps": "BatchNorm1d eps",
    "batch negative eps": "BatchNorm1d eps",
    "NLLLoss unbatched two": "unbatched target",
    "CrossEntropyLoss unbatched two": "unbatched target",
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_torchs_types(name: str) -> None:
    if name in CHANGED and lacks(CHANGED[name]):
        pytest.skip(CHANGES[CHANGED[name]].what)
    make, inputs = ERRORS[name]
    with pytest.raises(Exception) as theirs:  # noqa: PT011 -- whichever it is
        make(torch.nn)(*inputs)
    with pytest.raises(theirs.type) as ours:
        make(nn)(*inputs)
    assert type(ours.value) is theirs.type


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "SiLU", "Dropout"])
def test_inplace_is_refused(name: str) -> None:
    getattr(nn, name)(inplace=False)
    with pytest.raises(NotImplementedError, match="inplace=True is not supported"):
        getattr(nn, name)(inplace=True)


@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"])
def test_targets_of_other_shapes_and_dtypes(name: str) -> None:
    others = [torch.rand(2), torch.rand(3, 1), torch.rand(4, 3, 2)]
    refused = ["L1Loss", "HuberLoss", *(["MSELoss"] if lacks("mse_loss dtypes") else [])]
    if name not in refused:  # torch cannot go back through these
        others += [torch.rand(3, 2).double(), torch.ones(3, 2) > 0]
    for target in others:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_same(lambda nn: getattr(nn, name)(), R, target)
    with pytest.warns(UserWarning, match="target size"):
        getattr(nn, name)()(R, R[0])
