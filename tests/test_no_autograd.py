"""Proof that minifw never uses autograd, and never disturbs it for anybody else."""

import contextlib
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import minifw
from bench import ROOT
from bench.equivalence.certificate import (
    Certificate,
    Watch,
    certify,
    findings,
    findings_in,
    framework_files,
    state,
)
from minifw import data, nn, optim
from minifw.testing.case import Case
from minifw.testing.comparison import draw
from minifw.testing.example import Example
from reference.cases import CASES, of_case

SOURCES = framework_files()

# (a) The source.


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_names_nothing_of_autograd(path: Path) -> None:
    assert [] == findings_in(path)


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn",
        "import torch as t",
        "import torch.nn.functional as F",
        "from torch import nn",
        "from torch.nn import functional",
        "from torch.autograd import Function",
        "from torch import func",
        "import torch\ntorch.nn.functional.relu(x)",
        "import torch\ntorch.autograd.grad(y, x)",
        "import torch\nwith torch.no_grad(): pass",
        "import torch\nwith torch.inference_mode(): pass",
        "import torch\ntorch.ops.aten.tanh_backward(g, y)",
        "import torch\ntorch.threshold_backward(g, y, 0)",
        "import torch\ntorch.ones(2, requires_grad=True)",
        "import torch\ngetattr(torch, 'nn')",
        "x.grad_fn",
        "torch.set_default_dtype(x)",
        "torch.manual_seed(0)",
        "from torch import *",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert findings(source)


def test_the_search_sees_every_file() -> None:
    assert {"tape.py", "linear.py", "sgd.py", "training.py"} <= {path.name for path in SOURCES}


# (b) What runs.


class Net(nn.Module):
    """Everything at once: shared modules, a tape in a chain, dropout, a loss in the forward."""

    def __init__(self) -> None:
        generator = Generator().manual_seed(0)
        self.first = nn.Linear(2, 5, generator=generator)
        self.middle = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(0.2, generator=generator),
            nn.Linear(5, 5, bias=False, generator=generator),
            nn.Tanh(),
        )
        self.last = nn.Linear(5, 1, generator=generator)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Any:
        h = self.middle(self.middle(self.first(x)))
        return self.sigmoid(self.last(h))


def train(epochs: int = 2) -> tuple[nn.Module, list[dict[str, float]]]:
    generator = Generator().manual_seed(1)
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = minifw.fit(
        model,
        nn.BCELoss(),
        optimizer,
        data.disk(30, generator=generator),
        epochs=epochs,
        batch_size=8,
        scheduler=optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
        validation_data=data.disk(10, generator=generator),
        metrics={"accuracy": minifw.accuracy(0.5)},
        generator=generator,
    )
    return model, history


def test_a_training_run_calls_no_backward_kernel() -> None:
    with Watch() as watch:
        train()
    assert {"aten.addmm.default", "aten._foreach_add_.List"} <= watch.operations.keys()
    assert set() == {name for name in watch.operations if "backward" in name}
    assert set() == watch.requiring_grad


def test_the_certificate_holds_and_names_the_operations() -> None:
    certificate = certify()
    assert certificate.holds, certificate
    assert certificate.files == len(SOURCES)
    assert certificate.operations["aten.addmm.default"] > 0


@pytest.mark.parametrize(
    "found",
    [
        {"source": {"linear.py": ["torch.autograd"]}},
        {"backward_kernels": ("aten.tanh_backward.default",)},
        {"requiring_grad": ("aten.mul.Tensor",)},
        {"graphs": ("relu-mse: 0.weight",)},
        {"changed": ("grad mode",)},
        {"operations": {}},
    ],
    ids=str,
)
def test_the_certificate_does_not_hold_if_anything_was_found(found: dict[str, Any]) -> None:
    nothing = Certificate(1, {}, {"aten.addmm.default": 1}, (), (), (), ())
    assert nothing.holds
    assert not dataclasses.replace(nothing, **found).holds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_module_calls_a_backward_kernel_or_leaves_a_graph(case: Case) -> None:
    drawn = draw(of_case(case), Example(dtype="float32", seed=2))
    model, inputs = drawn.subject(torch.float32).made, drawn.inputs[0]
    # The user's inputs require grad, and so do the gradients that come back.
    leaves = tuple(x.requires_grad_() if x.is_floating_point() else x for x in inputs)
    grads_before = [leaf.grad for leaf in leaves]
    with torch.random.fork_rng(), Watch() as watch:
        output = model(*leaves)
        outputs = output if isinstance(output, tuple) else (output,)
        cotangents = [torch.randn(o.shape).requires_grad_() for o in outputs]
        watch.requiring_grad.clear()
        grads = model.backward(*cotangents)
    assert set() == {name for name in watch.operations if "backward" in name}
    produced = [*outputs, *(grads if isinstance(grads, tuple) else (grads,))]
    produced += [p.grad for p in model.parameters()] + [p.data for p in model.parameters()]
    for tensor in produced:
        assert tensor is None or (tensor.grad_fn, tensor.requires_grad) == (None, False)
    assert grads_before == [leaf.grad for leaf in leaves]


def test_the_watch_sees_autograd() -> None:
    # The proof above would fail if there were anything to see.
    with Watch() as watch:
        x = torch.ones(2, requires_grad=True)
        x.tanh().sum().backward()
    assert any("tanh_backward" in name for name in watch.operations)
    assert watch.requiring_grad


def test_a_parameter_made_of_a_leaf_is_cut_off_from_it() -> None:
    leaf = torch.ones(1, 2, requires_grad=True)
    layer = nn.Linear(2, 1)
    layer.weight = nn.Parameter(leaf)
    layer(torch.ones(3, 2))
    layer.backward(torch.ones(3, 1))
    assert leaf.grad is None
    assert not layer.weight.grad.requires_grad


# (d) Torch's state is left as found.


def test_importing_changes_no_state() -> None:
    script = f"""
import torch
{inspect.getsource(state).replace("dict[str, Any]", "object")}
import random, sys, warnings
torch.manual_seed(5)
before, random_before, filters = state(), random.getstate(), list(warnings.filters)
hook = sys.excepthook
import minifw
assert before == state()
assert random_before == random.getstate()
assert filters == warnings.filters
assert hook is sys.excepthook
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (0, "") == (done.returncode, done.stderr)


@contextlib.contextmanager
def anomaly() -> Iterator[None]:
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        yield


MODES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "by default": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "anomaly": anomaly,
    "minifw.no_grad": minifw.no_grad,
}


@pytest.mark.parametrize("mode", [name for name in MODES if name != "minifw.no_grad"])
def test_training_leaves_every_mode_as_found_and_gives_the_same(mode: str) -> None:
    expected, _ = train()
    with MODES[mode]():
        before = state()
        model, history = train()
        assert before == state()
    assert 2 == len(history)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_minifws_no_grad_is_not_torchs() -> None:
    with minifw.no_grad():
        assert torch.is_grad_enabled()
        assert torch.ones(1, requires_grad=True).exp().requires_grad
    layer = nn.ReLU()
    with torch.no_grad():
        layer(torch.ones(2))
    assert [1, 1] == layer.backward(torch.ones(2)).tolist()


def test_an_error_leaves_every_mode_as_found() -> None:
    model, before = Net(), state()
    with pytest.raises(RuntimeError):
        model(torch.ones(3, 4))
    assert before == state()


# (e) Beside a user's own autograd.


@pytest.mark.parametrize("mode", ["by default", "no_grad", "enable_grad"])
def test_results_enter_a_users_graph(mode: str) -> None:
    layer, x = nn.Linear(3, 2, generator=Generator().manual_seed(4)), torch.ones(4, 3)
    with MODES[mode]():
        output = layer(x)
        grad_input = layer.backward(torch.ones(4, 2))
    weight = torch.ones(2, requires_grad=True)
    (output * weight).sum().backward()
    torch.testing.assert_close(weight.grad, output.sum(0))
    mine = torch.ones(3, requires_grad=True)
    (grad_input * mine).sum().backward()
    torch.testing.assert_close(mine.grad, grad_input.sum(0))
    assert layer.weight.grad is not None
    held = torch.ones_like(layer.weight.data, requires_grad=True)
    (held * layer.weight.data * layer.weight.grad).sum().backward()
    torch.testing.assert_close(held.grad, layer.weight.data * layer.weight.grad)


def test_minifw_as_a_step_of_a_users_graph() -> None:
    """A minifw layer inside a torch.autograd.Function: the explicit backward is all it needs."""
    layer = nn.Linear(3, 2, generator=Generator().manual_seed(5)).to(torch.float64)

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return layer(x)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return layer.backward(grad_output)

    x = torch.randn(4, 3, dtype=torch.float64, generator=Generator().manual_seed(6))
    leaf, there = x.clone().requires_grad_(), x.clone().requires_grad_()
    Step.apply(leaf.exp()).square().sum().backward()
    output = there.exp() @ layer.weight.data.t() + layer.bias.data
    output.square().sum().backward()
    torch.testing.assert_close(leaf.grad, there.grad)


def test_an_inference_tensor_and_a_call_in_inference_mode() -> None:
    layer = nn.Linear(3, 2, generator=Generator().manual_seed(7))
    x = torch.ones(4, 3)
    expected = layer(x), layer.backward(torch.ones(4, 2))
    layer.zero_grad()
    with torch.inference_mode():
        frozen = torch.ones(4, 3)
        inside = layer(frozen), layer.backward(torch.ones(4, 2))
    outside = layer(frozen), layer.backward(torch.ones(4, 2))
    for pair_ in (inside, outside):
        assert all(torch.equal(a, b) for a, b in zip(expected, pair_, strict=True))
    before = layer.weight.data.clone()
    assert layer.weight.grad is not None
    optim.SGD(layer.parameters(), lr=0.1).step()
    torch.testing.assert_close(layer.weight.data, before - 0.1 * layer.weight.grad)


def test_training_between_a_users_forward_and_backward_changes_nothing() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    net = torch.nn.Linear(2, 1)
    loss = net(x).sum()
    train(epochs=1)
    loss.backward()
    torch.testing.assert_close(x.grad, net.weight.detach().expand(3, 2))
