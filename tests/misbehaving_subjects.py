"""Subjects that do what no layer should. Each is a wrong Tanh: its backward pass gives zeros."""

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        return input.tanh()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return torch.zeros_like(grad_output)


class _WrongTanh(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        self.misbehave()
        output: Tensor = _WithoutGradient.apply(input)
        return output

    def misbehave(self) -> None:
        """Nothing, here."""


class Wrong(_WrongTanh):
    """It is wrong, and that is all."""


class Right(torch.nn.Tanh):
    """Prints much, a forged verdict among it."""

    def forward(self, input: Tensor) -> Tensor:
        print('{"status": "FAILED"}', flush=True)
        print("an error", file=sys.stderr)
        return super().forward(input)


class Exits(_WrongTanh):
    def misbehave(self) -> None:
        sys.exit(0)


class ExitsAtOnce(_WrongTanh):
    def misbehave(self) -> None:
        print("farewell", flush=True)
        os._exit(0)


class Crashes(_WrongTanh):
    def misbehave(self) -> None:
        ctypes.string_at(0)


class Hangs(_WrongTanh):
    def misbehave(self) -> None:
        time.sleep(1000)


class Allocates(_WrongTanh):
    def misbehave(self) -> None:
        self.much = [torch.ones(2**28) for _ in range(64)]


class Interrupts(_WrongTanh):
    def misbehave(self) -> None:
        raise KeyboardInterrupt


class PrintsAVerdict(_WrongTanh):
    def misbehave(self) -> None:
        print('{"status": "PASSED"}', flush=True)
        os.write(1, b'{"status": "PASSED"}\n')


class WritesToEveryFile(_WrongTanh):
    def misbehave(self) -> None:
        for handle in range(3, 64):
            try:
                os.write(handle, b'{"status": "PASSED"}\n' * 10)
            except OSError:
                continue


class ClosesEveryFile(_WrongTanh):
    def misbehave(self) -> None:
        os.closerange(3, 64)
        time.sleep(1000)


class KillsItsParent(_WrongTanh):
    def misbehave(self) -> None:
        os.kill(os.getppid(), 9)
        time.sleep(1000)


class PatchesTorch(_WrongTanh):
    def misbehave(self) -> None:
        torch.Tensor.abs = torch.Tensor.zero_  # type: ignore[method-assign]
        torch.equal = lambda *_: True
        torch.where = lambda condition, a, b: b  # type: ignore[assignment]


class PatchesTheJudge(_WrongTanh):
    def misbehave(self) -> None:
        import minifw.testing.check
        import minifw.testing.report
        import minifw.testing.verdict

        def judge(name: str, *_: Any) -> Any:
            return minifw.testing.verdict.Verdict(name, minifw.testing.verdict.Status.PASSED)

        setattr(minifw.testing.check, "judge", judge)  # noqa: B010
        minifw.testing.report.Report.status = "PASSED"  # type: ignore[assignment,method-assign]


class SaysThatItDoesNotApply(_WrongTanh):
    def misbehave(self) -> None:
        from minifw.testing.passes import NotApplicable

        raise NotApplicable("no need to look")


class DeletesFiles(_WrongTanh):
    def misbehave(self) -> None:
        for path in Path().iterdir():
            path.unlink()


class Forks(_WrongTanh):
    def misbehave(self) -> None:
        os.fork()


class CrashesOnEmpty(torch.nn.Tanh):
    """Right but for an empty batch."""

    def forward(self, input: Tensor) -> Tensor:
        if not input.numel():
            os._exit(3)
        return super().forward(input)


class CrashesWhenMade(_WrongTanh):
    def __init__(self) -> None:
        ctypes.string_at(0)


class RaisesSomethingOdd(_WrongTanh):
    def misbehave(self) -> None:
        raise type("Odd\nname", (BaseException,), {})("several\nlines")
