"""The worked examples: of each kind of subject the right one passes and the wrong one fails."""

from pathlib import Path
from typing import Any

import pytest

from minifw.testing import Status
from minifw.testing.check import check
from minifw.testing.comparison import Comparison
from minifw.testing.example import Example
from minifw.testing.from_text import comparison_from_text
from minifw.testing.subjects import supported_dtypes
from minifw.testing.verdict import overall

EXAMPLES = Path(__file__).parent.parent / "bench" / "examples"

# By kind: right, wrong, reference, inputs, and what else is given.
KINDS: dict[str, Any] = {
    "adapter": ("adapter.py:Linear", "adapter.py:WrongLinear", "torch.nn.Linear", ["4,5"],
                {"init": "5, 3"}),
    "autograd function": ("autograd_function.py:Linear", "autograd_function.py:WrongLinear",
                          "torch.nn.Linear", ["4,5"], {"init": "5, 3"}),
    "custom op": ("custom_op.py:square", "custom_op.py:wrong_square", "torch.square", ["4,3"], {}),
    "derivative": ("derivative.py:sigmoid,sigmoid_prime",
                   "derivative.py:sigmoid,wrong_sigmoid_prime", "torch.sigmoid", ["4,3"], {}),
    "function": ("function.py:softmax", "function.py:wrong_softmax", "F.softmax", ["4,3"],
                 {"call": "dim=0"}),
    "function pair": ("function_pair.py:affine",
                      "function_pair.py:affine_forward,wrong_affine_backward", "Linear", ["4,5"],
                      {"reference_init": "5, 3"}),
    "inputs of one's own": ("inputs.py:Lookup", "inputs.py:WrongLookup",
                            f"{EXAMPLES}/inputs.py:lookup", [f"{EXAMPLES}/inputs.py:make_inputs"],
                            {}),
    "layer object": ("layer_object.py:Linear", "layer_object.py:WrongLinear", "Linear", ["4,5"],
                     {"init": "5, 3"}),
    "loss function": ("loss_function.py:softmax_loss", "loss_function.py:wrong_softmax_loss",
                      "F.cross_entropy", ["4,3", "4:long:3"], {}),
    "loss object": ("loss_object.py:MSE", "loss_object.py:WrongMSE", "MSELoss", ["4,3", "4,3"], {}),
    "minifw module": ("minifw_layer.py:Tanhshrink", "minifw_layer.py:WrongTanhshrink", "Tanhshrink",
                      ["4,3"], {}),
    "NumPy layer": ("numpy_layer.py:Dense", "numpy_layer.py:WrongDense", "Linear", ["4,5"],
                    {"init": "3", "reference_init": "5, 3"}),
    "torch module": ("torch_module.py:RMSNorm", "torch_module.py:WrongRMSNorm", "RMSNorm", ["4,5"],
                     {"init": "5, eps=1e-3"}),
    "updating layer": ("updating_layer.py:Layer", "updating_layer.py:WrongLayer", "Linear", ["4,5"],
                       {"init": "5, 3"}),
}  # fmt: skip


def comparison(kind: str, which: int) -> Comparison:
    *subjects, reference, inputs, more = KINDS[kind]
    subject = f"{EXAMPLES}/{subjects[which]}"
    return comparison_from_text(subject, reference, inputs=inputs, device="cpu",
                                **({"init": ""} | more))  # fmt: skip


def status(kind: str, which: int) -> Status:
    """Of one forward and one backward pass in the widest dtype that the subject computes in."""
    compared = comparison(kind, which)
    example = Example(dtype=supported_dtypes(compared)[0])
    return overall(verdict.status for verdict in check(compared, example))


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_one_passes(kind: str) -> None:
    assert status(kind, 0) == Status.PASSED


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrong_one_fails(kind: str) -> None:
    assert status(kind, 1) == Status.FAILED


def test_every_example_is_in_the_table() -> None:
    files = {path.name for path in EXAMPLES.glob("*.py")} - {"__init__.py"}
    files -= {"costs.py", "optimizer.py", "training_run.py"}  # which have tests of their own
    assert files == {str(kind[0]).partition(":")[0] for kind in KINDS.values()}
