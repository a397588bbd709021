"""What a wrong optimizer looks like: the update rules with the mistakes that people make.

A rule is computed in float64 on all entries at once, from gradients that were given; a variant of
it is a rule with some of its :class:`Settings` changed. The variant that agrees with a subject
names its mistake.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settings", "trajectory", "variants"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """A rule: PyTorch's options and, below them, what is done otherwise."""

    rule: str = "SGD"
    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    amsgrad: bool = False
    centered: bool = False
    initial_accumulator_value: float = 0.0
    # coupled: added to the gradient. decoupled: w -= lr * decay * w. bare: w -= decay * w.
    decay: str = "coupled"
    correction: str = "both"  # of Adam: both, none, first, second
    power: str = "t"  # of the bias correction: t, t + 1, t - 1, 1, per parameter
    eps_in: str = "outside"  # outside the square root, inside, before the bias correction
    accumulates: str = "yes"  # yes; average: (1 - beta) g; no; sum: without (1 - beta)
    root: bool = True  # the square root of the second moment
    squares: str = "squared"  # what the second moment is made of: squared, absolute
    first: str = "gradient"  # momentum's buffer at the start: gradient, twice, zero
    sign: float = 1.0
    rate: float = 1.0  # factor of the rate


def trajectory(
    settings: Settings, weights: Sequence[Array], gradients: Sequence[Sequence[Array]]
) -> list[list[Array]]:
    """The weights after every step.

    Args:
        settings: the rule.
        weights: the first, one array a parameter.
        gradients: a list a step, of one array a parameter.
    """
    ends = np.cumsum([w.size for w in weights])[:-1]
    w = np.concatenate([w.ravel() for w in weights])
    owner = np.repeat(np.arange(len(weights)), [w.size for w in weights])
    state: dict[str, Array] = {}
    result = []
    for index, grads in enumerate(gradients):
        g = np.concatenate([np.asarray(grad).ravel() for grad in grads])
        t = np.full(w.shape, index + 1.0)
        if settings.power == "per parameter":
            t = index * len(weights) + owner + 1.0
        w = _update(settings, w, g, t, state)
        parts = np.split(w, ends)
        result.append([p.reshape(old.shape) for p, old in zip(parts, weights, strict=True)])
    return result


def _update(s: Settings, w: Array, g: Array, t: Array, state: dict[str, Array]) -> Array:
    lr = s.lr * s.rate * s.sign
    g = -g if s.maximize else g
    if s.weight_decay:
        if s.decay == "coupled":
            g = g + s.weight_decay * w
        else:
            w = w - (s.lr if s.decay == "decoupled" else 1.0) * s.weight_decay * w
    with np.errstate(all="ignore"):
        return w - lr * _RULES[s.rule](s, g, t, state)


def _sgd(s: Settings, g: Array, t: Array, state: dict[str, Array]) -> Array:
    if not s.momentum:
        return g
    old = state.get("buffer")
    if old is None:
        buffer = {"gradient": g, "twice": s.momentum * g + g, "zero": (1 - s.dampening) * g}[
            s.first
        ]
    elif s.accumulates == "no":
        buffer = g
    else:
        buffer = s.momentum * old + (1 - s.dampening) * g
    if s.accumulates == "average":
        buffer = s.momentum * (g * 0 if old is None else old) + (1 - s.momentum) * g
    state["buffer"] = buffer
    return g + s.momentum * buffer if s.nesterov else buffer


def _adam(s: Settings, g: Array, t: Array, state: dict[str, Array]) -> Array:
    b1, b2 = s.betas
    square = g * g if s.squares == "squared" else abs(g)
    m, v = state.get("m", g * 0), state.get("v", g * 0)
    own1, own2 = (1.0, 1.0) if s.accumulates == "sum" else (1 - b1, 1 - b2)
    if s.accumulates == "no":
        m, v = m * 0, v * 0
    state["m"], state["v"] = m, v = b1 * m + own1 * g, b2 * v + own2 * square
    if s.amsgrad:
        state["max"] = v = np.maximum(state.get("max", v), v)
    power = {"t": t, "per parameter": t, "t + 1": t + 1, "t - 1": t - 1, "1": t * 0 + 1}[s.power]
    first = 1 - b1**power if s.correction in ("both", "first") else 1.0
    second = 1 - b2**power if s.correction in ("both", "second") else 1.0
    if s.eps_in == "before the bias correction":
        return m / first / ((np.sqrt(v) + s.eps) / np.sqrt(second))
    return m / first / _denominator(s, v / second)


def _adagrad(s: Settings, g: Array, t: Array, state: dict[str, Array]) -> Array:
    old = state.get("sum", g * 0 + s.initial_accumulator_value)
    square = g * g if s.squares == "squared" else abs(g)
    state["sum"] = square if s.accumulates == "no" else old + square
    return g / _denominator(s, state["sum"])


def _rmsprop(s: Settings, g: Array, t: Array, state: dict[str, Array]) -> Array:
    square = g * g if s.squares == "squared" else abs(g)
    old = state.get("v", g * 0)
    own = 1.0 if s.accumulates == "sum" else 1 - s.alpha
    state["v"] = v = own * square if s.accumulates == "no" else s.alpha * old + own * square
    if s.centered:
        state["m"] = m = s.alpha * state.get("m", g * 0) + (1 - s.alpha) * g
        v = v - m * m
    step = g / _denominator(s, v)
    if not s.momentum:
        return step
    state["buffer"] = s.momentum * state.get("buffer", g * 0) + step
    return state["buffer"]


def _denominator(s: Settings, v: Array) -> Array:
    if not s.root:
        return v + s.eps
    return np.sqrt(v + s.eps) if s.eps_in == "inside" else np.sqrt(v) + s.eps


_RULES: dict[str, Callable[[Settings, Array, Array, dict[str, Array]], Array]] = {
    "SGD": _sgd, "Adam": _adam, "Adagrad": _adagrad, "RMSprop": _rmsprop,
}  # fmt: skip

_AVERAGE = (
    "the gradient is weighted by 1 - momentum, which PyTorch does with dampening=momentum and, "
    "unlike here, never in the first step"
)
# By rule, what people change: each group holds alternatives.
_GENERAL: tuple[tuple[tuple[str, dict[str, Any]], ...], ...] = (
    (
        ("the sign is wrong: the weights go up the gradient", {"sign": -1.0}),
        ("the learning rate is applied twice", {"rate": "lr"}),
        ("the learning rate is ignored (it is 1)", {"rate": "1/lr"}),
        ("the learning rate is twice PyTorch's", {"rate": 2.0}),
        ("the learning rate is half PyTorch's", {"rate": 0.5}),
    ),
    (
        ("weight decay is ignored", {"weight_decay": 0.0}),
        ("weight decay is decoupled (w -= lr * decay * w) where PyTorch's is coupled",
         {"decay": "decoupled"}),
        ("weight decay is coupled (added to the gradient) where PyTorch's is decoupled",
         {"decay": "coupled"}),
        ("weight decay lacks the learning rate (w -= decay * w)", {"decay": "bare"}),
        ("weight decay has a factor of 2", {"weight_decay": "double"}),
        ("weight decay has the wrong sign", {"weight_decay": "negative"}),
    ),
    (("maximize is ignored", {"maximize": False}),),
)  # fmt: skip
_INSIDE = ("eps is inside the square root where PyTorch's is outside", {"eps_in": "inside"})
_EPS = tuple(
    (f"eps is {value:g}", {"eps": value})
    for value in (1e-8, 1e-7, 1e-10, 1e-6, 1e-5, 1e-4, 1e-3, 1e-12, 1e-15, 0.0)
)
_SECOND = (
    ("the square root of the second moment is missing", {"root": False}),
    ("the second moment is made of |g|, not of g squared", {"squares": "absolute"}),
)
_OWN: dict[str, tuple[tuple[tuple[str, dict[str, Any]], ...], ...]] = {
    "SGD": (
        (
            ("momentum is ignored, or its buffer never accumulates", {"momentum": 0.0}),
            (_AVERAGE, {"accumulates": "average"}),
            ("momentum's buffer starts with the gradient and then adds it a second time",
             {"first": "twice"}),
            ("dampening is ignored", {"dampening": 0.0}),
            ("dampening is applied in the first step too, in which PyTorch's buffer is the "
             "gradient itself", {"first": "zero"}),
        ),
        (
            ("nesterov is ignored", {"nesterov": False}),
            ("it is Nesterov's momentum where PyTorch's is the plain one", {"nesterov": True}),
        ),
    ),
    "Adam": (
        (
            ("Adam's bias correction lacks the power t: 1 - beta where 1 - beta**t belongs",
             {"power": "1"}),
            ("Adam's bias correction starts at t = 2", {"power": "t + 1"}),
            ("Adam's bias correction starts at t = 0", {"power": "t - 1"}),
            ("t advances once a parameter, not once a step", {"power": "per parameter"}),
            ("Adam's bias correction is missing", {"correction": "none"}),
            ("Adam's second moment is not corrected for its bias", {"correction": "first"}),
            ("Adam's first moment is not corrected for its bias", {"correction": "second"}),
        ),
        _EPS,
        (_INSIDE, ("eps is added before the bias correction of the second moment",
                   {"eps_in": "before the bias correction"})),
        (*_SECOND, ("the moments never accumulate", {"accumulates": "no"}),
         ("1 - beta is missing in the moments", {"accumulates": "sum"}),
         ("beta1 and beta2 are swapped", {"betas": "swapped"}),
         ("amsgrad is ignored", {"amsgrad": False})),
    ),
    "Adagrad": (
        (("the sum of squares never accumulates", {"accumulates": "no"}), *_SECOND),
        _EPS,
        (_INSIDE,),
    ),
    "RMSprop": (
        (("the average of squares never accumulates", {"accumulates": "no"}), *_SECOND,
         ("1 - alpha is missing", {"accumulates": "sum"}),
         ("alpha and 1 - alpha are swapped", {"alpha": "swapped"}),
         *((f"alpha is {value:g}", {"alpha": value}) for value in (0.9, 0.95, 0.99, 0.999))),
        _EPS,
        (_INSIDE,),
        (("momentum is ignored", {"momentum": 0.0}), ("centered is ignored", {"centered": False})),
    ),
}  # fmt: skip


def variants(
    reference: str, options: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Settings]]:
    """Mistaken rules, those with one mistake first, then those with two.

    Args:
        reference: name of the class in torch.optim; others than SGD, Adam, AdamW, Adagrad and
            RMSprop have none.
        options: all of its options.
    """
    rule = {"AdamW": "Adam"}.get(reference, reference)
    if rule not in _OWN:
        return
    known = {f: options[f] for f in Settings.__dataclass_fields__ if f in options}
    decoupled = reference == "AdamW" or options.get("decoupled_weight_decay")
    right = Settings(rule=rule, decay="decoupled" if decoupled else "coupled", **known)
    groups = (*_OWN[rule], *_GENERAL)
    single = [[(words, change) for words, change in group] for group in groups]
    seen = [right]
    for size in (1, 2):
        for chosen in itertools.combinations(single, size):
            for mistakes in itertools.product(*chosen):
                changed = right
                for _, change in mistakes:
                    changed = _change(changed, right, change)
                each_counts = all(_change(right, right, c) != right for _, c in mistakes)
                if each_counts and changed not in seen:
                    seen.append(changed)
                    yield tuple(words for words, _ in mistakes), changed


def _change(settings: Settings, right: Settings, change: Mapping[str, Any]) -> Settings:
    computed = {
        "lr": right.lr,
        "1/lr": 1 / right.lr if right.lr else 1.0,
        "double": 2 * right.weight_decay,
        "negative": -right.weight_decay,
    }
    values: dict[str, Any] = {
        name: computed.get(value, value) if isinstance(value, str) else value
        for name, value in change.items()
    }
    if values.get("betas") == "swapped":
        values["betas"] = right.betas[::-1]
    if values.get("alpha") == "swapped":
        values["alpha"] = 1 - right.alpha
    return replace(settings, **values)
