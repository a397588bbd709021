"""Figures as SVG: small, the same from run to run, and in the colors of a light or a dark page."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
from markupsafe import Markup
from matplotlib.figure import Figure

from bench.figures.style import THEME

__all__ = ["as_svg", "inline", "save"]

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_STYLE_SHEET = (
    f":root {{{' '.join(f'--{name}: {light};' for light, (name, _) in THEME.items())}}} "
    "@media (prefers-color-scheme: dark) {"
    f":root {{{' '.join(f'--{name}: {dark};' for name, dark in THEME.values())}}}}}"
)
# On the root rather than on every text, so that a page can have its own.
_ROOT = {
    "font-family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
    "stroke-linejoin": "round",
    "fill": "var(--ink)",  # of text, where matplotlib says nothing because it is black
}


def as_svg(figure: Figure, description: str = "") -> str:
    """Return ``figure`` as the text of an SVG file, and close it.

    Text stays text. The colors of the theme are variables, which the file sets for light and for
    dark; so it can be read on either as an ``<img>`` too, on a ground of its own. A description of
    what is to be seen is for those who do not see it.
    """
    stream = io.StringIO()
    # The salt makes the ids the same in every run; text as text is smaller, and can be read aloud.
    with plt.rc_context({"svg.hashsalt": "minifw", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = stream.getvalue()
    for light, (name, _) in THEME.items():
        text = text.replace(light, f"var(--{name})")
    # A hundredth of a point is finer than any screen.
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    root = _parse(text)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    for parent in list(root.iter()):
        if parent.get("id") not in used:
            parent.attrib.pop("id", None)
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for name, value in _ROOT.items():
        root.set(name, value)
    if description:
        said = ElementTree.Element(f"{{{_SVG}}}desc")
        said.text = description
        root.insert(0, said)
    style = ElementTree.Element(f"{{{_SVG}}}style")
    style.text = _STYLE_SHEET
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def _parse(text: str) -> ElementTree.Element:
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.fromstring(text)


def inline(svg: str, name: str, description: str) -> Markup:
    """Return ``svg`` for a page that sets the colors of the theme.

    Args:
        svg: as :func:`as_svg` returns it.
        name: of the picture, different for each of a page; ids begin with it.
        description: what is to be seen, for those who do not see it.
    """
    root = _parse(svg)
    for element in list(root):
        if element.tag == f"{{{_SVG}}}style":
            root.remove(element)
    root.attrib.pop("font-family", None)
    root.set("role", "img")
    root.set("aria-label", description)
    text = ElementTree.tostring(root, encoding="unicode")
    name = re.sub(r"[^\w-]", "-", name)
    return Markup(re.sub(r"((?: id=\"|url\(#|href=\"#))", rf"\g<1>{name}-", text))


def save(figure: Figure, path: Path, description: str = "") -> None:
    """Write ``figure`` to ``path``, which ends in ".svg", and close it."""
    path.write_text(as_svg(figure, description) + "\n", encoding="utf-8")
