"""Record the calls of torch that a function makes, so that each can be repeated alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["RecordedCall", "record_calls", "record_operations"]


class RecordedCall(NamedTuple):
    """One call and its arguments.

    Attributes:
        name: of the ATen operation, or of the operations that the call runs.
        repeat: repeats the call, on the same tensors.
    """

    name: str
    repeat: Callable[[], Any]


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every ATen operation below autograd, backward passes included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[RecordedCall] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        repeat = partial(function, *args, **(kwargs or {}))
        if function.namespace == "aten":  # not the annotations that optimizers make for a profiler
            self.calls.append(RecordedCall(function._schema.name, repeat))
        return repeat()


class _PythonCalls(TorchFunctionMode):
    """Records every call from Python that runs an operation; reading a shape runs none."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[RecordedCall] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        repeat = partial(function, *args, **(kwargs or {}))
        with _Operations() as below:
            result = repeat()
        if below.calls:
            self.calls.append(RecordedCall(", ".join(call.name for call in below.calls), repeat))
        return result


def record_calls(function: Callable[[], object]) -> list[RecordedCall]:
    """Record the calls of torch that ``function`` makes from Python, in order."""
    with _PythonCalls() as recorder:
        function()
    calls: list[RecordedCall] = recorder.calls
    return calls


def record_operations(function: Callable[[], object]) -> list[RecordedCall]:
    """Record the ATen operations that ``function`` runs, in order.

    ``detach`` is left out: autograd calls it more often while it is recorded.
    """
    with _Operations() as recorder:
        function()
    calls: list[RecordedCall] = recorder.calls
    return [call for call in calls if call.name != "aten::detach"]
