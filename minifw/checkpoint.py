"""Files of tensors and plain values: safe to load, never partly written, and checked when read.

The format is safetensors, so reading a file runs no code. The header holds the nesting and all
plain values as JSON, and a checksum of everything.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

__all__ = ["load", "save"]


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Write a module's weights, or any state, to a file.

    The file gets its name only when it is complete: if the process is killed, either the old file
    or the new one is there. Threads and processes that save to one path do so one after another.
    An existing file keeps its permissions.

    Args:
        state: a module (its ``state_dict()`` is written), or dicts, lists and tuples of tensors,
            numbers, strings and None. Keys of dicts are numbers, strings and None.
        path: the file to write, usually ``*.safetensors``.

    Raises:
        TypeError: state holds a value or a key of another type.
        ValueError: state contains itself, or two tensors would have one name.
        OSError: the file cannot be written.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    try:
        packed = _pack(getattr(state, "state_dict", lambda: state)(), "", tensors)
    except RecursionError:
        raise ValueError(
            "expected a state of finite depth, got one that contains itself; remove the inner one"
        ) from None
    structure = json.dumps(packed)
    from safetensors.torch import save as to_bytes

    metadata = {"structure": structure, "sha256": _checksum(structure, tensors)}
    data = to_bytes(tensors, metadata)
    temporary = path.with_name(f".{path.name}.tmp")
    with _locked(temporary) as file:
        try:
            if path.exists():
                shutil.copymode(path, temporary)
            file.truncate(0)  # what a killed process left
            file.write(data)
            file.flush()
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Create a file and lock it, or wait for the lock of the one that is there."""
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                named = path.stat()
            except FileNotFoundError:
                continue
            # Whoever had the lock may have renamed or removed the file.
            if os.path.samestat(os.fstat(file.fileno()), named):
                yield file
                return


def load(path: str | os.PathLike[str]) -> Any:
    """Read a file of :func:`save`; any other safetensors file gives a dict of tensors.

    The tensors own their memory: later changes of the file do not change them.

    >>> import tempfile
    >>> import minifw
    >>> model = minifw.nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     minifw.save(model, f"{folder}/model.safetensors")
    ...     model.load_state_dict(minifw.load(f"{folder}/model.safetensors"))

    Returns:
        The state, with tensors on the CPU and lists in place of tuples.

    Raises:
        RuntimeError: the file is damaged, truncated, or in another format, such as pickle.
        OSError: the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    path = Path(path)
    data = path.read_bytes()
    try:
        tensors = from_bytes(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, AssertionError, LookupError, RuntimeError, ValueError) as error:
        if data[:2] == b"PK" or data[:1] == b"\x80":
            found = (
                "a pickle as torch.save writes it, which may run any code when it is loaded; if "
                "you trust it, read it with torch.load(path, weights_only=True) and write it anew "
                "with minifw.save"
            )
        else:
            found = f"something else, or a truncated or damaged one ({error}); write it anew"
        raise RuntimeError(f"{path}: expected a safetensors file, got {found}") from None
    structure, checksum = metadata.get("structure"), metadata.get("sha256")
    if structure is None and checksum is None:
        return tensors
    if structure is None or checksum != _checksum(structure, tensors):
        raise RuntimeError(
            f"{path}: expected contents that fit their checksum, got {checksum!r} for others; the "
            "file is damaged: restore it from a copy, or write it anew"
        )
    try:
        return _unpack(json.loads(structure), tensors)
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise RuntimeError(
            f"{path}: expected the structure that minifw.save writes, got another "
            f"({type(error).__name__}: {error}); write the file with minifw.save"
        ) from None


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON, and add its tensors to ``tensors`` under their paths."""
    if isinstance(value, Tensor):
        if path in tensors:
            raise ValueError(f"two tensors would be stored as {path!r}; rename one of their keys")
        if path == "__metadata__":
            raise ValueError("the format reserves the name '__metadata__'; rename this key")
        # A copy, since the format has no shared memory.
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": path}
    prefix = f"{path}." if path else ""
    if isinstance(value, Mapping):
        for key in value:
            if not (key is None or isinstance(key, str | int | float)):
                raise TypeError(
                    f"expected keys that are numbers, strings or None, got {type(key).__name__} "
                    f"{key!r} at {path!r}"
                )
        # Pairs, since JSON would turn keys that are numbers into strings.
        return {"dict": [[k, _pack(v, f"{prefix}{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(v, f"{prefix}{index}", tensors) for index, v in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(
        "expected dicts, lists and tuples of tensors, numbers, strings and None, "
        f"got {type(value).__name__} at {path!r}"
    )


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpack(item, tensors) for key, item in value["dict"]}


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
