"""Provenance: the machine, versions and commit that made a result."""

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
    """The name of the processor, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of this clone, marked if the sources differ from it; "" if it is not a clone."""
    if not (ROOT / ".git").exists():  # git would search the parent folders
        return ""

    def git(*arguments: str) -> str:
        return subprocess.check_output(
            ["git", "-C", str(ROOT), *arguments], text=True, stderr=subprocess.DEVNULL
        ).strip()

    try:
        # Changed results do not change the sources that made them.
        changed = git("status", "--porcelain", "--", "minifw", "reference", "bench")
        return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _blas() -> str:
    """The library that torch multiplies matrices with."""
    lines = torch.__config__.show().splitlines()
    settings = next((line for line in lines if "BLAS_INFO" in line), "")
    name = settings.partition("BLAS_INFO=")[2].partition(",")[0]
    library = next((line.strip(" -") for line in lines if "Math Kernel Library" in line), "")
    return ", ".join(part for part in (name, library) if part)


def provenance() -> dict[str, str]:
    """Return what a result depends on besides its settings, without names of people or hosts.

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
    """The result of :func:`provenance` as a sentence, without torch and threads."""
    return (
        f"Made {made['date']} on {made['processor']}, {made['cores']} core(s), {made['system']}; "
        f"Python {made['python']}, numpy {made['numpy']}, {made['blas']}; "
        f"commit {made['commit'] or 'unknown'}."
    )
