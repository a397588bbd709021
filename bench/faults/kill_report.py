"""The files of the kill matrix: a table, a report and a picture."""

from pathlib import Path

from bench import figures
from bench.cli.files import write_files
from bench.faults import FAULTS
from bench.faults.kill_matrix import KillMatrix

__all__ = ["write_kill_matrix"]


def write_kill_matrix(matrix: KillMatrix, folder: Path) -> None:
    """Write kill_matrix.csv, .md and .svg."""
    frame = matrix.frame()
    families = {fault.name: fault.family for fault in FAULTS}
    figure = figures.draw_kill_matrix(
        frame, [families[name] for name in frame.index.get_level_values("fault")]
    )
    write_files(
        folder,
        {
            "kill_matrix.csv": lambda path: frame.astype("Int64").to_csv(path),
            "kill_matrix.md": lambda path: path.write_text(_report(matrix)),
            "kill_matrix.svg": lambda path: figures.save(figure, path),
        },
    )


def _report(matrix: KillMatrix) -> str:
    faults, checks = matrix.faults(), matrix.checks()
    return "\n\n".join(
        [
            "# The kill matrix: which check finds which fault",
            f"{(faults['killed by'] > 0).sum()} of {len(faults)} faults are killed; survivors: "
            f"{', '.join(matrix.survivors()) or 'none'}. A check kills a fault if, on the same "
            "row, it fails with the fault and passes without it.",
            "## Faults",
            faults.to_markdown(index=False),
            "## Checks",
            checks.to_markdown(index=False),
            "Checks that kill no fault alone (two of them may cover for each other): "
            f"{', '.join(matrix.redundant())}.\n",
        ]
    )
