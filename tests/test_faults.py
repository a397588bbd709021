"""The tester tested: every fault of the catalog is found, and nothing but faults."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from torch import Tensor

import minifw
from bench.faults import FAULTS, Fault, replaced
from bench.faults.kill_matrix import (
    LAYER_CHECKS,
    KillMatrix,
    kill_matrix,
    rows,
    try_checks,
)
from bench.faults.kill_report import write_kill_matrix
from bench.faults.normalization import _batch_norm, _layer_norm
from minifw import nn
from reference.cases import CASES

# What kills most comes first, and what takes long last: the first check that kills is enough.
EXPENSIVE = ("fuzzing", "gradcheck", "cross-check", "long-sums", "sizes")
FIRST = ("values-float64", "accumulated", "frozen", "two-forwards", "initial-parameters", "kinks",
         "ties", "nan", "infinities", "largest", "large-numbers", "empty-batch")  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_check_kills_the_fault(fault: Fault) -> None:
    others = (name for name in LAYER_CHECKS if name not in FIRST + EXPENSIVE)
    order = (*FIRST, *others, *EXPENSIVE)
    assert any(killed for _, killed in try_checks(fault, order)), "it survives"


def test_the_catalog_names_each_fault_once() -> None:
    assert len(FAULTS) >= 60
    assert len(FAULTS) == len({fault.name for fault in FAULTS})
    assert all(fault.name and fault.name == fault.name.strip() for fault in FAULTS)


def test_a_fault_is_in_its_own_copy_alone() -> None:
    before = nn.Linear
    framework = replaced(minifw, "nn.Linear", nn.Tanh)
    assert framework.nn.Linear is nn.Tanh
    assert minifw.nn.Linear is before
    assert framework.optim is minifw.optim


def test_what_the_faults_of_normalization_start_from_is_right() -> None:
    class Layer(nn.LayerNorm):
        def rule(self, input: Tensor) -> Any:
            return _layer_norm(self, input)

    class Batch(nn.BatchNorm1d):
        def rule(self, input: Tensor) -> Any:
            right = super().rule(input)
            return _batch_norm(self, input) if self.training and input.numel() else right

    for where, formula in (("nn.LayerNorm", Layer), ("nn.BatchNorm1d", Batch)):
        checks = ("values-float64", "values-float32", "accumulated", "gradcheck")
        found = dict(try_checks(Fault("none", where, formula), checks))
        assert checks == tuple(found), "other checks were made"
        assert not any(found.values()), where


def test_rows_have_every_option_of_their_module_and_a_composite() -> None:
    for module in {case.module for case in CASES}:
        chosen = rows(module)
        options = {
            str(option)
            for case in CASES
            if case.module == module
            for option in case.options.items()
        }
        assert options == {
            str(option)
            for case in chosen
            if case.module == module
            for option in case.options.items()
        }
    assert "Residual" == rows("ReLU")[-1].module


def test_the_matrix_counts_kills_and_names_what_is_redundant() -> None:
    numbers = [number for number, fault in enumerate(FAULTS) if fault.where == "data.one_hot"]
    matrix = kill_matrix(1, Console(quiet=True), numbers)
    assert {numbers[0]: {"one-hot rows": True}} == matrix.kills
    assert [] == matrix.survivors()
    (row,) = matrix.faults().to_dict("records")
    assert ("data.one_hot", 1, "one-hot rows") == (row["where"], row["killed by"], row["first"])
    checks = matrix.checks().set_index("check")
    assert (1, 1, 1) == tuple(checks.loc["one-hot rows", ["tried on", "kills", "kills alone"]])
    assert "one-hot rows" not in matrix.redundant()
    assert "values-float64" in matrix.redundant()

    lost = KillMatrix({numbers[0]: {"one-hot rows": False, "draws": False}})
    assert [FAULTS[numbers[0]].name] == lost.survivors()
    assert "none" == lost.faults()["first"].item()


def test_the_results_are_a_table_a_report_and_a_picture(tmp_path: Path) -> None:
    matrix = KillMatrix(
        {
            number: {"values-float64": True, "ties": False}
            if fault.where == "nn.Linear"
            else {"one-hot rows": False}
            for number, fault in enumerate(FAULTS)
            if fault.where in ("nn.Linear", "data.one_hot")
        }
    )
    write_kill_matrix(matrix, tmp_path)
    frame = pd.read_csv(tmp_path / "kill_matrix.csv", index_col=["where", "fault"])
    assert len(matrix.kills) == len(frame) == frame["values-float64"].sum() + 1
    report = (tmp_path / "kill_matrix.md").read_text()
    assert f"{len(frame) - 1} of {len(frame)} faults are killed" in report
    assert "survivors: one_hot counts classes from 1." in report
    assert "faults killed by" in (tmp_path / "kill_matrix.svg").read_text()
