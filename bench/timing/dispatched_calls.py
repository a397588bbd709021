"""Recording: the calls of torch that a function makes, each to be made repeat by itself."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["RecordedCall", "record_calls", "record_operations"]


class RecordedCall(NamedTuple):
    """One call, with the arguments that it was made with.

    Attributes:
        name: of the ATen operation that it is, or of those that it runs.
        repeat: makes the call once more, on the same tensors.
    """

    name: str
    repeat: Callable[[], Any]


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every ATen operation, below autograd: those of its backward pass too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[RecordedCall] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        repeat = partial(function, *args, **(kwargs or {}))
        if function.namespace == "aten":  # not the notes that optimizers leave for a profiler
            self.calls.append(RecordedCall(function._schema.name, repeat))
        return repeat()


class _PythonCalls(TorchFunctionMode):
    """Records every call from Python that runs an operation; a look at a shape runs none."""

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
    """Record the calls of torch that ``function`` makes from Python, in their order."""
    with _PythonCalls() as recorder:
        function()
    calls: list[RecordedCall] = recorder.calls
    return calls


def record_operations(function: Callable[[], object]) -> list[RecordedCall]:
    """Record the ATen operations that ``function`` runs, in their order.

    Those called detach are left out: autograd makes some of them only because it is watched.
    """
    with _Operations() as recorder:
        function()
    calls: list[RecordedCall] = recorder.calls
    return [call for call in calls if call.name != "aten::detach"]
