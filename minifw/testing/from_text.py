"""A comparison from what is written on a command line: names of classes, arguments, inputs."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minifw.testing.comparison import Comparison
from minifw.testing.example import parse_input
from minifw.testing.subject import UsageError

__all__ = ["comparison_from_text", "load"]


def comparison_from_text(
    subject: str,
    reference: str,
    init: str,
    inputs: Sequence[str],
    device: str,
    load_subject: Callable[[str], Any] | None = None,
) -> Comparison:
    """Read what is to be compared.

    Args:
        subject, reference: ``file.py:name``, ``package.module:name`` or ``package.module.name``.
        init: the arguments of both constructors, written as in a call: "3, 5, bias=False".
        inputs: as :func:`~minifw.testing.example.parse_input` reads them.
        device: where to compute.
        load_subject: finds the subject by its text. Default: :func:`load`.

    Raises:
        UsageError: there is no such subject or reference, the arguments are not literals, or an
            input is not of the form.
    """
    arguments, options = _arguments(init)
    try:
        specs = tuple(parse_input(text) for text in inputs)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Comparison(
        subject.rpartition(":")[2],
        (load_subject or load)(subject),
        load(reference),
        specs,
        arguments,
        options,
        device=device,
    )


def load(text: str) -> Any:
    """The object of ``file.py:name``, ``package.module:name`` or ``package.module.name``.

    Raises:
        UsageError: there is none.
    """
    where, _, name = text.partition(":") if ":" in text else text.rpartition(".")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            if spec is None or spec.loader is None:
                raise UsageError(f"cannot import {where!r}")
            module = importlib.util.module_from_spec(spec)
            # Its folder, as if it were run as a script, and its name, which pickling looks up.
            sys.path.insert(0, str(Path(where).resolve().parent))
            sys.modules.setdefault(spec.name, module)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except UsageError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"cannot import {where or text!r}: {reason}") from error
    if not hasattr(module, name):
        raise UsageError(f"{where} has no {name!r}")
    return getattr(module, name)


def _arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read constructor arguments, written as in a call.

    Raises:
        UsageError: they are not literals.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return tuple(ast.literal_eval(argument) for argument in call.args), options
    except (SyntaxError, ValueError, AssertionError):
        raise UsageError(f"expected arguments such as '3, 5, bias=False', got {text!r}") from None
