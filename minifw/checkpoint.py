"""Files of tensors and plain values: safe to load, never partly written, and checked when read.

The format is safetensors, so reading a file runs no code. The header holds the nesting and all
plain values as JSON, and a checksum of everything.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["load", "save"]


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Write a module's weights, or any state, to a file.

    The file gets its name only when it is complete: if the process is killed, either the old file
    or the new one is there.

    Args:
        state: a module (its ``state_dict()`` is written), or dicts, lists and tuples of tensors,
            numbers, strings and None.
        path: the file to write, usually ``*.safetensors``.

    Raises:
        TypeError: state holds a value of another type.
        OSError: the file cannot be written.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(getattr(state, "state_dict", lambda: state)(), "", tensors))
    from safetensors.torch import save as to_bytes

    metadata = {"structure": structure, "sha256": _checksum(structure, tensors)}
    data = to_bytes(tensors, metadata)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a file of :func:`save`; any other safetensors file gives a dict of tensors.

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
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    with path.open("rb") as opened:  # raises OSError for a missing file or a folder
        start = opened.read(2)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        if start == b"PK" or start[:1] == b"\x80":
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
    return _unpack(json.loads(structure), tensors)


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON, and add its tensors to ``tensors`` under their paths."""
    if isinstance(value, Tensor):
        if path in tensors:
            raise ValueError(f"two tensors would be stored as {path!r}; rename one of their keys")
        # A copy, since the format has no shared memory.
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": path}
    prefix = f"{path}." if path else ""
    if isinstance(value, Mapping):
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
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
