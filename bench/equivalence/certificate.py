"""The certificate of no autograd: minifw computes its gradients without autograd.

Its source uses nothing of autograd, except inference mode for captured calls. While it trains,
eagerly and by replay, the dispatcher sees no backward kernel and no tensor that requires grad.
Tensors left by training carry no graph, and torch's global state is unchanged.
"""

import ast
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import ROOT
from minifw import plans
from reference.frameworks import MINIFW
from reference.recipes import RECIPES
from reference.run import prepare

__all__ = [
    "Certificate",
    "Watch",
    "certify",
    "findings",
    "findings_in",
    "framework_files",
    "state",
]

_IMPORTS = {
    *(("torch", "Tensor"), ("torch", "Generator")),
    ("torch.overrides", "TorchFunctionMode"),  # records calls from Python, above autograd
}
_MODULES = {"nn", "autograd", "func", "_C", "ops", "library", "optim", "utils", "jit", "compile"}
_ATTRIBUTES = {
    *("enable_grad", "set_grad_enabled", "inference_mode", "is_grad_enabled", "grad_fn"),
    *("retain_grad", "register_hook", "detach_", "set_detect_anomaly", "is_leaf"),
    *("set_default_dtype", "set_default_device", "set_num_threads", "manual_seed", "seed"),
}


def framework_files() -> list[Path]:
    """The source files of minifw, without minifw.testing, which uses autograd."""
    return sorted(path for path in (ROOT / "minifw").rglob("*.py") if "testing" not in path.parts)


def findings(source: str) -> list[str]:
    """Names in a file that use autograd or change torch's global state."""
    found = []

    def names_torch(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == "torch"

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("torch.") or a.asname]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            found += [
                f"{node.module}.{a.name}"
                for a in node.names
                if (node.module, a.name) not in _IMPORTS
            ]
        elif isinstance(node, ast.Attribute):
            if names_torch(node.value) and node.attr in _MODULES | {"no_grad"}:
                found.append(f"torch.{node.attr}")
            if node.attr.endswith("_backward") or node.attr in _ATTRIBUTES:
                found.append(node.attr)
        elif isinstance(node, ast.Name) and node.id.endswith("_backward"):
            found.append(node.id)
        elif isinstance(node, ast.Call):
            keywords = {k.arg for k in node.keywords}
            function = node.func
            if "requires_grad" in keywords and (
                isinstance(function, ast.Attribute) and names_torch(function.value)
            ):
                found.append("requires_grad of a tensor")
            if isinstance(function, ast.Name) and function.id in ("__import__", "eval", "exec"):
                found.append(function.id)
            if isinstance(function, ast.Name) and function.id == "getattr":
                found += ["getattr(torch)"] if names_torch(node.args[0]) else []
    return found


def findings_in(path: Path) -> list[str]:
    """:func:`findings` in a file. One of ``plans`` may make its calls in inference mode."""
    allowed = {"inference_mode"} if path.parent.name == "plans" else set()
    return [found for found in findings(path.read_text("utf-8")) if found not in allowed]


class Watch(TorchDispatchMode):
    """Counts every operation, and records those with a tensor that requires grad."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: dict[str, int] = {}
        self.requiring_grad: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **kwargs or {})
        name = str(function)
        self.operations[name] = self.operations.get(name, 0) + 1
        leaves = tree_leaves((args, kwargs, result))
        if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves):
            self.requiring_grad.add(name)
        return result


def state() -> dict[str, Any]:
    """The global state of torch."""
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "random generator": torch.get_rng_state().tolist(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
    }


@dataclass(frozen=True)
class Certificate:
    """The evidence, and everything found against the claim.

    Attributes:
        files: number of source files scanned.
        source: by file, forbidden names.
        operations: torch operations of the training runs, with counts.
        backward_kernels: the backward kernels among them.
        requiring_grad: those with a tensor that required grad.
        graphs: tensors left by training that carry a graph.
        changed: parts of torch's global state that changed.
    """

    files: int
    source: Mapping[str, list[str]]
    operations: Mapping[str, int]
    backward_kernels: tuple[str, ...]
    requiring_grad: tuple[str, ...]
    graphs: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was found against the claim."""
        return bool(self.operations) and not (
            self.source
            or self.backward_kernels
            or self.requiring_grad
            or self.graphs
            or self.changed
        )

    def __str__(self) -> str:
        def say(what: str, found: Any) -> str:
            return f"  {'FAILED' if found else 'PASSED'} {what}{f': {found}' if found else ''}"

        return "\n".join(
            [
                f"Certificate of no autograd: {'it holds' if self.holds else 'it does not hold'}",
                say(
                    f"the source, without minifw.testing, uses no autograd ({self.files} files)",
                    self.source,
                ),
                say("no backward kernel ran", self.backward_kernels),
                say("no tensor required grad", self.requiring_grad),
                say("no graph was left", self.graphs),
                say("torch's global state is unchanged", self.changed),
                f"  torch operations used: {len(self.operations)}; --json lists them",
            ]
        )


def certify(epochs: int = 1) -> Certificate:
    """Train every recipe on minifw for some epochs, and record all operations.

    Each is trained twice: by replay of captured calls and eagerly, with autograd switched on.
    """
    scanned = {path: findings_in(path) for path in framework_files()}
    graphs = []
    before = state()
    watch = Watch()
    for context in (nullcontext, plans.disabled):
        runs = {recipe.name: prepare(recipe, MINIFW, seed=0) for recipe in RECIPES.values()}
        with watch, context():
            for run in runs.values():
                run.fit(epochs)
        for name, run in runs.items():
            left = {**run.model.state_dict()}
            left |= {f"{path}.grad": p.grad for path, p in run.model.named_parameters()}
            graphs += [
                f"{name}: {path}"
                for path, t in left.items()
                if t.requires_grad or t.grad_fn is not None
            ]
    after = state()
    return Certificate(
        files=len(scanned),
        source={path.name: found for path, found in scanned.items() if found},
        operations=watch.operations,
        backward_kernels=tuple(sorted(name for name in watch.operations if "backward" in name)),
        requiring_grad=tuple(sorted(watch.requiring_grad)),
        graphs=tuple(graphs),
        changed=tuple(name for name, value in before.items() if after[name] != value),
    )
