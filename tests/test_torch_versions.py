import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench import compare, torch_versions, verify
from reference import torch_changes

Leave = Callable[..., None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What verify.py and compare.py write of this version."""
    folder = tmp_path_factory.mktemp("made")
    only = ["--only", "ReLU()-9", "--output-dir", str(folder)]
    assert verify.main(["--quick", *only]) == 0
    short = "--recipes relu-mse xavier-tanh --seeds 2 --epochs 1 --rounds 6 --output-dir"
    assert compare.main([*short.split(), str(folder)]) == 0
    return folder


@pytest.fixture
def leave(made: Path) -> Leave:
    """To leave the like of a version in a folder, as tox does."""

    def leave(folder: Path, version: str, failures: int = 0, status: str = "PASSED") -> None:
        folder.mkdir(parents=True)
        (folder / "tests.xml").write_text(
            f'<testsuites><testsuite tests="10" errors="0" failures="{failures}" skipped="2"/>'
            "</testsuites>"
        )
        verified = pd.read_csv(made / "verification.csv")
        verified.loc[0, "status"] = status
        verified.to_csv(folder / "verification.csv", index=False)
        comparison = json.loads((made / "comparison.json").read_text())
        comparison["provenance"]["torch"] = version
        (folder / "comparison.json").write_text(json.dumps(comparison))

    return leave


def test_a_row_a_version_in_their_order(leave, made, tmp_path, capsys):
    for name, version in (("torch215", "2.15.0+cpu"), ("torch24", "2.4.1+cu121")):
        leave(tmp_path / "versions" / name, version)
    arguments = [str(tmp_path / "versions"), "--output-dir", str(tmp_path)]
    assert torch_versions.main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["torch"] for row in rows] == ["2.4.1+cu121", "2.15.0+cpu"]
    assert rows[0]["tests passed"] == 8
    verified = pd.read_csv(made / "verification.csv")
    assert rows[0]["error in float32"] == pytest.approx(verified["of bound in float32"].max())
    assert rows[0]["error in bfloat16"] is None, "which verify.py --quick does not look at"
    assert rows[0]["units verified"] == len(verified)
    speed = pd.read_csv(made / "speed.csv").query("part == 'epoch'")
    smallest, largest = speed["ratio"].min(), speed["ratio"].max()
    assert (rows[0]["smallest ratio"], rows[0]["largest ratio"]) == pytest.approx(
        (smallest, largest), rel=1e-3
    )
    written = (tmp_path / "torch_versions.md").read_text()
    assert f"({smallest:.2f} to {largest:.2f})" in written
    assert torch_changes.CHANGES["decoupled Adam"].what in written
    assert len(pd.read_csv(tmp_path / "torch_versions.csv")) == 2


@pytest.mark.parametrize("bad", [{"failures": 1}, {"status": "FAILED"}], ids=str)
def test_exits_1_if_anything_failed_in_a_version(leave, tmp_path, bad):
    leave(tmp_path / "versions" / "torch24", "2.4.1", **bad)
    assert torch_versions.main([str(tmp_path / "versions"), "--output-dir", str(tmp_path)]) == 1


@pytest.mark.parametrize("name", ["tests.xml", "verification.csv", "comparison.json"])
@pytest.mark.parametrize("content", [None, "", "{}"])
def test_what_is_not_whole_is_named(leave, tmp_path, capsys, name, content):
    leave(tmp_path / "torch24", "2.4.1")
    (tmp_path / "torch24" / name).unlink()
    if content is not None:
        (tmp_path / "torch24" / name).write_text(content)
    with pytest.raises(SystemExit, match="2"):
        torch_versions.main([str(tmp_path), "--output-dir", str(tmp_path)])
    assert "run tox -e" in capsys.readouterr().err


def test_a_change_is_lacking_up_to_the_version_that_it_names(monkeypatch):
    change = torch_changes.CHANGES["BatchNorm1d bias"]
    assert change.missing_in == (2, 8)
    for version, lacking in (("2.4.1+cu121", True), ("2.8.0", True), ("2.13.0a0+git", False)):
        monkeypatch.setattr(torch, "__version__", version)
        assert torch_changes.lacks("BatchNorm1d bias") == lacking
