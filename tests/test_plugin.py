"""The pytest plugin, in a project of somebody else."""

import shlex
from pathlib import Path

import pytest

from minifw.testing.command_line import main

EXAMPLES = Path(__file__).parent.parent / "bench" / "examples"
PROJECT = f"""
import sys
import torch
sys.path.insert(0, {str(EXAMPLES)!r})
from autograd_function import Swish, WrongSwish

def test_right(verify_backward):
    for shape in ("4,3", (4, 3)):
        report = verify_backward(Swish, torch.nn.SiLU, [shape], max_examples=2, dtypes=["float64"])
        assert report.status == "PASSED"

def test_wrong(verify_backward):
    verify_backward(WrongSwish, torch.nn.SiLU, [(4, 3)], max_examples=5)

def test_not_to_be_compared(verify_backward):
    verify_backward(Swish, torch.nn.Linear, ["4,3"], (3, 2))
"""
# Packages of the names of this repository's own, and a test that uses nothing of the plugin.
BENCH = """
import sys
import bench.mine

def test_nothing():
    assert bench.mine.NAME == "mine"
    assert not {"torch", "hypothesis", "rich"} & set(sys.modules)
"""


def test_the_fixture_in_another_project(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(PROJECT)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["*FAILED WrongSwish against torch.nn.SiLU: the derivative is wrong*"]
    )
    result.stdout.fnmatch_lines(["*UsageError: *"])
    line = next(line for line in result.outlines if "minifw verify" in line)
    command = shlex.split(line[line.index("minifw verify") :])
    assert command[2].endswith("autograd_function.py:WrongSwish")
    capsys.readouterr()
    assert main(command[1:]) == 1
    assert "input.0.grad" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["-p", "no:minifw"]])
def test_a_project_that_does_not_use_it_loads_nothing(
    pytester: pytest.Pytester, options: list[str]
) -> None:
    package = pytester.mkpydir("bench")
    (package / "mine.py").write_text("NAME = 'mine'\n", encoding="utf-8")
    pytester.makepyfile(BENCH)
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=1)
