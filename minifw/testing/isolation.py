"""A process of its own for what is verified: nothing that it does decides its verdict.

A server imports torch, and nothing of the subject, and forks a worker that imports the subject and
runs it. Requests go to the worker by pickle, as it may trust them. Answers come back over a socket
of their own as JSON and the bytes of tensors: nothing in them is run, and what a subject prints is
not among them. A worker that crashes, hangs, exits or answers what is no answer is replaced by a
new one, which takes some ten milliseconds, as torch is there already.

It is no sandbox: a subject has its user's rights.
"""

import contextlib
import fcntl
import io
import json
import math
import os
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Answer", "LostProcess", "Runner", "SubjectError"]

TIMEOUT = 60.0  # seconds a call
STARTING = 120.0  # seconds until torch is imported
LOADING = 10.0  # times the timeout: importing a subject may compile it
IN_SUCCESSION = 3  # lost workers after which no more are started
GRACE = 2.0  # seconds until the server says how a worker has ended
LARGEST_ANSWER = 2**32
LARGEST_FILE = 2**30  # that a worker may write, its output among them
NONCE = 16  # bytes by which an answer is known to be that to a request
NO_ANSWER = "what it answered is no answer"

Answer = tuple[dict[str, "Tensor"], dict[str, Any]]


class SubjectError(Exception):
    """The subject raised an error of the type that ``kind`` names."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class LostProcess(SubjectError):  # noqa: N818 -- what reports call it
    """The subject's process crashed, hung, exited or answered what is no answer."""


class Runner:
    """Calls functions in a process of its own, which is replaced when it is lost.

    Args:
        timeout: seconds that a call may take.
        memory: GiB that the process may allocate. Default: three quarters of the machine's.
    """

    def __init__(self, timeout: float = TIMEOUT, memory: float | None = None) -> None:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.timeout = timeout
        self.memory = int(memory * 2**30) if memory else there * 3 // 4
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in close()
        # The processes share its position, and it is truncated in between.
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)
        self._scratch = tempfile.TemporaryDirectory(prefix="minifw-")
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._channel: socket.socket | None = None
        self._worker = 0
        self._lost = 0
        self._loader: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._start_server()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        if self._worker:
            with contextlib.suppress(OSError):
                os.killpg(self._worker, signal.SIGKILL)
        if self._channel is not None:
            self._channel.close()
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._output.close()
        self._scratch.cleanup()

    def load(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call this in every new worker, before anything else, in the folder of the user.

        All other calls are made in an empty folder: what they delete is not the user's.
        """
        self._end_worker()
        self._lost = 0
        self._loader = function, arguments
        self._start_worker()

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function that can be imported, with arguments that can be pickled.

        Returns:
            The tensors and the plain values that it returned.

        Raises:
            SubjectError: it raised any error, or the process was lost.
        """
        if self._channel is None:
            if self._lost >= IN_SUCCESSION:
                raise LostProcess(f"not tried, as {self._lost} processes in succession were lost")
            self._start_worker()
        answer = self._ask(self.timeout, function, *arguments)
        self._lost = 0
        return answer

    def _start_server(self) -> None:
        mine, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "minifw.testing.isolation", str(theirs.fileno())]
        path = os.pathsep.join(name or str(os.getcwd()) for name in sys.path)  # noqa: PTH109
        self._server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._control, self._heard = mine, b""

    def _start_worker(self) -> None:
        """Fork a worker, and load the subject in it."""
        mine, theirs = socket.socketpair()
        limits = {"memory": self.memory, "scratch": self._scratch.name}
        try:
            assert self._control is not None
            socket.send_fds(
                self._control,
                [json.dumps(limits).encode()],
                [theirs.fileno(), self._output.fileno()],
            )
            self._worker = self._hear_from_server(STARTING)["pid"]
        except (OSError, TypeError, ValueError):
            mine.close()
            self._restart_server()
            raise LostProcess(f"it cannot be started: {self._last_line()}") from None
        finally:
            theirs.close()
        self._channel = mine
        if self._loader:
            function, arguments = self._loader
            self._ask(LOADING * self.timeout, function, *arguments)

    def _hear_from_server(self, seconds: float) -> Any:
        """The next line of the server; raises ValueError if there is none."""
        assert self._control is not None
        self._control.settimeout(seconds)
        while not self._heard.endswith(b"\n"):
            byte = self._control.recv(1)
            if not byte:
                raise ValueError("the server has ended")
            self._heard += byte
        line, self._heard = self._heard, b""
        return json.loads(line)

    def _restart_server(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._start_server()

    def _ask(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Answer:
        import torch

        request, nonce = io.BytesIO(), secrets.token_bytes(NONCE)
        torch.save((function, arguments), request)
        assert self._channel is not None
        deadline = time.monotonic() + seconds
        try:
            _send(self._channel, nonce + request.getvalue(), deadline)
            answer = _receive(self._channel, deadline, LARGEST_ANSWER, self._control)
        except TimeoutError:
            raise self._lose(f"no answer within {seconds:g} s (the limit is --timeout)") from None
        except OSError:
            raise self._lose("") from None
        except ValueError:
            raise self._lose(NO_ANSWER) from None
        if not answer.startswith(nonce):
            raise self._lose(NO_ANSWER)
        try:
            tensors, facts = _decode(answer[NONCE:])
        except Exception:
            raise self._lose(NO_ANSWER) from None
        if "raised" in facts:
            raise SubjectError(str(facts["message"]), str(facts["raised"]))
        return tensors, facts

    def _lose(self, reason: str) -> LostProcess:
        """End the worker, and return what is to be raised; the reason is "" if it ended itself."""
        self._lost += 1
        code = None if reason else self._exit_code()
        if code is not None:
            reason = _ending(code)
        self._end_worker()
        line = self._last_line()
        return LostProcess((reason or "it closed its channel") + (line and f"; it printed: {line}"))

    def _exit_code(self) -> int | None:
        """How the worker has ended; None if it lives on, or has ended the server."""
        try:
            code = int(self._hear_from_server(GRACE)["code"])
        except (OSError, ValueError):
            return None
        self._worker = 0
        return code

    def _end_worker(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._worker:
            with contextlib.suppress(OSError):
                os.killpg(self._worker, signal.SIGKILL)
            self._worker = 0
            try:
                self._hear_from_server(STARTING)
            except (OSError, ValueError):
                self._restart_server()

    def _last_line(self) -> str:
        """The last line that was printed, which is then forgotten."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 4096))
        lines = self._output.read().decode(errors="replace").split("\n")
        self._output.truncate(0)
        said = [line.strip() for line in lines if line.strip()]
        return "".join(c if c.isprintable() else "?" for c in said[-1][:200]) if said else ""


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def _send(channel: socket.socket, message: bytes, deadline: float) -> None:
    seconds = max(deadline - time.monotonic(), 0.001)
    channel.settimeout(seconds if seconds < math.inf else None)
    channel.sendall(len(message).to_bytes(8, "big") + message)


def _receive(
    channel: socket.socket, deadline: float, largest: int, other: socket.socket | None = None
) -> bytes:
    """The next message; raises OSError where the channel, or the process, ends before.

    Args:
        deadline: by the monotonic clock.
        largest: size of a message, in bytes.
        other: says something when the process ends, whose children may keep the channel open.
    """
    message, size = bytearray(), 8
    while len(message) < size:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        ready, _, _ = select.select(
            [channel, other] if other else [channel], [], [], min(seconds, 1e6)
        )
        if channel in ready:
            part = channel.recv(min(size - len(message), 2**20))
            if not part:
                raise ConnectionError
            message += part
            if size == 8 and len(message) == 8:
                size += int.from_bytes(message, "big")
                if size > largest:
                    raise ValueError("no message is so large")
        elif other in ready:
            raise ConnectionError
    return bytes(message[8:])


def _encode(tensors: Mapping[str, "Tensor"], facts: Mapping[str, Any]) -> bytes:
    import torch

    # A copy: of a dimension of size 0 or 1, a contiguous tensor may have any stride.
    flat = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    described = [[n, str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in flat.items()]
    header = json.dumps({"tensors": described, "facts": facts}).encode()
    numbers = [t.reshape(-1).view(torch.uint8).numpy().tobytes() for t in flat.values()]
    return b"".join([len(header).to_bytes(8, "big"), header, *numbers])


def _decode(answer: bytes) -> Answer:
    """The inverse of :func:`_encode`; raises any error where it is none."""
    import torch

    end = 8 + int.from_bytes(answer[:8], "big")
    header = json.loads(answer[8:end])
    tensors = {}
    for name, kind, shape in header["tensors"]:
        dtype = getattr(torch, kind)
        if not isinstance(name, str) or not isinstance(dtype, torch.dtype) or min([*shape, 0]) < 0:
            raise ValueError
        size = dtype.itemsize * math.prod(shape)
        numbers = bytearray(answer[end : end + size])
        if len(numbers) != size:
            raise ValueError
        flat = torch.frombuffer(numbers, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(shape)
        end += size
    if end != len(answer) or not isinstance(header["facts"], dict):
        raise ValueError
    return tensors, header["facts"]


# What follows runs in the server and in its workers.


def _serve(control: socket.socket) -> None:
    """Fork a worker for each pair of file descriptors that arrives; say how each has ended."""
    import minifw.testing.remote  # noqa: F401 -- torch and the engine, which workers then have

    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    while True:
        limits, handles, _, _ = socket.recv_fds(control, 4096, 2)
        if not limits:
            return
        worker = os.fork()
        if not worker:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            os.setpgid(0, 0)
            try:
                _work(handles[0], handles[1], **json.loads(limits))
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):  # both do it, as neither may be late
            os.setpgid(worker, worker)
        for handle in handles:
            os.close(handle)
        control.sendall(json.dumps({"pid": worker}).encode() + b"\n")
        while not (ended := os.waitpid(worker, os.WNOHANG))[0]:
            ready, _, _ = select.select([control.fileno(), wake], [], [])
            if wake in ready:
                os.read(wake, 512)
            if control.fileno() in ready:  # which says nothing now unless it is closed
                os.killpg(worker, signal.SIGKILL)
                return
        with contextlib.suppress(OSError):  # what it has forked
            os.killpg(worker, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(ended[1])
        control.sendall(json.dumps({"code": code}).encode() + b"\n")


def _work(handle: int, output: int, memory: int, scratch: str) -> None:
    """Answer requests until there are no more; does not return."""
    import torch

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    _limit(memory)
    channel, process = socket.socket(fileno=handle), os.getpid()
    first = True
    while True:
        try:
            request = _receive(channel, math.inf, sys.maxsize)
        except OSError:
            os._exit(0)
        nonce, body = request[:NONCE], request[NONCE:]
        try:
            function, arguments = torch.load(io.BytesIO(body), weights_only=False)
            answer = _encode(*function(*arguments))
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            known = "raised", type(error).__name__
            answer = _encode({}, dict([known, ("message", reason)]))
        if os.getpid() != process:  # a subject has forked
            os._exit(0)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        _send(channel, nonce + answer, math.inf)
        if first:
            os.chdir(scratch)
            first = False


def _limit(memory: int) -> None:
    """Limit the memory to what torch has by now and ``memory`` bytes more."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123
            now = int(pages.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def _main(arguments: Sequence[str]) -> None:
    _serve(socket.socket(fileno=int(arguments[0])))


if __name__ == "__main__":
    # As the module that the requests name, and not as __main__.
    from minifw.testing import isolation

    isolation._main(sys.argv[1:])
