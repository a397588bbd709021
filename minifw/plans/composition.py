"""Composition: whether a module does nothing of its own but to call the modules that it holds.

Only then is a call of it no more than the calls of torch that it leads to, time after time. This is
read off the code of its ``forward``: what it did once does not tell what it will do next.
"""

import dis
from typing import Any

from minifw.nn.module import Module

__all__ = ["only_calls_modules"]

# What the code may do: take arguments, constants and attributes, call, loop, assign to local
# variables, and return. Not branch, compute, or name anything from outside.
_ALLOWED = {
    "BUILD_TUPLE", "CALL", "CALL_KW", "COPY", "END_FOR", "EXTENDED_ARG", "FOR_ITER", "GET_ITER",
    "JUMP_BACKWARD", "KW_NAMES", "LOAD_ATTR", "LOAD_CONST", "LOAD_METHOD", "LOAD_SMALL_INT", "NOP",
    "NOT_TAKEN", "POP_ITER", "POP_TOP", "PRECALL", "PUSH_NULL", "RESUME", "RETURN_VALUE", "SWAP",
    "UNPACK_SEQUENCE",
}  # fmt: skip
_OF_LOCAL_VARIABLES = ("LOAD_FAST", "STORE_FAST")  # and several of them in one
_NOT_CALLED = {"__init__", "extra_repr"}  # in a step


def only_calls_modules(module: Module) -> bool:
    """Whether ``module`` is of this package, or its ``forward`` does nothing but call modules."""
    kind = type(module)
    own: dict[str, Any] = {}  # attributes of classes that do not declare themselves capturable
    for base in reversed(kind.__mro__[:-1]):
        if not vars(base).get("_capturable"):
            own |= vars(base)
    if not own:
        return True
    code = getattr(own.pop("forward", None), "__code__", None)
    if code is None or own.pop("rule", Module.rule) is not Module.rule:
        return False
    for name, value in own.items():
        called = isinstance(value, property) or (callable(value) and name not in _NOT_CALLED)
        if called and (name.startswith("__") or hasattr(Module, name)):
            return False
    held = {name for name, value in vars(module).items() if isinstance(value, Module)}
    return held.difference(own).issuperset(code.co_names) and all(
        step.opname in _ALLOWED or step.opname.startswith(_OF_LOCAL_VARIABLES)
        for step in dis.get_instructions(code)
    )
