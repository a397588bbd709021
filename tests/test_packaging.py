"""The wheel holds what it should, and works where nothing of this repository lies about."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from scratch_project import write_project

import minifw

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.wheel


def _pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--no-cache-dir", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


def test_the_wheel_holds_minifw_with_all_its_files_and_nothing_else(wheel):
    version = minifw.__version__
    assert wheel.name == f"minifw-{version}-py3-none-any.whl"
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "minifw").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "minifw/py.typed" in held


def test_a_wheel_in_an_empty_environment_verifies_a_layer_of_a_project_elsewhere(wheel, tmp_path):
    # The environment is empty but for the wheel; its dependencies are those of this one, whose
    # folder a line in a .pth file adds, without what is installed there as editable.
    venv.create(tmp_path / "environment", with_pip=False)
    python = tmp_path / "environment" / "bin" / "python"
    _pip("--python", python, "install", "--no-deps", wheel)
    (site,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    project = tmp_path / "project"
    write_project(project)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_cube.py::test_wrong" in done.stdout
