import subprocess

import torch

from bench.cli import provenance


def test_names_processor_torch_blas_and_commit():
    made = provenance.provenance()
    assert made["torch"] == torch.__version__
    assert made["threads"] == str(torch.get_num_threads())
    assert made["processor"]
    assert made["blas"]
    assert all(isinstance(value, str) for value in made.values())


def test_the_commit_is_marked_if_sources_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    source = tmp_path / "bench" / "provenance.py"
    source.parent.mkdir()
    source.write_text("1")
    assert provenance.provenance()["commit"] == "", "no clone"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=none", "-c", "user.email=none@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = provenance.provenance()["commit"]
    assert len(commit) == 12
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.csv").write_text("1")
    assert provenance.provenance()["commit"] == commit, "results are no sources"
    source.write_text("2")
    assert provenance.provenance()["commit"] == f"{commit} and changes"


def test_a_sentence_names_what_was_found():
    made = provenance.provenance() | {"commit": ""}
    sentence = provenance.describe(made)
    for name in ("date", "processor", "numpy", "python", "blas"):
        assert made[name] in sentence
    assert "commit unknown" in sentence
