"""The README shows what is so."""

import argparse
import functools
import importlib
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.faults import FAULTS
from bench.mistakes import MISTAKES
from minifw.testing.command_line import main

ROOT = Path(__file__).parents[1]


def test_the_table_is_the_one_in_results():
    table = (ROOT / "results" / "comparison.md").read_text(encoding="utf-8").strip()
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_verdict_is_what_the_command_prints(capsys, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = readme.split("```sh\n.venv/bin/minifw ")[1].split("```")[0]
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 1
    verdict = readme.split("```text\n")[1].split("```")[0]
    # The last digits are the machine's.
    shape = lambda text: re.sub(r"\d[\d.e+-]*|-{3,}| +", " ", text)  # noqa: E731
    assert shape(verdict) == shape(capsys.readouterr().out)


def test_the_number_of_faults_is_that_of_the_catalog():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(FAULTS)} deliberate faults" in readme


def test_the_number_of_wrong_subjects_is_that_of_the_catalog():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = len([row for row in MISTAKES if not row.missed])
    assert f"Of {len(MISTAKES)} [wrong subjects](bench/mistakes)" in readme
    assert f"{found} are found" in readme


@pytest.fixture(scope="module")
def blocks():
    """What the README's Python blocks define, each run after those before it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    with torch.random.fork_rng():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(block, namespace)
    return namespace


def test_the_first_block_trains(blocks):
    assert blocks["grad_input"].shape == (100, 2)
    assert torch.isfinite(blocks["loss"])


def test_the_test_in_it_passes(blocks, verify_backward):
    verify_few = functools.partial(verify_backward, max_examples=3)
    blocks["test_swish"](verify_few)


def test_the_stack_in_it_gives_every_member_back(blocks):
    assert len(blocks["models"]) == len(blocks["losses"]) == 32


def test_the_layer_and_the_module_in_it_equal_autograd(blocks):
    block = blocks["Block"]().to(torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 4, 25, generator=generator, dtype=torch.float64)

    output = block(x)
    grad_input = block.backward(g)

    weight, bias = (tensor.clone() for tensor in block.state_dict().values())
    x.requires_grad_()
    linear = torch.nn.functional.linear
    expected = torch.nn.functional.tanhshrink(linear(linear(x, weight, bias), weight, bias))
    expected.backward(g)
    torch.testing.assert_close(output, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad_input, x.grad, rtol=1e-12, atol=1e-15)


def _commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        for command in " ".join(map(shlex.quote, shlex.split(line, comments=True))).split("'&&'"):
            if command:
                yield pytest.param(shlex.split(command), id=f"{page}: {command.strip()}")


@pytest.mark.parametrize("command", [*_commands("README.md"), *_commands("CONTRIBUTING.md")])
def test_a_command_is_one_that_would_be_accepted(command, monkeypatch):
    program, *arguments = command
    tool = program.removeprefix(".venv/bin/")
    if tool == "python":
        assert _is_accepted(arguments[0], arguments[1:], monkeypatch)
    elif tool == "pip":
        asked = re.fullmatch(r"\.(?:\[(\w+)\])?", arguments[-1])
        assert asked
        extra = asked[1]
        assert arguments[:-1] == ["install", "-q", "-c", "constraints.txt", "-e"]
        assert extra is None or extra in PROJECT["optional-dependencies"]
    elif tool == "pytest":
        for flag in [argument for argument in arguments if argument.startswith("-")]:
            name = re.escape(flag.partition("=")[0])
            assert re.search(rf"(?m)^ *(-\w, )?{name}\b", _help_of_pytest()), flag
        for path in [argument for argument in arguments if argument.startswith("tests/")]:
            assert (ROOT / path).exists()
    elif program.startswith(".venv/"):
        requirements = " ".join(itertools.chain(*PROJECT["optional-dependencies"].values()))
        assert re.search(rf"\b{tool.removesuffix('-build')}\b", requirements), tool
    else:
        plain = (
            ["python3", "-m", "venv", ".venv"],
            ["cp", "results/comparison.json", "before.json"],
        )
        assert command in plain or (ROOT / program).is_file()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@functools.cache
def _help_of_pytest():
    command = [sys.executable, "-m", "pytest", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _is_accepted(script, arguments, monkeypatch):
    """Whether a command line of ours takes the arguments; the work is not begun."""

    class AcceptedError(BaseException):  # which no command takes for a failure of its own
        pass

    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(*arguments, **options):
        parse(*arguments, **options)
        raise AcceptedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    try:
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).main(arguments)
    except AcceptedError:
        return True
    except SystemExit as stop:
        return stop.code in (None, 0)  # --help
    return False
