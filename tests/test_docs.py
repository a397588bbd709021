"""The book and the docstrings say what is so."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

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


def documented_arguments(documented):
    arguments = inspect.getdoc(documented).partition("Args:\n")[2].partition("\n\n")[0]
    return {
        name: text
        for names, text in re.findall(r"(?m)^    (\w[\w, ]*): ((?:.|\n     )*)", arguments)
        for name in names.split(", ")
    }


def is_schedule(public):
    base = optim.lr_scheduler.LRScheduler
    return isinstance(public, type) and issubclass(public, base) and public is not base


@pytest.mark.parametrize("public", PUBLIC.values(), ids=PUBLIC)
def test_a_docstring_names_every_argument_and_its_default(public):
    documented = documented_arguments(public)
    if is_schedule(public):  # the base class documents the first and the last
        assert not {"optimizer", "last_epoch"} & set(documented)
        base = documented_arguments(optim.lr_scheduler.LRScheduler)
        documented = {"optimizer": base["optimizer"], **documented}
        documented["last_epoch"] = base["last_epoch"]
    if isinstance(public, type) and issubclass(public, (nn.Module, optim.Optimizer)):
        for keyword in ("capturable", "keeps_grads"):  # of the class statement
            documented.pop(keyword, None)
    parameters = inspect.signature(public).parameters.values()
    assert list(documented) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        has_default = parameter.default is not parameter.empty
        assert not has_default or "Default:" in documented[parameter.name], parameter.name


class _Page(HTMLParser):
    """What a page of the book leads to, loads, and can be led to in."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors, self.formulas = [], [], {""}, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id")}
        self.formulas += tag == "math"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") == "stylesheet":
            self.loads.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])


@pytest.mark.build
def test_the_book_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    options = ["-nWq", "-d", tmp_path / "trees"]  # nitpicky: every reference is to something
    subprocess.run([sys.executable, "-m", "sphinx", *options, ROOT / "docs", tmp_path], check=True)
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("*.html")}
    assert len(pages) > len(PAGES)
    assert pages[tmp_path / "backpropagation.html"].formulas > 50
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if not target.startswith("https:"):
                assert anchor in pages[(path.parent / target).resolve() if target else path].anchors
        for load in page.loads:  # none from the network
            assert (path.parent / urldefrag(load.partition("?")[0])[0]).is_file()
