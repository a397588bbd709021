"""Formulas as MathML, which browsers draw themselves: no script, no font, no network.

The converter is that of docutils; TeX that it does not know is an error at its place in the page.
"""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def _visit_math(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        formula = latex2mathml.tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logger.warning("%s in %r", error, node.astext(), location=node)
        formula = ""
    # A block too wide for a telephone scrolls by itself, and can be scrolled by keyboard.
    open_block = '<div class="math" tabindex="0" role="group" aria-label="formula">'
    translator.body.append(f"{open_block}{formula}</div>" if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
