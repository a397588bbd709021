"""Whatever is imported is declared in pyproject.toml, and the reverse."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What is used without an import: by pandas to print tables, by a command line, by other packages.
NOT_IMPORTED = {
    *("numpy", "pytest-benchmark", "pytest-cov", "pytest-xdist", "hatchling"),
    *("codespell", "mypy", "pandas-stubs", "pre-commit", "ruff", "tox", "furo", "sphinx"),
    "pre-commit-hooks",
    *("myst-parser",),
}
OURS = {"minifw", "bench", "reference", "docs"} | {
    path.stem
    for folder in ("tests", "docs", "bench/examples")
    for path in (ROOT / folder).glob("*.py")
}


def names(requirements: list[str]) -> set[str]:
    """The distributions of requirements, with those of the extras of minifw among them."""
    found = set()
    for requirement in requirements:
        name = re.split(r"[\[<>=! ]", requirement)[0]
        extras = re.search(r"\[(.*)\]", requirement)
        if name == "minifw" and extras:
            for extra in extras[1].split(","):
                found |= names(PROJECT["optional-dependencies"][extra])
        elif name != "minifw":
            found.add(name.lower())
    return found


def declared(*extras: str) -> set[str]:
    return names(PROJECT["dependencies"]) | names([f"minifw[{','.join(extras)}]"] if extras else [])


def imported(path: Path) -> set[str]:
    """The packages that a file imports, of the standard library and of this project apart."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").split(".")[0])
    return packages - set(sys.stdlib_module_names) - OURS


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def distributions(paths: list[Path]) -> set[str]:
    known = packages_distributions()
    packages = set().union(*map(imported, paths))
    # Of what is not installed, such as jax, package and distribution have one name.
    return {known.get(package, [package])[0].lower() for package in packages}


FRAMEWORK = [path for path in files("minifw") if "testing" not in path.parts]
TIMING = files("minifw/testing/timing")
PARTS: dict[str, Any] = {
    # For a progress bar and for to_frame(), asked for when they are used.
    "minifw": (FRAMEWORK, {"pandas", "rich"}, ()),
    # pytest finds the plugin; whoever runs it has it.
    "testing": (set(files("minifw/testing")) - set(TIMING), {"pytest"}, ("testing",)),
    "timing": (TIMING, set(), ("timing",)),
    "bench": (files("bench", "reference"), set(), ("bench", "dask", "peers")),
    "docs": (files("docs"), set(), ("docs",)),
    "test": (files("tests"), {"jax", "tinygrad"}, ("test",)),
}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_imported_is_declared(part: str) -> None:
    paths, allowed, extras = PARTS[part]
    assert set() == distributions(paths) - declared(*extras) - allowed


def test_what_is_declared_is_imported_or_has_a_reason() -> None:
    everything = declared(*PROJECT["optional-dependencies"])
    found = distributions(files("minifw", "bench", "reference", "tests", "docs"))
    assert set() == everything - found - NOT_IMPORTED


def test_nothing_else_in_minifw_imports_its_testing() -> None:
    def asks(path: Path) -> bool:
        return any(
            (node.module if isinstance(node, ast.ImportFrom) else alias.name)
            .__str__()
            .startswith("minifw.testing")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        )

    # `python -m minifw` is the command of the testing package.
    assert ["__main__.py"] == [path.name for path in FRAMEWORK if asks(path)]
