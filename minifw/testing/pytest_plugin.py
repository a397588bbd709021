"""The pytest plugin: a fixture by which a test of any project verifies a backward pass.

::

    def test_my_layer(verify_backward):
        verify_backward(MyLayer, torch.nn.LayerNorm, ["4,5"], (5,))
"""

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

    It takes the arguments of :func:`minifw.testing.verify` and returns its report. A subject
    that cannot be compared with the reference at all is an error, not a failure.
    """
    # Not before it is needed: whoever has the plugin installed would wait for torch in every test.
    from minifw.testing import verify

    def verify_and_fail(*arguments: "Any", **settings: "Any") -> "Report":
        __tracebackhide__ = True
        report = verify(*arguments, **settings)
        if report.status != "PASSED":
            pytest.fail(str(report), pytrace=False)
        return report

    return verify_and_fail
