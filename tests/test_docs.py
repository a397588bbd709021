"""The book and the docstrings say what is so."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import minifw
from minifw import callbacks, data, nn, optim

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/**/*.md"))
MODULES = [found.name for found in pkgutil.walk_packages(minifw.__path__, "minifw.")]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (minifw, nn, nn.init, nn.utils, optim, optim.lr_scheduler, data, callbacks)
    for name in module.__all__
    if "Args:" in (getattr(module, name).__doc__ or "")
}


@pytest.fixture
def _own_torch():
    before = torch.get_default_dtype()
    with torch.random.fork_rng():
        yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_own_torch")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_do_what_it_says(page):
    # A fence would be taken for expected output.
    text = page.read_text(encoding="utf-8").replace("```", "\n")
    examples = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.usefixtures("_own_torch")
@pytest.mark.parametrize("name", ["minifw", *MODULES])
def test_the_examples_of_a_docstring_do_what_it_says(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("of", PUBLIC.values(), ids=PUBLIC)
def test_a_docstring_names_every_argument_and_its_default(of):
    arguments = inspect.getdoc(of).partition("Args:\n")[2].partition("\n\n")[0]
    documented = {
        name: text
        for names, text in re.findall(r"(?m)^    (\w[\w, ]*): ((?:.|\n     )*)", arguments)
        for name in names.split(", ")
    }
    parameters = inspect.signature(of).parameters.values()
    assert list(documented) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        has_default = parameter.default is not parameter.empty
        assert not has_default or "Default:" in documented[parameter.name], parameter.name
