"""The diagnosis: made-up mistakes and what is said of them; nothing is said of random errors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- as PyTorch's documentation names it

from minifw.testing.diagnosis import _diagnose, diagnose

Mistake = Callable[[], dict[str, Any]]
MISTAKES: list[tuple[str, str, Mistake]] = []


def says(words: str) -> Callable[[Mistake], Mistake]:
    """Add a mistake to the table: it returns what ``diagnose`` is called with."""

    def add(mistake: Mistake) -> Mistake:
        MISTAKES.append((mistake.__name__, words, mistake))
        return mistake

    return add


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100 * sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def gradient(
    function: Callable[..., Tensor], *inputs: Tensor, g: Tensor | None = None, of: int = 0
):
    """PyTorch's gradient of the function in one of its inputs, and its value."""
    leaves = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    output = function(*leaves)
    g = torch.ones_like(output) if g is None else g
    return torch.autograd.grad(output, leaves[of], g)[0], output.detach()


def of_function(function, wrong, *inputs, g=None, of=0, tensor="input.0.grad", **others):
    """A mistake: ``wrong(g, output)`` in place of the gradient of ``function``."""
    expected, output = gradient(function, *inputs, g=g, of=of)
    g = torch.ones_like(output) if g is None else g
    return {
        "tensor": tensor,
        "actual": wrong(expected, g, output),
        "expected": expected,
        "inputs": inputs,
        "cotangents": [g],
        "output": output,
        **others,
    }


X, G = randn(6, 5), randn(6, 5, seed=1)
LINEAR_X, LINEAR_W, LINEAR_G = randn(4, 5), randn(3, 5), randn(4, 3, seed=1)
TARGET = torch.tensor([0, 2, 1, 0, 2, 1])
SCALAR = torch.tensor(1.7, dtype=torch.float64)


def scaled(factor: float, shape=(4, 6)) -> dict[str, Any]:
    """A weight's gradient, times a number."""
    e = randn(3, shape[-1])
    return {"tensor": "weight.grad", "actual": factor * e, "expected": e, "inputs": [randn(*shape)]}


for factor, words in (
    (-1, "sign looks wrong"),
    (2, "2 times PyTorch's; is it added twice"),
    (0.5, "1/2 of PyTorch's; is a factor of 2 missing"),
    (4, "4 times PyTorch's; the batch has 4 samples: is the mean missing?"),
    (0.25, "1/4 of PyTorch's; the batch has 4 samples: is it divided"),
    (6, "the input has 6 features"),
    (24, "the input has 24 entries"),
    (-4, "is the sign wrong; or the batch has 4 samples"),
    (8, "the batch has 4 samples: is the mean missing, and a factor of 2 wrong"),
    (4 / 3, "a variance divided by one less than their number"),
    (1 / math.sqrt(6), "their square root once too often"),
    (math.log(2), "logarithm to base 2"),
    (1.37, "looks like 1.37 times PyTorch's, in every entry"),
):
    MISTAKES.append((f"factor_{factor:.3g}", words, partial(scaled, factor)))


@says("the batch has 4 samples and the input has 4 features")
def ambiguous_factor():
    return scaled(4, (4, 4))


@says("Each row of the gradient looks like PyTorch's times a number of its own")
def factor_per_row():
    e = randn(4, 6)
    return {"tensor": "weight.grad", "actual": e * randn(4, 1, seed=3), "expected": e}


@says("Each channel of the gradient")
def factor_per_channel():
    e = randn(2, 3, 4, 4)
    return {"tensor": "x.grad", "actual": e * (randn(1, 3, 1, 1) + 2), "expected": e}


@says("looks like PyTorch's transposed")
def transposed():
    e = randn(5, 5)
    return {"tensor": "weight.grad", "actual": e.mT, "expected": e}


@says("permuted to dimensions (0, 2, 1)")
def permuted():
    e = randn(2, 4, 4)
    return {"tensor": "input.0.grad", "actual": e.permute(0, 2, 1), "expected": e}


@says("reversed along dimension 2 and 3")
def flipped_kernel():
    e = randn(3, 2, 3, 3)
    return {"tensor": "weight.grad", "actual": e.flip(2, 3), "expected": e}


@says("shifted by one along dimension 1")
def shifted():
    x = randn(4, 7)
    right = lambda x: x.cumsum(1) * G[:4, :1]  # noqa: E731
    return of_function(right, lambda e, g, y: F.pad(e, (0, 1))[:, 1:], x, g=randn(4, 7, seed=5))


@says("each row in another's place")
def rows_swapped():
    e = randn(5, 3)
    return {"tensor": "weight.grad", "actual": e[[2, 0, 1, 4, 3]], "expected": e}


@says("entries, in other places: is a reshape wrong?")
def reshaped():
    e = randn(4, 6)
    return {"tensor": "weight.grad", "actual": e.mT.reshape(4, 6), "expected": e}


@says("The gradient looks transposed: its shape is [5, 3], not [3, 5]")
def transposed_shape():
    e = randn(3, 5)
    return {"tensor": "weight.grad", "actual": e.mT, "expected": e}


@says("looks not summed over the dimensions that were broadcast: its shape is [4, 3]")
def not_summed():
    return {"tensor": "bias.grad", "actual": LINEAR_G, "expected": LINEAR_G.sum(0)}


@says("gradient is that of a cotangent of ones")
def cotangent_ignored_elementwise():
    return of_function(torch.tanh, lambda e, g, y: 1 - y * y, X, g=G)


@says("gradient is that of a cotangent of ones")
def cotangent_ignored_by_unknown_function():
    odd = lambda x: x**3 * (2 * x).cos()  # noqa: E731
    return of_function(odd, lambda e, g, y: gradient(odd, X)[0], X, g=G)


@says("gradient is that of a cotangent of ones")
def cotangent_ignored_by_linear_weight():
    return of_function(
        lambda w: LINEAR_X @ w.mT, lambda e, g, y: torch.ones_like(g).mT @ LINEAR_X, LINEAR_W,
        g=LINEAR_G, tensor="weight.grad", inputs=[LINEAR_X],
    )  # fmt: skip


@says("The cotangent, 1.7, looks ignored")
def cotangent_ignored_by_loss():
    t = randn(6, 5, seed=2)
    return of_function(F.mse_loss, lambda e, g, y: 2 * (X - t) / X.numel(), X, t, g=SCALAR)


@says("Only the sign of the cotangent")
def cotangent_sign():
    return of_function(torch.sin, lambda e, g, y: g.sign() * X.cos(), X, g=G)


@says("The sign of the cotangent looks lost")
def cotangent_absolute():
    return of_function(torch.exp, lambda e, g, y: g.abs() * y, X, g=G)


@says("The cotangent's first row looks used for every row")
def cotangent_first_row():
    return of_function(torch.sin, lambda e, g, y: g[:1] * X.cos(), X, g=G)


@says("Only the first row of the cotangent looks used")
def bias_of_first_row():
    return of_function(
        lambda b: LINEAR_X @ LINEAR_W.mT + b, lambda e, g, y: g[0], randn(3), g=LINEAR_G,
        tensor="bias.grad", inputs=[LINEAR_X],
    )  # fmt: skip


@says("The first row of PyTorch's gradient looks repeated in every row")
def first_row_for_every_sample():
    return of_function(
        lambda x: x @ LINEAR_W.mT, lambda e, g, y: g[:1].expand_as(g) @ LINEAR_W, LINEAR_X,
        g=LINEAR_G,
    )  # fmt: skip


@says("The gradient is the same for every sample: the cotangent looks ignored")
def ones_through_a_linear_layer():
    return of_function(
        lambda x: x @ LINEAR_W.mT, lambda e, g, y: torch.ones_like(g) @ LINEAR_W, LINEAR_X,
        g=LINEAR_G,
    )  # fmt: skip


@says("made from input 0 where input 1 belongs")
def wrong_operand_of_product():
    return of_function(torch.mul, lambda e, g, y: g * X, X, randn(6, 5, seed=4), g=G)


@says("made from input 1 where input 0 belongs")
def wrong_operand_of_matmul():
    a, b, g = randn(4, 4), randn(4, 4, seed=1), randn(4, 4, seed=2)
    return of_function(torch.matmul, lambda e, g, y: b.mT @ g, a, b, g=g, of=1)


@says("The gradient is zero everywhere")
def zeros():
    return of_function(torch.sin, lambda e, g, y: torch.zeros_like(e), X, g=G)


@says("The derivative of tanh looks taken at the output")
def tanh_of_tanh():
    return of_function(torch.tanh, lambda e, g, y: g * (1 - y.tanh() ** 2), X, g=G)


@says("The derivative of sigmoid looks taken at the input by the formula that takes the output")
def sigmoid_by_the_input():
    return of_function(torch.sigmoid, lambda e, g, y: g * X * (1 - X), X, g=G)


@says("The derivative of silu looks taken at the absolute value of the input")
def silu_at_absolute():
    return of_function(F.silu, lambda e, g, y: g * gradient(F.silu, X.abs())[0], X, g=G)


@says("The derivative of softplus looks taken at the cotangent")
def softplus_at_cotangent():
    return of_function(F.softplus, lambda e, g, y: g * g.sigmoid(), X, g=G)


@says("The gradient looks like sigmoid itself times the cotangent")
def not_derived():
    return of_function(torch.sigmoid, lambda e, g, y: g * y, X, g=G)


@says("derivative of gelu, where PyTorch's is that of gelu(approximate='tanh')")
def other_gelu():
    right = lambda x: F.gelu(x, approximate="tanh")  # noqa: E731
    return of_function(right, lambda e, g, y: g * gradient(F.gelu, X)[0], X, g=G)


@says("passed on unchanged, as by a derivative of 1 everywhere")
def identity():
    return of_function(F.relu, lambda e, g, y: g, X, g=G)


@says("off-diagonal terms of the softmax Jacobian look missing")
def softmax_by_its_diagonal():
    softmax = lambda x: x.softmax(-1)  # noqa: E731
    return of_function(softmax, lambda e, g, y: g * y * (1 - y), X, g=G)


@says("The softmax looks not multiplied by the sum of the cotangent")
def log_softmax_without_sum():
    return of_function(lambda x: x.log_softmax(-1), lambda e, g, y: g - y.exp(), X, g=G)


@says("The output looks like relu of the input, where PyTorch's is that of gelu")
def other_function():
    return {"tensor": "output", "actual": F.relu(X), "expected": F.gelu(X), "inputs": [X]}


@says("Wrong only where the input is negative, where the gradient is 0 and should not be")
def wrong_where_negative():
    prelu = lambda x: F.leaky_relu(x, 0.17) + x**3  # noqa: E731
    return of_function(prelu, lambda e, g, y: e * (X > 0), X, g=G)


@says("Wrong only where the input is positive, where the gradient is -1 times PyTorch's")
def wrong_where_positive():
    return of_function(lambda x: x**4, lambda e, g, y: torch.where(X > 0, -e, e), X, g=G)


@says("Wrong only where the input is above about 1")
def wrong_above_threshold():
    x = randn(12, 12)
    wrong = lambda e, g, y: torch.where(x > 1, e + x.sin(), e)  # noqa: E731
    return of_function(lambda x: x**4, wrong, x, g=randn(12, 12, seed=1))


@says("Wrong only where the absolute value of the input is above about 2")
def wrong_beyond_two():
    x = randn(12, 12)
    wrong = lambda e, g, y: torch.where(x.abs() > 2, 0.3 * e, e)  # noqa: E731
    return of_function(lambda x: x**4, wrong, x, g=randn(12, 12, seed=1))


@says("Wrong only where the input is 0")
def wrong_at_zero():
    x = X.clone()
    x[2, 3] = 0
    return of_function(F.relu, lambda e, g, y: torch.where(x == 0, g, e), x, g=G)


@says("Wrong only where the input is 1")
def wrong_at_one():
    x = X.clone()
    x[1, 1] = x[4, 2] = 1
    return of_function(F.hardtanh, lambda e, g, y: torch.where(x == 1, 0.5 * g, e), x, g=G)


@says("Wrong only where input 0 equals input 1")
def ties():
    a, b = X.clone(), randn(6, 5, seed=2)
    a[1, 1], a[3, 2] = b[1, 1], b[3, 2]
    return of_function(torch.maximum, lambda e, g, y: g * (a >= b), a, b, g=G)


@says("Wrong only where two entries of the input are equal")
def equal_entries():
    x = X.clone()
    x[0, 0] = x[5, 4] = 0.37
    x[1, 0] = x[2, 4] = -0.12
    twice = torch.isin(x, torch.tensor([0.37, -0.12], dtype=torch.float64))
    return of_function(torch.sin, lambda e, g, y: torch.where(twice, e + 1, e), x, g=G)


@says("Wrong only where the cotangent is negative, where the gradient is 0 and should not be")
def cotangent_clamped():
    cube = lambda x: x**3 * (2 * x).cos()  # noqa: E731
    return of_function(cube, lambda e, g, y: e * (g > 0), X, g=G)


@says("Wrong only where input 1 is 0")
def wrong_for_one_class():
    x = randn(6, 3)
    wrong = lambda e, g, y: torch.where(TARGET[:, None] == 0, 0.3 * e + 1, e)  # noqa: E731
    return of_function(F.cross_entropy, wrong, x, TARGET, g=SCALAR)


@says("Wrong only where the column is the class that input 1 names")
def wrong_at_the_class():
    x = randn(6, 3)
    wrong = lambda e, g, y: e + 0.3 * x * F.one_hot(TARGET, 3)  # noqa: E731
    return of_function(F.cross_entropy, wrong, x, TARGET, g=SCALAR)


def in_part(index, shape=(9, 70), factor=None) -> dict[str, Any]:
    e = randn(*shape)
    a = e.clone()
    a[index] = e[index] * factor if factor is not None else randn(*e[index].shape, seed=8)
    return {"tensor": "input.0.grad", "actual": a, "expected": e, "inputs": [randn(*shape, seed=3)]}


in_parts: tuple[tuple[Any, ...], ...] = (
    ("last_columns", "in the last 6 columns, from column 64 of 70 on, where the gradient is 0",
     (slice(None), slice(64, None)), (9, 70), 0),
    ("last_row", "in the last row, from row 8 of 9 on", (8,), (9, 70), None),
    ("first_columns", "in the first 2 columns of 70", (slice(None), slice(2)), (9, 70), None),
    ("one_column", "in column 5 of 70, where the gradient is 3 times", (slice(None), 5), (9, 70),
     3),
    ("some_rows", "in rows 2 to 4 of 9", (slice(2, 5),), (9, 70), None),
    ("every_other", "in every second column, from column 1 on", (slice(None), slice(1, None, 2)),
     (9, 70), None),
    ("one_channel", "in channel 1 of 3", (slice(None), 1), (2, 3, 4, 5), None),
    ("one_entry", "in entry (3, 2) of shape [9, 70]", (3, 2), (9, 70), None),
    ("diagonal", "on the diagonal, where the gradient is 0", (range(6), range(6)), (6, 6), 0),
)  # fmt: skip
for name, words, index, shape, factor in in_parts:
    mistake = lambda index=index, shape=shape, factor=factor: in_part(index, shape, factor)  # noqa: E731
    MISTAKES.append((name, words, mistake))


@says("from entry 600 of 630 on, counted row by row")
def tail_of_memory():
    e = randn(9, 70)
    a = e.clone()
    a.view(-1)[600:] = 0
    return {"tensor": "input.0.grad", "actual": a, "expected": e}


@says("Wrong only in entries (0, 1), (1, 5), (4, 3) of shape [6, 6]")
def scattered():
    e = randn(6, 6)
    a = e.clone()
    a[[0, 1, 4], [1, 5, 3]] += randn(3)
    return {"tensor": "input.0.grad", "actual": a, "expected": e}


@says("does not account for the mean depending on the input")
def layer_norm_mean():
    norm = lambda x: F.layer_norm(x, (8,))  # noqa: E731
    x = randn(4, 8)
    mean = randn(4, 8, seed=2)

    def wrong(e, g, y):
        rstd = (x.var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
        return rstd * (g - y * (g * y).mean(-1, keepdim=True))

    return of_function(norm, wrong, x, g=mean)


@says("did not account for the variance over dimension 0 depending on the input")
def batch_norm_variance():
    x = randn(8, 3)

    def wrong(e, g, y):
        return (x.var(0, correction=0) + 1e-5).rsqrt() * (g - g.mean(0))

    return of_function(
        lambda x: F.batch_norm(x, None, None, training=True), wrong, x, g=randn(8, 3, seed=2)
    )


@says("the mean and variance over dimension 0 and 2 and 3 both depending on the input")
def batch_norm_of_images():
    x = randn(4, 3, 2, 2)
    variance = x.var((0, 2, 3), keepdim=True, correction=0)
    return of_function(
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda e, g, y: g * (variance + 1e-5).rsqrt(), x, g=randn(4, 3, 2, 2, seed=2),
    )  # fmt: skip


@says("without the cotangent")
def residual_missing():
    return of_function(lambda x: x + (x @ randn(5, 5)).tanh(), lambda e, g, y: e - g, X, g=G)


@says("with 1/10 of the input added")
def weight_decay():
    return of_function(lambda x: (x @ randn(5, 5)).tanh(), lambda e, g, y: e + 0.1 * X, X, g=G)


@says("with 0.3 added to every entry")
def constant_added():
    return {"tensor": "output", "actual": X + 0.3, "expected": X}


@says("index is given more than once: the gradient looks assigned where it should be added")
def embedding_assigned():
    index, g = torch.tensor([1, 4, 1, 0, 1]), randn(5, 3)

    def wrong(e, g, y):
        a = torch.zeros_like(e)
        a[index] = g
        return a

    return of_function(
        lambda w: F.embedding(index, w), wrong, randn(6, 3), g=g, tensor="weight.grad",
        inputs=[index],
    )  # fmt: skip


@says("one cotangent where PyTorch's is a sum of several")
def max_pool_assigned():
    x = randn(1, 12)

    def wrong(e, g, y):
        a = torch.zeros_like(e)
        for n in range(y.shape[1]):
            a[0, n + int(x[0, n : n + 3].argmax())] = g[0, n]
        return a

    return of_function(lambda x: F.max_pool1d(x, 3, 1), wrong, x, g=randn(1, 10))


@says("averaged over every pair of a prediction and a target: is (N, 1) minus (N,) N x N?")
def broadcast_target():
    p, t = randn(6, 1), randn(6, 1, seed=1)
    wrong = lambda e, g, y: gradient(lambda p: ((p - t[:, 0]) ** 2).mean(), p)[0]  # noqa: E731
    return of_function(F.mse_loss, wrong, p, t)


@says("like that of the probability, not of the logit")
def cross_entropy_of_probability():
    x = randn(6, 3)
    wrong = lambda e, g, y: -F.one_hot(TARGET, 3) / x.softmax(1) / 6  # noqa: E731
    return of_function(F.cross_entropy, wrong, x, TARGET)


@says("like that of the probability, not of the logit")
def binary_of_probability():
    x, t = randn(6, 1), (randn(6, 1, seed=1) > 0).double()

    def wrong(e, g, y):
        p = x.sigmoid()
        return (p - t) / (p * (1 - p)) / 6

    return of_function(F.binary_cross_entropy_with_logits, wrong, x, t)


@says("like the one-hot target left out")
def target_left_out():
    x = randn(6, 3)
    return of_function(F.cross_entropy, lambda e, g, y: x.softmax(1) / 6, x, TARGET)


@says("like that of the absolute error, not of the squared one")
def absolute_error():
    t = randn(6, 5, seed=2)
    return of_function(F.mse_loss, lambda e, g, y: (X - t).sign() / X.numel(), X, t)


@says("an epsilon of about 3e-8")
def epsilon():
    return {"tensor": "output", "actual": X * (1 + 3e-8), "expected": X, "bound": 1e-12}


@says("off in one direction, by at most 5e-06 of its largest entry: looks like a small constant")
def epsilon_beside_a_variance():
    variance = X.square() + 0.1
    a, e = (variance + 1e-6).rsqrt(), variance.rsqrt()
    return {"tensor": "output", "actual": a, "expected": e, "bound": 1e-12}


@says("The output is off in one direction")
def epsilon_seen_in_large_entries_alone():
    variance = X.square() + 0.1
    a, e = (variance + 1e-6).rsqrt(), variance.rsqrt()
    return {"tensor": "output", "actual": a, "expected": e, "bound": 2e-7}


@says("looks computed in float32 inside")
def float32_inside():
    return of_function(torch.tanh, lambda e, g, y: e.float().double(), X, g=G, bound=1e-12)


@says("looks computed in float32 inside")
def partly_float32():
    slope = (1 - X.float().tanh() ** 2).double()
    return of_function(torch.tanh, lambda e, g, y: g * slope, X, g=G, bound=1e-12)


@says("looks computed in bfloat16 inside")
def bfloat16_inside():
    e = randn(8, 8).float()
    return {"tensor": "output", "actual": e.bfloat16().float(), "expected": e, "bound": 1e-6}


@says("The gradient is NaN and should not be wherever the input is 0")
def nan_at_zero():
    x = X.clone()
    x[0, 0] = x[3, 3] = 0
    return of_function(torch.sinc, lambda e, g, y: torch.where(x == 0, math.nan, e), x, g=G)


@says("The gradient is NaN and should not be in row 2 of 6")
def nan_in_a_row():
    e = X.clone()
    e[2] = math.nan
    return {"tensor": "input.0.grad", "actual": e, "expected": X}


@says("The backward pass is not the derivative of the forward pass, whose differences agree")
def wrong_backward():
    noise = 1e-7 * randn(6, 5, seed=7)
    return of_function(
        torch.tanh, lambda e, g, y: randn(6, 5, seed=9), X, g=G,
        own_difference=gradient(torch.tanh, X, g=G)[0] + noise,
    )  # fmt: skip


@says("the forward pass computes another function.")
def wrong_forward():
    own = gradient(torch.sin, X, g=G)[0]
    return of_function(
        torch.tanh, lambda e, g, y: own, X, g=G, own_difference=own + 1e-7 * randn(6, 5, seed=7)
    )


@says("computes another function too")
def wrong_both():
    own = gradient(torch.sin, X, g=G)[0]
    return of_function(torch.tanh, lambda e, g, y: g * X.exp(), X, g=G, own_difference=own)


@pytest.mark.parametrize(
    ("words", "mistake"), [pytest.param(*row[1:], id=row[0]) for row in MISTAKES]
)
def test_names_the_mistake(words: str, mistake: Mistake) -> None:
    assert words in diagnose(**mistake())


@pytest.mark.parametrize(
    ("words", "mistake"), [pytest.param(*row[1:], id=row[0]) for row in MISTAKES]
)
def test_says_the_same_of_strided_tensors(words: str, mistake: Mistake) -> None:
    given = mistake()
    for name in ("actual", "expected"):
        given[name] = torch.stack([given[name]] * 2, -1)[..., 0]
    given["inputs"] = [x.mT.contiguous().mT if x.dim() > 1 else x for x in given.get("inputs", ())]
    assert words in diagnose(**given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(210))
def test_says_nothing_of_random_errors(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    shapes = [(1,), (2,), (5,), (1, 1), (3, 4), (4, 4), (2, 1), (2, 3, 4), (2, 2, 3, 3), (3, 3, 1)]
    shape = shapes[seed % len(shapes)]
    x, g, e = draw(*shape), draw(*shape), draw(*shape)
    # Errors of every size, in all entries or, of every third, in about half of them.
    error = draw(*shape) * 10.0 ** (seed % 3 - 1)
    scattered = seed % 3 == 2
    if scattered:
        error = error * (draw(*shape) > 0)
    said = diagnose(
        "input.0.grad", e + error, e, inputs=[x, draw(*shape)], cotangents=[g], output=draw(*shape)
    )
    assert not said or (scattered and said.startswith("Wrong only in ")), said


def test_says_nothing_of_what_is_right() -> None:
    noise = 1e-13 * randn(6, 5, seed=3)
    assert "" == diagnose("x.grad", X + noise, X, inputs=[X], cotangents=[G], bound=1e-12)
    assert "" == diagnose("x.grad", X, X, inputs=[X], cotangents=[G])


def test_a_single_entry_fits_no_unnamed_factor() -> None:
    one = torch.tensor([1.0])
    assert "" == diagnose("weight.grad", 1.37 * one, one)


def odd_tensors() -> list[Tensor]:
    full = torch.full((2, 3), math.nan)
    return [
        torch.empty(0), torch.empty(0, 3), torch.tensor(2.0), torch.tensor(3), full,
        torch.full((2, 3), math.inf), torch.zeros(2, 3), torch.ones(2, 3), torch.randn(2, 3),
        torch.tensor([[0, 1, 5], [2, 2, 9]]), torch.tensor([True, False]), torch.randn(3).half(),
        torch.randn(2, 3, dtype=torch.complex64), torch.randn(2, 1, 3).bfloat16(),
        torch.randn(3, 2).mT, torch.randn(3).expand(2, 3), torch.tensor([-1, 2**40]),
        torch.randn(2, 3).to_sparse(), torch.randn(2, 3, requires_grad=True), torch.ones(1),
        torch.full((2, 3), 1e300, dtype=torch.float64), torch.randn(1, 1, 1, 1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("index", range(len(odd_tensors())))
def test_raises_nothing(index: int) -> None:
    actual, others = odd_tensors()[index], odd_tensors()
    for expected in others:
        for other in others[index % 3 :: 3]:
            for name in ("input.0.grad", "output"):
                said = _diagnose(
                    name, actual, expected, [other, expected], [other], other, 0.0, other
                )
                assert isinstance(said, str)
    assert isinstance(diagnose("output", None, None), str)
