"""What is not tried: sizes that do not fit into memory, and what takes too long."""

import torch
from torch import Tensor, nn

from minifw.testing import check as engine
from minifw.testing import verification, verify
from minifw.testing.case import Input
from minifw.testing.catalog import catalog
from minifw.testing.comparison import Comparison
from minifw.testing.example import DTYPES, Example, ordinary
from minifw.testing.subjects.make import entries


def double(input: Tensor) -> Tensor:
    return input * 2


def test_a_check_and_a_fuzzer_that_take_too_long_are_cut_short_and_that_is_said(monkeypatch):
    monkeypatch.setattr(verification, "PATIENCE", 0.0)
    monkeypatch.setattr(verification, "PATIENCE_FOR_FUZZING", 0.0)
    report = verify(double, double, ["4,3"], dtypes=["float64"], max_examples=5)
    said = "\n".join(report.not_verified)
    assert report.status == "PASSED"
    assert "sizes or values took too long" in said
    assert "of 5 fuzzed examples took too long" in said


def test_minifw_own_rows_are_tried_to_the_end(monkeypatch):
    monkeypatch.setattr(verification, "PATIENCE", 0.0)
    monkeypatch.setattr(verification, "PATIENCE_FOR_FUZZING", 0.0)
    report = verify(double, double, ["4,3"], contract="minifw", dtypes=["float64"], max_examples=5,
                    skip=["cross-check", "gradcheck"])  # fmt: skip
    assert "took too long" not in "\n".join(report.not_verified)


def test_fewer_draws_of_the_control_where_one_takes_long(monkeypatch):
    assert len(list(engine._draws())) == engine.DRAWS
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    assert len(list(engine._draws())) == engine.FEWEST_DRAWS


def test_sizes_are_tried_where_inputs_parameters_and_outputs_fit_into_memory():
    conv = Comparison("Conv2d", nn.Conv2d, nn.Conv2d, (Input((2, 3, 7, 8)),), (3, 8, 3))
    tried = [example.sizes.get(3, 0) for example in catalog(comparison=conv)["sizes"].examples]
    assert 17 in tried
    # Channels and kernel at once: 8 * 1025**3 weights.
    assert 1025 not in tried
    assert entries(conv.resized(Example(sizes={3: 1025}))) > 8 * 1025**3


def test_of_float16_numbers_of_ordinary_size_are_asked():
    assert [ordinary(Example(dtype=name, scale=1000.0)).scale for name in DTYPES] == [
        10.0 if name == "float16" else 1000.0 for name in DTYPES
    ]


def test_a_convolution_by_channel_has_as_many_groups_as_channels():
    by_channel = Comparison(
        "Conv2d", nn.Conv2d, nn.Conv2d, (Input((2, 4, 5, 6)),), (4, 4, 3), {"groups": 4}
    )
    made = by_channel.resized(Example(sizes={4: 7}))
    assert made.options == {"groups": 7}
    module: torch.nn.Module = made.reference(*made.arguments, **made.options)
    assert sum(parameter.numel() for parameter in module.parameters()) == 7 * 3 * 3 + 7
