"""Optimizers as people write them, behind one surface: gradients in, weights out.

Recognized, by trying one step:

- ``Opt(parameters, lr=...)`` with ``step()``, on parameters with ``.data`` and ``.grad`` (torch's,
  minifw's or others), on pairs ``(value, gradient)``, on a list of lists of pairs, or on a model
  with a method ``param``, ``params``, ``parameters`` or ``params_and_grads`` that returns them;
- ``Opt(lr=...)`` with ``step(model)``, ``update(params, grads)`` on lists or dicts, or
  ``update(w, grad) -> w`` with one optimizer a parameter;
- functions ``f(w, dw, config) -> w, config`` and ``f(params, grads, lr=...)``, in place or not.

Arrays are torch's or NumPy's.
"""

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import minifw
from minifw.testing.check import first_line
from minifw.testing.optimizer_options import RATES, renamed, settings
from minifw.testing.subjects import UsageError

__all__ = ["Factory", "Updater", "find"]


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().clone().numpy()


def _tensor(tensor: Tensor) -> Any:
    return tensor.detach().clone()


def _read(value: Any) -> Tensor:
    """A copy of an array as a tensor."""
    return torch.as_tensor(value).detach().clone()


class Parameter:
    """A parameter as frameworks of one's own have it: ``data`` or ``value``, and ``grad``."""

    requires_grad = trainable = True

    def __init__(self, data: Any) -> None:
        self.data = data
        self.grad: Any = data * 0

    @property
    def value(self) -> Any:
        """Another name of ``data``."""
        return self.data

    @value.setter
    def value(self, value: Any) -> None:
        self.data = value

    @property
    def shape(self) -> Any:
        """Of the data."""
        return self.data.shape

    def zero_grad(self) -> None:
        """Fill the gradient with zeros."""
        self.grad = self.data * 0


class _Objects:
    """Parameters that are objects with ``.data`` and ``.grad``; ``argument`` is their list."""

    takes_none = True

    def __init__(self, make: Callable[[Tensor], Any], weights: Sequence[Tensor]) -> None:
        self.parameters = [make(weight) for weight in weights]
        self.argument: Any = self.parameters
        self._array = _numpy if isinstance(self.parameters[0].data, np.ndarray) else _tensor

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else self._array(gradient)

    def gradients(self) -> list[Tensor | None]:
        grads = [parameter.grad for parameter in self.parameters]
        return [None if grad is None else _read(grad) for grad in grads]

    def weights(self) -> list[Tensor]:
        return [_read(parameter.data) for parameter in self.parameters]


class _Pairs:
    """Parameters that are pairs of a value and a gradient, which is filled in place."""

    takes_none = False

    def __init__(
        self, array: Callable[[Tensor], Any], pair: type, weights: Sequence[Tensor]
    ) -> None:
        self.parameters = [pair((array(w), array(torch.zeros_like(w)))) for w in weights]
        self.argument: Any = self.parameters

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        for (_, grad), gradient in zip(self.parameters, gradients, strict=True):
            assert gradient is not None
            torch.as_tensor(grad).copy_(gradient)

    def gradients(self) -> list[Tensor | None]:
        return [_read(pair[1]) for pair in self.parameters]

    def weights(self) -> list[Tensor]:
        return [_read(pair[0]) for pair in self.parameters]


class _Arrays:
    """Weights and gradients apart, each a list or a dict of arrays."""

    takes_none = False

    def __init__(
        self, array: Callable[[Tensor], Any], named: bool, weights: Sequence[Tensor]
    ) -> None:
        self.names: Sequence[Any] = (
            [f"W{index}" for index in range(len(weights))] if named else range(len(weights))
        )
        self._array, self._named = array, named
        self.argument: Any = self._filled(weights)
        self.grads: Any = self._filled([torch.zeros_like(weight) for weight in weights])

    def _filled(self, tensors: Sequence[Any]) -> Any:
        arrays = [self._array(tensor) for tensor in tensors]
        return dict(zip(self.names, arrays, strict=True)) if self._named else arrays

    def set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        self.grads = self._filled(gradients)

    def gradients(self) -> list[Tensor | None]:
        return [_read(self.grads[name]) for name in self.names]

    def weights(self) -> list[Tensor]:
        return [_read(self.argument[name]) for name in self.names]


class _Model:
    """A model that hands out its parameters."""

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters

    def parameters(self, *_: Any, **__: Any) -> Any:
        return self._parameters

    param = params = params_and_grads = get_params = trainable_parameters = parameters

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            if isinstance(parameter, tuple | list):
                parameter[1][...] = 0
            else:
                parameter.zero_grad()


class _NamedModel(_Model):
    """A model that hands out a dict of parameters for each of its layers."""

    def parameters(self, *_: Any, **__: Any) -> Iterator[Any]:
        for index, parameter in enumerate(self._parameters):
            yield OrderedDict({f"parameter{index}": parameter})

    param = params = get_params = parameters


def _identity(parameters: Any) -> Any:
    return parameters


def _nested(parameters: Any) -> Any:
    return [parameters[:1], parameters[1:]]


# By what a form is called in notes: how parameters are held, and what of them is handed over.
_OBJECTS: dict[str, Callable[[Sequence[Tensor]], _Objects]] = {
    "torch.nn.Parameter": lambda w: _Objects(lambda t: torch.nn.Parameter(_tensor(t)), w),
    "minifw.nn.Parameter": lambda w: _Objects(lambda t: minifw.nn.Parameter(_tensor(t)), w),
    "an object with .data and .grad": lambda w: _Objects(lambda t: Parameter(_tensor(t)), w),
    "an object with .data and .grad, NumPy": lambda w: _Objects(lambda t: Parameter(_numpy(t)), w),
}
_PAIRS: dict[str, Callable[[Sequence[Tensor]], _Pairs]] = {
    "a pair (value, gradient)": lambda w: _Pairs(_tensor, tuple, w),
    "a pair (value, gradient), NumPy": lambda w: _Pairs(_numpy, tuple, w),
    "a list [value, gradient]": lambda w: _Pairs(_tensor, list, w),
    "a list [value, gradient], NumPy": lambda w: _Pairs(_numpy, list, w),
}
_ARRAYS: dict[str, Callable[[Sequence[Tensor]], _Arrays]] = {
    "a list of NumPy arrays": lambda w: _Arrays(_numpy, False, w),
    "a dict of NumPy arrays": lambda w: _Arrays(_numpy, True, w),
    "a list of tensors": lambda w: _Arrays(_tensor, False, w),
    "a dict of tensors": lambda w: _Arrays(_tensor, True, w),
}
_WHOLE: dict[str, tuple[Callable[[Sequence[Tensor]], Any], Callable[[Any], Any]]] = {
    **{f"each parameter is {name}": (make, _identity) for name, make in _OBJECTS.items()},
    **{f"each parameter is {name}": (make, _identity) for name, make in _PAIRS.items()},
    **{f"a list of lists, each of {name}": (make, _nested) for name, make in _PAIRS.items()},
}
_MODELS: dict[str, tuple[Callable[[Sequence[Tensor]], Any], Callable[[Any], Any]]] = {
    **{f"a model; a parameter is {name}": (make, _Model) for name, make in _PAIRS.items()},
    **{f"a model; a parameter is {name}": (make, _Model) for name, make in _OBJECTS.items()},
    **{
        f"a model of dicts; a parameter is {name}": (make, _NamedModel)
        for name, make in _OBJECTS.items()
    },
}

_MODEL_NAMES = {"model", "net", "network", "module", "nn", "nnet", "seq", "mlp"}
_PARAMETER_NAMES = {"params", "parameters", "param", "parameter", "param_list", "weights"}
_STEPS = ("step", "update", "apply", "apply_gradients", "update_params", "optimize", "__call__")


class Updater:
    """One optimizer of a subject with the weights that it updates.

    Args:
        held: the parameters in a form that the subject knows.
        made: the optimizers: one, or one a parameter.
        step: does a step on ``held``.
    """

    def __init__(self, held: Any, made: Sequence[Any], step: Callable[[], None]) -> None:
        self.held, self.made, self._step = held, made, step
        self.takes_none: bool = held.takes_none

    def step(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """Set the gradients, do a step and return the weights."""
        self.held.set_gradients(gradients)
        self._step()
        return self.weights()

    def weights(self) -> list[Tensor]:
        """Return a copy of each weight."""
        weights: list[Tensor] = self.held.weights()
        return weights

    def gradients(self) -> list[Tensor | None]:
        """Return a copy of each gradient."""
        gradients: list[Tensor | None] = self.held.gradients()
        return gradients

    def zero_grad(self) -> bool:
        """Call ``zero_grad``; return whether there is one."""
        method = getattr(self.made[0], "zero_grad", None)
        if method is None:
            return False
        required = _required(method)
        method(*[self.held.argument] * len(required))
        return True

    def set_rate(self, rate: float) -> bool:
        """Change the learning rate; return whether a place for it was found."""
        places: list[Any] = []
        for made in self.made:
            if isinstance(made, dict):
                places.append(made)
            elif groups := getattr(made, "param_groups", ()):
                places += groups
            else:
                places += [vars(made), getattr(made, "hyperparameters", {})]
        found = False
        for place in places:
            name = next((name for name in RATES if name in place), None)
            if name is not None:
                place[name], found = rate, True
        return found


Factory = Callable[[Sequence[Tensor]], Updater]


def _required(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a call must give."""
    return [
        name
        for name, p in settings(function).items()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def find(
    subject: Any, given: Mapping[str, Any], defaults: Mapping[str, Any] | None
) -> tuple[Factory, torch.dtype, list[str]]:
    """Find how a subject is called.

    Args:
        subject: a class, or a function.
        given: its options; PyTorch's names for them, unless ``defaults`` is None.
        defaults: PyTorch's options that were not given.

    Returns:
        What makes an updater of weights, the most exact dtype that it works in, and notes.

    Raises:
        UsageError: no way of calling it works.
    """
    names = {name: p.default for name, p in settings(subject).items()}
    any_name = any(p.kind is p.VAR_KEYWORD for p in _signature(subject).values())
    notes: list[str] = []
    is_function = inspect.isfunction(subject) or inspect.isbuiltin(subject)
    if defaults is None:
        options = dict(given)
    elif is_function and len(_required(subject)) < 4 and "config" in names:
        keys = {
            k: inspect.Parameter.empty for k in subject.__code__.co_consts if isinstance(k, str)
        }
        options, notes = renamed(keys, given, defaults)
    elif any_name:
        options = dict(given)
    else:
        options, notes = renamed(names, given, defaults)
    required = [name for name in _required(subject) if name not in options]
    ways = (
        _functions(subject, required, options)
        if is_function
        else _classes(subject, required, names, options)
    )
    refusals: dict[str, str] = {}
    for dtype in (torch.float64, torch.float32):
        idle = None
        for form, factory in ways:
            try:
                moved = _moves(factory, dtype)
            except Exception as error:
                refusals.setdefault(first_line(error), form)
                continue
            if moved:
                return factory, dtype, [form, *notes]
            idle = idle or (factory, dtype, [form, *notes])
        if idle:
            return idle
    tried = "; ".join(f"as {form}: {error}" for error, form in list(refusals.items())[:4])
    raise UsageError(
        f"no way of calling the optimizer works ({tried}); give a function of a list of weights "
        "that returns an object with step(gradients) -> weights"
    )


def _signature(subject: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(subject).parameters
    except (TypeError, ValueError):
        return {}


def _moves(factory: Factory, dtype: torch.dtype) -> bool:
    """Whether a step moves all weights; their first size is not 2, which could be unpacked.

    Raises:
        TypeError: the weights are of another dtype or shape afterwards.
    """
    weights = [torch.ones(3, 4, dtype=dtype), torch.ones(5, dtype=dtype)]
    gradients = [torch.full_like(weight, 0.5) for weight in weights]
    with calling(dtype):
        after = factory(weights).step(gradients)
    facts = [[(tuple(t.shape), t.dtype) for t in side] for side in (after, weights)]
    if facts[0] != facts[1]:
        raise TypeError(f"the weights are {facts[0]} after a step, {facts[1]} before")
    return all(not torch.equal(a, w) for a, w in zip(after, weights, strict=True))


@contextlib.contextmanager
def calling(dtype: torch.dtype) -> Iterator[None]:
    """Torch's default dtype is set, its grad mode and NumPy's warnings are put back after."""
    before, mode = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.set_default_dtype(dtype)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        torch.set_default_dtype(before)
        torch.set_grad_enabled(mode)


def _classes(
    subject: Any, required: Sequence[str], names: Mapping[str, Any], options: Mapping[str, Any]
) -> list[tuple[str, Factory]]:
    first = next(iter(names), "")
    holds = bool(required) or first in _MODEL_NAMES | _PARAMETER_NAMES or not names
    if len(required) > 1:
        raise UsageError(f"the optimizer also needs {', '.join(required[1:])}: give them by --init")
    forms = {**_WHOLE, **_MODELS}
    if first in _MODEL_NAMES or not holds:
        forms = {**_MODELS, **_WHOLE}
    if isinstance(subject, type) and issubclass(subject, minifw.optim.Optimizer):
        forms = {
            "each parameter is minifw.nn.Parameter": (_OBJECTS["minifw.nn.Parameter"], _identity)
        }
    if not holds:
        return [
            *(
                (form, _apart(subject, options, make, each))
                for form, (make, each) in _apart_forms()
            ),
            *((form, _given_at_step(subject, options, *way)) for form, way in forms.items()),
        ]
    return [
        (f"a list of weights; {_STEPS[0]}(gradients) returns them", _adapter(subject, options)),
        *((form, _held(subject, options, *way)) for form, way in forms.items()),
    ]


def _step_of(made: Any, least: int = 0) -> Callable[..., Any]:
    """The method that does a step: the first that requires at ``least`` so many arguments."""
    methods = [getattr(made, name) for name in _STEPS if hasattr(made, name)]
    fitting = [method for method in methods if len(_required(method)) >= least]
    if not fitting:
        raise TypeError(f"{type(made).__name__} has no fitting method of {', '.join(_STEPS)}")
    return fitting[0]  # type: ignore[no-any-return]


def _adapter(subject: Any, options: Mapping[str, Any]) -> Factory:
    """``subject(weights)`` makes an object whose ``step(gradients)`` returns the weights."""

    def factory(weights: Sequence[Tensor]) -> Updater:
        made = subject([_tensor(weight) for weight in weights], **options)
        method = _step_of(made)
        if _required(method) != ["gradients"]:
            raise TypeError("step does not take gradients")
        held = _Arrays(_tensor, False, weights)

        def step() -> None:
            held.argument = list(method(held.grads))

        return Updater(held, [made], step)

    return factory


def _held(
    subject: Any,
    options: Mapping[str, Any],
    make: Callable[[Sequence[Tensor]], Any],
    hand_over: Callable[[Any], Any],
) -> Factory:
    """The optimizer is given the parameters when it is made."""

    def factory(weights: Sequence[Tensor]) -> Updater:
        held = make(weights)
        held.argument = hand_over(held.parameters)
        made = subject(held.argument, **options)
        method = _step_of(made)
        required = _required(method)

        def step() -> None:
            # A closure that is required gives nothing here.
            method(*[None] * len(required))

        return Updater(held, [made], step)

    return factory


def _given_at_step(
    subject: Any,
    options: Mapping[str, Any],
    make: Callable[[Sequence[Tensor]], Any],
    hand_over: Callable[[Any], Any],
) -> Factory:
    """The optimizer is given the parameters with every step."""

    def factory(weights: Sequence[Tensor]) -> Updater:
        held = make(weights)
        held.argument = hand_over(held.parameters)
        made = subject(**options)
        method = _step_of(made, least=1)
        if len(_required(method)) != 1:
            raise TypeError("a step takes more than the model")
        return Updater(held, [made], lambda: method(held.argument))

    return factory


def _apart_forms() -> Iterator[tuple[str, tuple[Callable[[Sequence[Tensor]], Any], bool]]]:
    for name, make in _ARRAYS.items():
        yield f"update(params, grads): each {name}", (make, False)
    for name, make in list(_ARRAYS.items())[::2]:
        yield f"update(w, grad): one optimizer a parameter, each of {name}", (make, True)


def _apart(
    subject: Any,
    options: Mapping[str, Any],
    make: Callable[[Sequence[Tensor]], Any],
    each: bool,
) -> Factory:
    """The optimizer is given weights and gradients with every step, all at once or ``each``."""

    def factory(weights: Sequence[Tensor]) -> Updater:
        held = make(weights)
        made = [subject(**options) for _ in (weights if each else "1")]
        methods = [_step_of(one, least=2) for one in made]
        names = _required(methods[0])
        if not 2 <= len(names) <= 3:
            raise TypeError(f"a step takes {names}")
        backwards = "grad" in names[0].lower() or names[0].startswith("d")

        def step() -> None:
            if each:
                for place, method in enumerate(methods):
                    pair = [held.argument[place], held.grads[place]]
                    named = [f"W{place}"] if len(names) == 3 else []
                    result = method(*(pair[::-1] if backwards else pair), *named)
                    if result is not None:
                        held.argument[place] = result
            else:
                pair = [held.argument, held.grads]
                result = methods[0](*(pair[::-1] if backwards else pair))
                if result is not None:
                    held.argument = result

        return Updater(held, made, step)

    return factory


def _functions(
    subject: Any, required: Sequence[str], options: Mapping[str, Any]
) -> list[tuple[str, Factory]]:
    names = list(settings(subject))
    if "config" in names or len(required) == 3:
        return [
            (
                f"{', '.join(names[:3])}: one {names[2]} a parameter, {form}",
                _configured(subject, options, make),
            )
            for form, make in list(_ARRAYS.items())[::2]
        ]
    made = _adapter(subject, options)
    if len(required) == 1:
        return [("a list of weights; step(gradients) returns them", made)]

    class Stateless:
        def update(self, params: Any, grads: Any) -> Any:
            return subject(params, grads, **options)

    return [(form, _apart(Stateless, {}, make, each)) for form, (make, each) in _apart_forms()]


def _configured(
    subject: Any, options: Mapping[str, Any], make: Callable[[Sequence[Tensor]], Any]
) -> Factory:
    """``f(w, dw, config) -> w, config``."""

    def factory(weights: Sequence[Tensor]) -> Updater:
        held = make(weights)
        configs: list[Any] = [dict(options) for _ in weights]

        def step() -> None:
            for place in held.names:
                result = subject(held.argument[place], held.grads[place], configs[place])
                if isinstance(result, tuple):
                    held.argument[place], config = result
                    configs[place].update(config)
                elif result is not None:
                    held.argument[place] = result

        return Updater(held, configs, step)

    return factory
