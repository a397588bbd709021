"""The pytest plugin: a fixture by which a test of any project verifies a backward pass.

::

    def test_my_layer(verify_backward):
        verify_backward(MyLayer, torch.nn.LayerNorm, ["4,5"], (5,))
"""

import ast
import dataclasses
import inspect
import os
import shlex
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import torch

    from minifw.testing import Report

__all__ = ["VerifyBackward", "verify_backward"]


class VerifyBackward(Protocol):
    """The type of the fixture."""

    def __call__(
        self,
        subject: "Any",
        reference: "Callable[..., torch.nn.Module]",
        inputs: "Sequence[Any]",
        arguments: "Sequence[Any]" = (),
        options: "dict[str, Any] | None" = None,
        **settings: "Any",
    ) -> "Report":
        """Verify, and fail the test unless the verdict is PASSED."""


@pytest.fixture
def verify_backward() -> VerifyBackward:
    """Fail the test unless a hand-written backward pass equals PyTorch's.

    It takes the arguments of :func:`minifw.testing.verify` and returns its report. A subject that
    cannot be compared with the reference at all is an error, not a failure.
    """
    # Not before it is needed: whoever has the plugin installed would wait for torch in every test.
    from minifw.testing import verify

    def verify_and_fail(
        subject: "Any",
        reference: "Any",
        inputs: "Sequence[Any]",
        arguments: "Sequence[Any]" = (),
        options: "dict[str, Any] | None" = None,
        **settings: "Any",
    ) -> "Report":
        __tracebackhide__ = True
        report = verify(subject, reference, inputs, arguments, options, **settings)
        if report.status != "PASSED":
            command = _command(subject, reference, inputs, arguments, options or {}, settings)
            pytest.fail(str(dataclasses.replace(report, command=command)), pytrace=False)
        return report

    return verify_and_fail


def _command(
    subject: "Any",
    reference: "Any",
    inputs: "Sequence[Any]",
    arguments: "Sequence[Any]",
    options: "dict[str, Any]",
    settings: "dict[str, Any]",
) -> str:
    """The command line of the same comparison; "" if it cannot be written as one."""
    try:
        names = [_text(subject), _text(reference)]
        init = ", ".join([*map(repr, arguments), *(f"{k}={v!r}" for k, v in options.items())])
        ast.parse(f"f({init})")
    except (AttributeError, SyntaxError, TypeError):
        return ""
    line = ["minifw", "verify", *names]
    for shape in inputs:
        if not isinstance(shape, (str, tuple, list)):
            return ""
        line += ["--input", shape if isinstance(shape, str) else ",".join(map(str, shape))]
    line += ["--init", init] if init else []
    line += ["--contract", settings["contract"]] if settings.get("contract") else []
    line += ["--in-place"] if settings.get("in_place") else []
    return shlex.join(line)


def _text(value: "Any") -> str:
    """What a class or function is called on a command line.

    Raises:
        AttributeError, TypeError: it has no such name.
    """
    if isinstance(value, str):
        return value
    name, module = value.__qualname__, value.__module__
    if "<" in name:
        raise AttributeError(name)
    if module.startswith("torch.nn.modules"):
        return f"torch.nn.{name}"
    if module.startswith("torch."):
        return f"{module}:{name}"
    return f"{os.path.relpath(inspect.getfile(value))}:{name}"
