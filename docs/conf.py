"""How Sphinx builds the book: ``sphinx-build -nW docs build/docs``."""

import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where measured.py and mathml.py are

import measured
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

import minifw

project = "minifw"
version = release = minifw.__version__
project_copyright = ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]

myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_heading_anchors = 3
# The figures of the pages, read from results/ as the book is built.
myst_substitutions = measured.substitutions()

html_theme = "furo"
html_title = "minifw"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_math_renderer = "mathml"
html_show_copyright = html_show_sphinx = html_copy_source = False

# A method whose base class documents it is not listed again.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shape"]
# "model, optimizer: what to train" are two arguments, not one and its type.
napoleon_use_param = False

# Links into other manuals would need the network; all others must lead somewhere.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|collections|pandas|pathlib|enum)\..*"),
    (r"py:class", r"Tensor|Generator|optional|dtype|device"),
    (r"py:data", r".*"),
]


def _constructor(_: Sphinx, what: str, __: str, of: object, *___: object) -> tuple[str, str] | None:
    """The arguments of a module: not those of ``Module.__new__``, which takes any."""
    if what != "class" or not issubclass(of, minifw.nn.Module):
        return None
    if of.__init__ is object.__init__:
        return "()", ""
    signature = inspect.signature(of)
    return stringify_signature(signature, show_annotation=False), ""


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _constructor)
