"""The wheel as somebody else installs it: alone, and with what it takes to verify a layer."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from scratch_project import write_project

ROOT = Path(__file__).parents[1]
ROUNDS = 5


def main() -> None:
    """Do what a newcomer does, and print what came and what the plugin adds to pytest's start."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
        subprocess.run([sys.executable, "-m", "pip", *build], check=True)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / "bin" / "python"
        before = _packages(python)

        _install(python, f"{wheel}")
        alone = _packages(python)
        print(f"the wheel alone: {alone - before} packages")
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        # All but the test, which is of a clone.
        snippets = "\n".join(block for block in blocks if "from bench" not in block)
        subprocess.run([python, "-c", snippets], cwd=folder, check=True)

        _install(python, "pytest")
        with_pytest = _packages(python)
        _install(python, f"{wheel}[testing]")
        print(f"[testing] beside pytest: {_packages(python) - with_pytest} packages more")
        project = folder / "project"
        write_project(project)
        tests = _pytest(python, project)
        if "1 failed, 1 passed" not in tests.stdout:
            sys.exit(f"expected 1 failed, 1 passed:\n{tests.stdout}{tests.stderr}")

        (project / "test_nothing.py").write_text("def test_nothing(): pass")
        # The first of each is not counted: it compiles what the others load.
        differences = [_seconds(python, project) for _ in range(1 + ROUNDS)][1:]
        times = ", ".join(f"{1000 * difference:+.0f}" for difference in differences)
        print(
            f"the plugin adds {1000 * median(differences):+.0f} ms to the start of pytest "
            f"(median of {times}; less than 50 are wanted)"
        )


def _install(python: Path, requirement: str) -> None:
    constraints = ROOT / "constraints.txt"
    command = [python, "-m", "pip", "install", "--quiet", "-c", constraints, requirement]
    subprocess.run(command, check=True)


def _packages(python: Path) -> int:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"],
        check=True,
        capture_output=True,
        text=True,
    )
    return len(listed.stdout.splitlines())


def _pytest(python: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without our own modules, which PYTHONPATH names.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _seconds(python: Path, project: Path) -> float:
    """By how much a run of one empty test is longer with the plugin than without it."""

    def run(*arguments: str) -> float:
        # The processor's time: what else the machine does is not counted.
        before = os.times()
        _pytest(python, project, "test_nothing.py", *arguments).check_returncode()
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    without = run("-p", "no:minifw")
    return run() - without


if __name__ == "__main__":
    main()
