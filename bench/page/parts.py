"""The list of the parts of the page."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.page import accuracy, speed, verdicts
from bench.page.written import as_written

__all__ = ["PARTS", "Part"]


@dataclass(frozen=True)
class Part:
    """A part of the page, shown where its file is in the folder.

    Attributes:
        name: of its place in the page, and of its template.
        title: its heading.
        file: that it is made from; None for one that needs no file.
        command: that makes the file.
        show: from the folder to the variables of the template.
        template: in bench/page/templates/parts, if it is not called like the part.
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

PARTS = (
    Part("verification", "Verdicts", "verification.csv", _VERIFY, verdicts.verification),
    Part("faults", "The checks checked", "kill_matrix.csv", f"{_VERIFY} --faults", verdicts.faults),
    Part("accuracy", "Accuracy", "accuracy.csv", _COMPARE, accuracy.accuracy),
    Part(
        "lockstep",
        "What a test of accuracy cannot see",
        "verification.csv",
        _VERIFY,
        verdicts.lockstep,
    ),
    Part("curves", "Learning curves", "learning_curves.csv", _COMPARE, accuracy.curves),
    Part("regions", "Decision regions", "decision_regions.npz", _COMPARE, accuracy.regions),
    Part("speed", "Time and memory", "speed.csv", _COMPARE, speed.speed),
    Part("scaling", "Scaling", "scaling.csv", "python bench/scaling.py", speed.scaling),
    Part("peers", "Beside its peers", "peers.csv", "python bench/peers.py", speed.peers),
    Part(
        "profile",
        "Where the time of a step goes",
        "profile.csv",
        "python bench/profile_step.py",
        partial(as_written, name="profile", caption="The calls of a training step"),
        _WRITTEN,
    ),
    Part(
        "initialization",
        "The open question of report 001",
        "initialization.csv",
        "python bench/initialization.py",
        partial(as_written, name="initialization", caption="Framework by initialization"),
        _WRITTEN,
    ),
    Part("reported", "The reports' figures", "accuracy.csv", _COMPARE, accuracy.reported),
    Part("definitions", "How to read this"),
)
