"""The list of the parts of the page."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.page import accuracy, speed, verdicts
from bench.page.written import as_written

__all__ = ["PAGE_PARTS", "PagePart"]


@dataclass(frozen=True)
class PagePart:
    """A part of the page, shown if the folder has its file.

    Attributes:
        name: of its anchor in the page, and of its template.
        title: its heading.
        file: the file it needs, if any.
        command: the command that writes the file.
        show: computes the variables of the template from the folder.
        template: in bench/page/templates/parts. Default: the name of the part.
    """

    name: str
    title: str
    file: str | None = None
    command: str = ""
    show: Callable[[Path], dict[str, Any]] = lambda folder: {}
    template: str = ""


_WRITTEN = "written"
_COMPARE = "python bench/compare.py"
_VERIFY = "python bench/verify.py --output-dir results"

PAGE_PARTS = (
    PagePart("verification", "Verdicts", "verification.csv", _VERIFY, verdicts.verification),
    PagePart(
        "faults",
        "Do the checks find faults?",
        "kill_matrix.csv",
        f"{_VERIFY} --faults",
        verdicts.faults,
    ),
    PagePart("accuracy", "Accuracy", "accuracy.csv", _COMPARE, accuracy.accuracy),
    PagePart(
        "lockstep",
        "What a test of accuracy cannot show",
        "verification.csv",
        _VERIFY,
        verdicts.lockstep,
    ),
    PagePart("curves", "Learning curves", "learning_curves.csv", _COMPARE, accuracy.curves),
    PagePart("regions", "Decision regions", "decision_regions.npz", _COMPARE, accuracy.regions),
    PagePart("speed", "Time and memory", "speed.csv", _COMPARE, speed.speed),
    PagePart("scaling", "Scaling", "scaling.csv", "python bench/scaling.py", speed.scaling),
    PagePart("peers", "Peers", "peers.csv", "python bench/peers.py", speed.peers),
    PagePart(
        "profile",
        "Profile of a training step",
        "profile.csv",
        "python bench/profile_step.py",
        partial(as_written, name="profile", caption="The calls of a training step"),
        _WRITTEN,
    ),
    PagePart(
        "initialization",
        "The open question of report 001",
        "initialization.csv",
        "python bench/initialization.py",
        partial(as_written, name="initialization", caption="Framework by initialization"),
        _WRITTEN,
    ),
    PagePart("reported", "The reports' figures", "accuracy.csv", _COMPARE, accuracy.reported),
    PagePart("definitions", "How to read this"),
)
