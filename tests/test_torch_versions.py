import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench import torch_versions
from bench.equivalence.example import DTYPES
from reference import torch_changes


def leave(folder: Path, version: str, failures: int = 0, status: str = "PASSED") -> None:
    """What tox leaves of a version."""
    folder.mkdir(parents=True)
    (folder / "tests.xml").write_text(
        f'<testsuites><testsuite tests="10" errors="0" failures="{failures}" skipped="2"/>'
        "</testsuites>"
    )
    shares = {f"of bound in {dtype}": [0.1, 0.4] for dtype in DTYPES}
    pd.DataFrame({"case": ["ReLU", "Tanh"], "status": ["PASSED", status], **shares}).to_csv(
        folder / "verification.csv", index=False
    )
    rows = [
        {"framework": framework, "speedup": speedup}
        for framework, speedup in (("minifw", 1.5), ("pytorch", 1.0), ("minifw", 2.0))
    ]
    made = {"torch": version, "processor": "a processor", "date": "a day"}
    (folder / "comparison.json").write_text(json.dumps({"table": rows, "provenance": made}))


def test_a_row_a_version_in_their_order(tmp_path, capsys):
    for name, version in (("torch215", "2.15.0+cpu"), ("torch24", "2.4.1+cu121")):
        leave(tmp_path / "versions" / name, version)
    arguments = [str(tmp_path / "versions"), "--output-dir", str(tmp_path)]
    assert torch_versions.main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["torch"] for row in rows] == ["2.4.1+cu121", "2.15.0+cpu"]
    assert rows[0]["tests passed"] == 8
    assert rows[0]["error in float32"] == 0.4
    assert (rows[0]["slowest speedup"], rows[0]["fastest speedup"]) == (1.5, 2.0)
    written = (tmp_path / "torch_versions.md").read_text()
    assert "1.75 (1.50 to 2.00)" in written
    assert torch_changes.CHANGES["decoupled Adam"].what in written
    assert len(pd.read_csv(tmp_path / "torch_versions.csv")) == 2


@pytest.mark.parametrize("bad", [{"failures": 1}, {"status": "FAILED"}], ids=str)
def test_exits_1_if_anything_failed_in_a_version(tmp_path, bad):
    leave(tmp_path / "versions" / "torch24", "2.4.1", **bad)
    assert torch_versions.main([str(tmp_path / "versions"), "--output-dir", str(tmp_path)]) == 1


@pytest.mark.parametrize("name", ["tests.xml", "verification.csv", "comparison.json"])
@pytest.mark.parametrize("content", [None, "", "{}"])
def test_what_is_not_whole_is_named(tmp_path, capsys, name, content):
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
