"""A comparison from what is written on a command line: names, arguments, inputs."""

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from minifw.testing.case import Input
from minifw.testing.comparison import Comparison
from minifw.testing.example import described, parse_input
from minifw.testing.subjects import UsageError, partner
from minifw.testing.subjects.environment import restored
from minifw.testing.subjects.roles import BACKWARD

__all__ = ["comparison_from_text", "load", "read_call", "read_inputs"]


def comparison_from_text(
    subject: str,
    reference: str,
    init: str,
    inputs: Sequence[str],
    device: str,
    load_subject: Callable[[str], Any] | None = None,
    *,
    reference_init: str | None = None,
    call: str = "",
    backward: str | None = None,
) -> Comparison:
    """Read what is to be compared.

    Args:
        subject, reference: ``file.py:name``, ``package.module:name`` or ``package.module.name``; of
            torch also the name alone: ``LayerNorm``, ``silu``. A subject may be a pair of
            functions: ``file.py:forward,backward``.
        init: the arguments of both constructors, written as in a call: "3, 5, bias=False".
        inputs: as :func:`~minifw.testing.example.parse_input` reads them, or ``file.py:name`` of a
            function that makes all of them.
        device: where to compute.
        load_subject: finds the subject, and ``backward``, by their texts. Default: :func:`load`.
        reference_init: the arguments of the reference's constructor, where they are others.
        call: the arguments of every call after the inputs: "dim=-1, eps=1e-6".
        backward: the function that goes back, where the subject is one that goes forward.

    Raises:
        UsageError: there is no such subject or reference, the arguments are not literals, or an
            input is not of the form.
    """
    arguments, options = read_call(init)
    made: tuple[Any, Any] = (None, None)
    if reference_init is not None:
        made = read_call(reference_init)
    find = load_subject or load
    return Comparison(
        subject.rpartition(":")[2],
        find(subject),
        load(reference),
        read_inputs(inputs),
        arguments,
        options,
        device=device,
        reference_arguments=made[0],
        reference_options=made[1],
        call=read_call(call),
        backward=find(backward if ":" in backward or "." in backward
                      else f"{subject.rpartition(':')[0]}:{backward}") if backward else None,
    )  # fmt: skip


def read_inputs(texts: Sequence[str]) -> tuple[Input, ...]:
    """Descriptions of inputs; see :func:`comparison_from_text`.

    Raises:
        UsageError: one is not of the form, or there is no such function.
    """
    if len(texts) == 1 and (".py:" in texts[0]):
        try:
            return described(load(texts[0]))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{texts[0]} made no inputs: {_first_line(error)}") from error
    try:
        return tuple(map(parse_input, texts))
    except ValueError as error:
        raise UsageError(str(error)) from None


def load(text: str) -> Any:
    """The object of ``file.py:name``, ``package.module:name``, ``package.module.name`` or a name.

    ``file.py:forward,backward`` is a tuple of two.

    Raises:
        UsageError: there is none.
    """
    text = text.strip()
    if text.endswith(".py"):
        raise UsageError(f"{text} is a file; give a name in it as well: {_candidates(text)}")
    if ":" in text:
        where, _, name = text.rpartition(":")
        module = _import(where)
        names = [part.strip() for part in name.split(",")]
        if len(names) == 1 and not hasattr(module, name) and hasattr(module, f"{name}_forward"):
            forward = getattr(module, f"{name}_forward")
            return (forward, back) if (back := partner(forward)) else forward
        found = [_attribute(module, where, part) for part in names]
        return found[0] if len(found) == 1 else tuple(found)
    where, _, name = text.rpartition(".")
    homes = _homes(where)
    if homes:
        for home in homes:
            if hasattr(home, name):
                return getattr(home, name)
        if not where:
            raise UsageError(
                f"there is no {name!r} in torch; give a file or a module too"
                + _did_you_mean(name, homes)
            )
    return _attribute(_import(where), where, name)


def _homes(where: str) -> tuple[Any, ...]:
    """The modules that a name without a file may be in."""
    functional = torch.nn.functional
    if not where:
        return (torch.nn, functional, torch.optim, torch.optim.lr_scheduler, torch)
    return {"F": (functional,), "nn": (torch.nn,), "optim": (torch.optim,)}.get(where, ())


def _import(where: str) -> ModuleType:
    """A file or a module.

    Raises:
        UsageError: it cannot be imported.
    """
    try:
        with restored():
            return _from_file(where) if where.endswith(".py") else importlib.import_module(where)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"cannot import {where!r}: {_first_line(error)}") from error


@functools.cache
def _from_file(where: str) -> ModuleType:
    path = Path(where).resolve()
    package = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():  # for its relative imports
        package.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(package)
    sys.path.insert(0, str(folder))
    if len(package) > 1:
        _forget_others(package[0], folder)
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        return importlib.import_module(name)
    # Its folder, as if it were run as a script, and its name, which pickling looks up.
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module in {where}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        inside = (error.name or "").partition(".")[0] == folder.name
        if "no known parent package" not in str(error) and not inside:
            raise
        sys.path.insert(0, str(folder.parent))  # a package without an __init__.py
        _forget_others(folder.name, folder.parent)
        return importlib.import_module(f"{folder.name}.{name}")
    return module


def _forget_others(package: str, home: Path) -> None:
    """Forget another package of this name, imported from another folder."""
    known = getattr(sys.modules.get(package), "__path__", [str(home / package)])
    if str(home / package) not in known:
        for name in [m for m in sys.modules if m.partition(".")[0] == package]:
            del sys.modules[name]


def _attribute(module: Any, where: str, name: str) -> Any:
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise UsageError(f"{where} has no {name!r}" + _did_you_mean(name, (module, torch.nn)))
        value = getattr(value, part)
    return value


def _did_you_mean(name: str, homes: Sequence[Any]) -> str:
    for home in homes:
        names = {other.lower(): other for other in dir(home) if not other.startswith("_")}
        close = difflib.get_close_matches(name.lower(), names, 1, 0.7)
        if close:
            return f"; did you mean {home.__name__}.{names[close[0]]}?"
    return ""


def _candidates(where: str) -> str:
    """What in a file could be verified, in words."""
    module = _import(where)
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            if any(hasattr(value, back) for back in (*BACKWARD, "forward")):
                found.append(name)
        elif inspect.isfunction(value) and (back := partner(value)):
            found.append(f"{name},{back.__name__}")
    if not found:
        return "there is no class with a forward or backward pass and no pair of functions in it"
    return ", ".join(f"{where}:{name}" for name in found)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def read_call(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read arguments, written as in a call: literals, and names such as torch.float32, math.inf.

    Tensors and modules are made in place: torch.tensor([0.5, 2.0]), torch.nn.Tanh().

    Raises:
        UsageError: they are something else.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        options = {str(k.arg): _value(k.value) for k in call.keywords}
        return tuple(map(_value, call.args)), options
    except (SyntaxError, ValueError, AssertionError, AttributeError, TypeError, RuntimeError):
        raise UsageError(f"expected arguments such as '3, 5, bias=False', got {text!r}") from None


MAKERS = (
    torch.tensor,
    torch.ones,
    torch.zeros,
    torch.full,
    torch.arange,
    torch.linspace,
    torch.eye,
)


def _value(node: ast.expr) -> Any:
    """The value of a literal, of a dotted name of torch or math, or of a call that makes one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        make = _value(node.func)
        if not (isinstance(make, type) or make in MAKERS):
            raise ValueError
        made = make(*map(_value, node.args), **{str(k.arg): _value(k.value) for k in node.keywords})
        if not isinstance(made, (torch.Tensor, torch.nn.Module)):
            raise ValueError
        return made
    if isinstance(node, ast.Attribute):
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id not in ("torch", "math"):
            raise ValueError
        value: Any = {"torch": torch, "math": math}[inner.id]
        for part in parts:
            value = getattr(value, part)
        return value
    if isinstance(node, ast.Tuple):
        return tuple(map(_value, node.elts))
    if isinstance(node, ast.List):
        return list(map(_value, node.elts))
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)
