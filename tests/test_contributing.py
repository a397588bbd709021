"""CONTRIBUTING.md adds a layer: what it says is done in a copy of the tree, word for word."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def newcomers(tmp_path_factory):
    """A copy of the tree in which the section on activations has been followed."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("minifw", "reference", "bench"):
        shutil.copytree(ROOT / folder, tree / folder)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    before_the_verdict = text.partition("**5.")[0]
    layer, package, functional, cases = re.findall(r"`([\w/]+\.py)`", before_the_verdict)
    (tree / layer).write_text(blocks[0], encoding="utf-8")
    for file, line in ((package, blocks[1]), (functional, blocks[2])):
        name = line.split()[-1]
        _change(tree / file, "__all__ = [", f'{line}\n__all__ = ["{name}", ')
    _change(tree / cases, "_ELEMENTWISE = (*(", f'_ELEMENTWISE = (*("{blocks[1].split()[-1]}", ')
    return tree, tree / layer


def _change(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path} has not one {before!r}"
    path.write_text(text.replace(before, after), encoding="utf-8")


def _verify(tree):
    return subprocess.run(
        [sys.executable, "bench/verify.py", "--only", "Tanhshrink", "--quick", "--jobs", "1"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_new_layer_is_verified(newcomers):
    tree, _ = newcomers
    verdict = _verify(tree)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "2 PASSED" in verdict.stdout


def test_the_new_layer_with_the_mistake_that_it_suggests_is_found_wrong(newcomers):
    tree, layer = newcomers
    _change(layer, ".square()", "")
    verdict = _verify(tree)
    assert verdict.returncode == 1
    assert "2 FAILED" in verdict.stdout
    assert "--example" in verdict.stdout


def test_ci_runs_the_hooks_which_name_no_environment():
    hooks = re.findall(r"entry: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert {"codespell", "ruff", "mypy", "trailing-whitespace-fixer"} <= set(hooks)
    assert [] == [hook for hook in hooks if "/" in hook]
    assert "pre-commit run --all-files" in (ROOT / ".ci" / "run").read_text("utf-8")
