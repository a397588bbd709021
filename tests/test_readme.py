"""The README shows what is so."""

import shlex
from pathlib import Path

import torch

from bench.faults import FAULTS
from bench.verify import main
from minifw import nn

ROOT = Path(__file__).parents[1]


def test_the_table_is_the_one_in_results():
    table = (ROOT / "results" / "comparison.md").read_text(encoding="utf-8").strip()
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_verdict_is_what_the_command_prints(capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = readme.split("```sh\n.venv/bin/python bench/verify.py --subject ")[1].split("```")[0]
    arguments = shlex.split(command.replace("\\\n", " "))
    subject = f"{ROOT}/{arguments[0]}"
    assert main(["--subject", subject, *arguments[1:], "--max-examples", "5"]) == 1
    printed = capsys.readouterr().out
    verdict = readme.split("```text\n")[1].split("```")[0]
    for line in verdict.replace("python bench/", "").splitlines():
        # As far as the entry; the last digits are the machine's, the number of examples luck.
        assert line.strip().partition(" (")[0][:20] in printed


def test_the_number_of_faults_is_that_of_the_catalogue():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(FAULTS)} deliberate faults" in readme


def test_the_layer_and_the_module_in_it_equal_autograd():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    namespace = {"nn": nn}
    for block in blocks[1:]:
        exec(block, namespace)
    block = namespace["Block"]().to(torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 4, 25, generator=generator, dtype=torch.float64)

    output = block(x)
    grad_input = block.backward(g)

    weight, bias = (tensor.clone() for tensor in block.state_dict().values())
    x.requires_grad_()
    linear = torch.nn.functional.linear
    expected = torch.nn.functional.softsign(linear(linear(x, weight, bias), weight, bias))
    expected.backward(g)
    torch.testing.assert_close(output, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad_input, x.grad, rtol=1e-12, atol=1e-15)
