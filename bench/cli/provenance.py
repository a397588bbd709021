"""Provenance: on what, with what and from which sources a result was made."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from bench import ROOT

__all__ = ["describe", "provenance"]

_LIBRARIES = ("numpy", "scipy", "pandas")


def _processor() -> str:
    """The processor's own name, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of this clone, marked if its sources differ from it; "" if it is no clone."""
    if not (ROOT / ".git").exists():  # git would look in the folders above it
        return ""

    def git(*arguments: str) -> str:
        return subprocess.check_output(
            ["git", "-C", str(ROOT), *arguments], text=True, stderr=subprocess.DEVNULL
        ).strip()

    try:
        # Results are what a command makes, and not what it is made from.
        changed = git("status", "--porcelain", "--", "minifw", "reference", "bench")
        return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _blas() -> str:
    """What torch multiplies matrices with, as it was built."""
    lines = torch.__config__.show().splitlines()
    settings = next((line for line in lines if "BLAS_INFO" in line), "")
    name = settings.partition("BLAS_INFO=")[2].partition(",")[0]
    library = next((line.strip(" -") for line in lines if "Math Kernel Library" in line), "")
    return ", ".join(part for part in (name, library) if part)


def provenance() -> dict[str, str]:
    """Return what a result depends on beside its settings; nothing that names the machine's owner.

    The threads are those that torch may use in this process.
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "minifw": version("minifw"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "blas": _blas(),
        **{library: version(library) for library in _LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
    }


def describe(made: dict[str, str]) -> str:
    """Say in a sentence what :func:`provenance` has returned, but torch and threads."""
    return (
        f"Made {made['date']} on {made['processor']}, {made['cores']} core(s), {made['system']}; "
        f"Python {made['python']}, numpy {made['numpy']}, {made['blas']}; "
        f"commit {made['commit'] or 'unknown'}."
    )
