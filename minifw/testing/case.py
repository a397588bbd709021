"""What a module is called with: its inputs, a row of a table of modules, seeded generators."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

__all__ = ["Case", "Input", "seeded"]

Domain = Literal[
    "real", "probability", "binary", "index",
    "bool", "onehot", "permutation", "sorted", "softmax", "positive",
]  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One input of a module.

    Attributes:
        shape: its shape; the leading dimension is the batch unless the case says otherwise.
        domain: "real", normally distributed; "probability", in (0, 1); "binary", 0 or 1;
            "index", integers below ``classes``; "bool", true or false; "onehot", rows of
            ``classes`` entries, one of which is 1 and all others 0; "permutation", the numbers
            from 0 in random order; "sorted", real numbers in order along the last dimension;
            "softmax", positive and 1 in sum along the last dimension; "positive", the size of a
            real number.
        constant: whether the module gives no gradient of it, as a loss of its target.
        classes: for "index" and "onehot".
        made: a function that makes all inputs at once, from a :class:`torch.Generator` if it takes
            one; the others' descriptions are then of what it made first, and their sizes are fixed.
    """

    shape: tuple[int, ...]
    domain: Domain = "real"
    constant: bool = False
    classes: int = 0
    made: Callable[..., Any] | None = None

    @property
    def differentiable(self) -> bool:
        """Whether it can have a gradient."""
        return self.domain not in ("index", "bool", "permutation")


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        module: name of the class in :mod:`minifw.nn`.
        arguments: of its constructor; a case among them stands for the module that it describes.
        inputs: what it is called on.
        options: keyword arguments of its constructor.
        training: the mode to run it in; None where the mode makes no difference.
        exceptions: checks of :mod:`minifw.testing` not to make, with the reasons.
    """

    module: str
    arguments: tuple[Any, ...] = ()
    inputs: tuple[Input, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    training: bool | None = None
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The row in a word, unique in the table, made of constructor call, input shapes, mode."""
        arguments = [
            a.name if isinstance(a, Case) else getattr(a, "__name__", repr(a))
            for a in self.arguments
        ]
        arguments += [f"{name}={value!r}" for name, value in self.options.items()]
        shapes = ["x".join(map(str, i.shape)) + f":{i.domain}" for i in self.inputs]
        mode = {True: ["train"], False: ["eval"], None: []}[self.training]
        return "-".join([f"{self.module}({', '.join(arguments)})", *shapes, *mode])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context with the global generators seeded, and put back at its end.

    They are torch's, NumPy's and Python's: layers in NumPy draw their weights from its own.
    """
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        # torch.manual_seed, where there is no CUDA, notes a stack trace for when there will be.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
