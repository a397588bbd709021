"""How the files of minifw depend on each other: no cycles, and stacks in a file of their own."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import minifw

PACKAGE = Path(minifw.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and "testing" not in path.relative_to(PACKAGE).parts
}


def imports(name: str) -> set[str]:
    """The modules of minifw that a file imports anywhere, also under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


def test_the_import_graph_has_no_cycles() -> None:
    graph = {name: imports(name) for name in MODULES}
    assert "minifw.nn.rule" in graph["minifw.nn.tape"]
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["nn.linear", "nn.loss", "data", "training", "callbacks"])
def test_what_is_read_first_knows_nothing_of_stacks(name: str) -> None:
    assert "member" not in MODULES[f"minifw.{name}"].read_text("utf-8")
