"""A project of somebody else's, with packages named as ours are, and two tests of its layers."""

from pathlib import Path

__all__ = ["write_project"]

TESTS = """
import bench, reference, minifw, torch
from minifw import nn

class Cube(nn.Module):
    def rule(self, input):
        return input**3, lambda grad_output: grad_output * 3 * input**2

class Wrong(nn.Module):
    def rule(self, input):
        return input**3, lambda grad_output: grad_output * 2 * input**2

class Reference(torch.nn.Module):
    def forward(self, input):
        return input**3

def test_right(verify_backward):
    assert "site-packages" in minifw.__file__
    assert bench.OURS and reference.OURS
    verify_backward(Cube, Reference, ["4,3"], dtypes=["float64"], max_examples=5)

def test_wrong(verify_backward):
    verify_backward(Wrong, Reference, ["4,3"], dtypes=["float64"], max_examples=5)
"""


def write_project(folder: Path) -> None:
    """Write the project, of which ``test_right`` is to pass and ``test_wrong`` to fail."""
    folder.mkdir()
    (folder / "test_cube.py").write_text(TESTS)
    for package in ("bench", "reference"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("OURS = True")
