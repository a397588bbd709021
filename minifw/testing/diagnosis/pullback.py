"""The right formula at the wrong numbers: another cotangent, another operand, another place.

The expected gradient is first recognized as the value of a known formula; then the formula is
tried at the numbers that are taken by mistake.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- as PyTorch's documentation names it

from minifw.testing.diagnosis.evidence import Evidence, attempt, size

__all__ = [
    "other_cotangent",
    "other_function",
    "other_operand",
    "other_place",
    "same_for_every_sample",
]

Formula = Callable[[Tensor, Tensor], Tensor]


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


# Gradients that are linear in a cotangent, of one operand.
FORMULAS: tuple[Formula, ...] = (
    lambda g, x: g * x,
    lambda g, x: _matrix(g).transpose(0, 1) @ _matrix(x),
    lambda g, x: _matrix(x).transpose(0, 1) @ _matrix(g),
    lambda g, x: g @ x.transpose(-1, -2),
    lambda g, x: x.transpose(-1, -2) @ g,
    lambda g, x: g @ x,
    lambda g, x: (g * x).sum(0),
)

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "square": torch.square,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu(approximate='tanh')": lambda x: F.gelu(x, approximate="tanh"),
    "x * sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "mish": F.mish,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "elu": F.elu,
    "selu": F.selu,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}
# Their derivatives by the output, which are often called with the input.
BY_OUTPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "exp": lambda y: y,
}


def _derivative(function: Callable[[Tensor], Tensor], place: Tensor) -> Tensor:
    with torch.enable_grad():
        place = place.clone().requires_grad_()
        return torch.autograd.grad(function(place).sum(), place)[0]


def _other_cotangents(g: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield (
        "The cotangent looks ignored: the gradient is that of a cotangent of ones.",
        torch.ones_like(g),
    )
    yield "Only the sign of the cotangent looks used.", g.sign()
    yield "The sign of the cotangent looks lost.", g.abs()
    yield "The cotangent looks multiplied in twice.", g * g
    yield "The mean of the cotangent looks used in every entry.", g.mean().expand_as(g)
    yield "The sum of the cotangent looks used in every entry.", g.sum().expand_as(g)
    if g.numel() and g.dim():
        for name, row in (("first", g[:1]), ("last", g[-1:])):
            yield f"The cotangent's {name} row looks used for every row.", row.expand_as(g)
        column = g[..., :1].expand_as(g)
        yield "The first column of the cotangent looks used in every column.", column
        for name, index in (("first", 0), ("last", -1)):
            alone = torch.zeros_like(g)
            alone[index] = g[index]
            yield f"Only the {name} row of the cotangent looks used, without the others.", alone
    if g.dim() > 1 and g.shape[-1] == g.shape[-2]:
        yield "The cotangent looks transposed.", g.mT


def other_cotangent(e: Evidence) -> str:
    """The gradient of another cotangent: ones, its sign, its first row."""
    shape = e.expected.shape
    formulas: list[tuple[Formula, Tensor]] = [
        (formula, x) for formula in FORMULAS for x in e.inputs if x.is_floating_point()
    ]
    formulas += [] if e.output is None else [(_softmax, e.output)]
    for g in e.cotangents if e.known > 1 else ():
        sums: list[tuple[Formula, Tensor]] = [
            (lambda g, _: g.sum_to_size(shape), g),
            (lambda g, _: g.transpose(1, -1).flatten(0, -2).sum(0), g),
        ]
        recognized = [
            (formula, x)
            for formula, x in sums + formulas
            if e.fits(attempt(shape, formula, g, x), e.expected)
        ]
        for words, other in _other_cotangents(g):
            if any(e.fits(attempt(shape, formula, other, x)) for formula, x in recognized):
                return words
            # Of any function by the entry, the gradient divided by the cotangent is the derivative.
            scale = max(size(g), size(other))
            if g.shape == shape and e.fits(e.actual * g, e.expected * other, per=scale):
                return words
    return ""


def same_for_every_sample(e: Evidence) -> str:
    """The same gradient in every row, where the right one is not."""
    if e.expected.dim() < 2 or min(e.expected.shape[:2]) < 2 or e.noun != "gradient":
        return ""
    for name, row in (("first", e.expected[:1]), ("last", e.expected[-1:])):
        if e.fits(row.expand_as(e.actual)):
            return f"The {name} row of PyTorch's gradient looks repeated in every row."
    if e.fits(e.expected.mean(0, keepdim=True).expand_as(e.actual)):
        return "The gradient looks averaged over the samples: every row is the mean of PyTorch's."
    if e.fits(e.expected.sum(0, keepdim=True).expand_as(e.actual)):
        return "The gradient looks summed over the samples: every row is the sum of PyTorch's."
    if e.fits(e.actual[:1].expand_as(e.actual)):
        return "The gradient is the same for every sample: the cotangent looks ignored."
    return ""


def other_operand(e: Evidence) -> str:
    """The gradient of the other operand, or made from the output in place of an input."""
    real = {e.input_name(i): x for i, x in enumerate(e.inputs) if x.is_floating_point()}
    others = dict(real)
    if e.output is not None:
        others["the output"] = e.output
    for g in e.cotangents if e.known > 1 else ():
        for formula in FORMULAS:
            for name, x in real.items():
                if not e.fits(attempt(e.expected.shape, formula, g, x), e.expected):
                    continue
                for other, y in others.items():
                    if e.fits(attempt(e.expected.shape, formula, g, y)):
                        return f"The gradient looks made from {other} where {name} belongs."
                if e.fits(attempt(e.expected.shape, formula, g, x.abs())):
                    return f"The gradient looks made from the absolute value of {name}."
                if e.fits(attempt(e.expected.shape, formula, g, torch.ones_like(x))):
                    return f"The gradient looks as if {name} were ones: is it not multiplied in?"
    return ""


def _softmax(g: Tensor, y: Tensor) -> Tensor:
    return y * (g - (g * y).sum(-1, keepdim=True))


def other_function(e: Evidence) -> str:
    """The output of another elementwise function."""
    for index, x in enumerate(e.inputs) if e.noun == "output" and e.known > 1 else ():
        if x.shape != e.expected.shape or not x.is_floating_point():
            continue
        known = [key for key, function in FUNCTIONS.items() if e.fits(function(x), e.expected)]
        right = f", where PyTorch's is that of {known[0]}" if known else ""
        for key, function in FUNCTIONS.items():
            if e.fits(function(x)):
                return f"The output looks like {key} of {e.input_name(index)}{right}."
        if e.fits(x):
            return f"The output looks like {e.input_name(index)} itself{right}."
    return ""


def other_place(e: Evidence) -> str:
    """The derivative at another place, of another function, or one formula for another."""
    for g in e.cotangents if e.known > 1 else ():
        if g.numel() != 1 and g.shape != e.expected.shape:
            continue
        y = e.output
        if y is not None and y.shape == g.shape == e.expected.shape:
            for dim in range(y.dim()):
                whole = y * (g - (g * y).sum(dim, keepdim=True))
                if e.fits(whole, e.expected) and e.fits(g * y * (1 - y)):
                    return "The off-diagonal terms of the softmax Jacobian look missing."
                if e.fits(whole, e.expected) and e.fits(g - y * g.sum(dim, keepdim=True)):
                    return "The gradient looks like log_softmax's, not softmax's."
                whole = g - y.exp() * g.sum(dim, keepdim=True)
                if e.fits(whole, e.expected) and e.fits(g - y.exp()):
                    return "The softmax looks not multiplied by the sum of the cotangent."
                if e.fits(whole, e.expected) and e.fits(g - y * g.sum(dim, keepdim=True)):
                    return "The log-softmax looks used where its exponential belongs."
        if e.fits(attempt(e.expected.shape, lambda g: g.expand(e.expected.shape), g)):
            return "The cotangent looks passed on unchanged, as by a derivative of 1 everywhere."
        for index, x in enumerate(e.inputs):
            if x.shape == e.expected.shape and x.is_floating_point():
                words = _elementwise(e, g, x, e.input_name(index))
                if words:
                    return words
    return ""


def _elementwise(e: Evidence, g: Tensor, x: Tensor, name: str) -> str:
    places = {f"the absolute value of {name}": x.abs(), f"{name} with the wrong sign": -x}
    if e.output is not None and e.output.shape == x.shape:
        places = {"the output": e.output, **places}
    if g.shape == x.shape:
        places["the cotangent"] = g
    slopes = {key: _derivative(function, x) for key, function in FUNCTIONS.items()}
    known = [key for key, slope in slopes.items() if e.fits(g * slope, e.expected)]
    for key in known:
        function = FUNCTIONS[key]
        for where, place in places.items():
            if e.fits(g * _derivative(function, place)):
                return f"The derivative of {key} looks taken at {where}, not at {name}."
        if key in BY_OUTPUT and e.fits(g * BY_OUTPUT[key](x)):
            return (
                f"The derivative of {key} looks taken at {name} by the formula that takes "
                "the output."
            )
        if e.fits(g * function(x)):
            return f"The gradient looks like {key} itself times the cotangent, not its derivative."
    if e.output is not None and e.fits(attempt(e.expected.shape, torch.mul, g, e.output)):
        return "The gradient looks like the cotangent times the output."
    for key, slope in slopes.items():
        if e.fits(g * slope):
            right = f", where PyTorch's is that of {known[0]}" if known else ""
            return f"The gradient looks like the derivative of {key}{right}."
    return ""
