"""Scaling: a training step of the disk network as it grows, on minifw and on PyTorch.

Width, depth and batch are doubled, one at a time, until a step takes too long or needs too much
memory. The table shows time, memory and FLOP/s, and the sizes at which overhead ends.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from bench import figures
from bench.cli.command_line import Parser, at_least, consoles, cores, exit_codes, progress_bar, show
from bench.cli.files import (
    Content,
    OutputFolderError,
    check_writable,
    markdown,
    records,
    write_files,
)
from bench.cli.provenance import provenance
from bench.timing.interleave import format_ratio, format_times
from bench.timing.scaling import DISK, MEASURED, matrix_product_peak, measure
from minifw.testing.timing.rounds import threads

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/scaling.py                                  everything, in some minutes
  python bench/scaling.py --quick                          finishes in half a minute
  python bench/scaling.py --axes width --threads 1 --rounds 51
  python bench/scaling.py --max-step 1000 --max-memory 8000
  python bench/scaling.py --quick --json > scaling.json    the tables, for a program

exit codes:
  0  success    1  a framework is wrong    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

AXES = ("width", "depth", "batch")
DOUBLINGS = 12


def _memory() -> int:
    """The memory of this machine in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _parser() -> Parser:
    parser = Parser(
        prog="scaling.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--axes", nargs="+", choices=AXES, default=list(AXES), metavar="NAME",
        help=f"what to double: {', '.join(AXES)} (default: all)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="rounds a size, of two trials a framework (default: 15; quick: 7)")  # fmt: skip
    add("--threads", type=at_least(1), default=1, metavar="N",
        help="threads of torch (default: 1)")  # fmt: skip
    add("--max-step", type=at_least(1), metavar="MS",
        help="stop doubling when a step takes longer (default: 50; quick: 2)")  # fmt: skip
    add("--max-memory", type=at_least(1), default=_memory() // 4, metavar="MB",
        help="stop doubling when the next step could need more MiB (default: a "
        "quarter of the machine's, here %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and picture (default: results)")  # fmt: skip
    add("--quick", action="store_true", help="7 rounds, steps up to 2 ms, unless given")
    add("--json", action="store_true", help="print the tables as JSON and nothing else")
    return parser


def _grow(
    axis: str, arguments: argparse.Namespace, progress: Progress
) -> Iterator[dict[str, object]]:
    """Measure the disk network while one of its sizes is doubled."""
    size = getattr(DISK, axis)
    for _ in progress.track(range(DOUBLINGS + 1), description=axis):
        row = measure(replace(DISK, **{axis: size}), arguments.rounds)
        yield {"axis": axis, "size": size, **row}
        size *= 2
        if (
            row["wrong"]
            or max(row["minifw"], row["pytorch"]) > arguments.max_step / 1e3
            # Twice the width needs up to 4 times the memory.
            or 4 * max(row["minifw_bytes"], row["pytorch_bytes"]) > arguments.max_memory * 2**20
        ):
            return


def _run(arguments: argparse.Namespace, log: Console) -> tuple[pd.DataFrame, float]:
    """Measure everything, under a progress bar; and the peak FLOP/s of a matrix product."""
    with threads(arguments.threads), progress_bar(log, "sizes") as progress:
        peak = matrix_product_peak()
        rows = [row for axis in arguments.axes for row in _grow(axis, arguments, progress)]
    table = pd.DataFrame(rows, columns=["axis", "size", *MEASURED])
    for side in ("minifw", "pytorch"):
        table[f"{side}_peak_share"] = table[f"{side}_flop_s"] / peak
    return table, peak


def _crossing(sizes: "pd.Series[float]", values: "pd.Series[float]", level: float) -> float:
    """The size at which values first reach a level, interpolated log-log; NaN if none does."""
    above = (values >= level).to_numpy()
    if not above.any() or above[0]:
        return float(sizes.iloc[0]) if above[0] else np.nan
    place = int(above.argmax())
    two = slice(place - 1, place + 1)
    logs = np.interp(np.log(level), np.log(values.iloc[two]), np.log(sizes.iloc[two]))
    return float(np.exp(logs))


def _overhead(table: pd.DataFrame) -> pd.DataFrame:
    """Where overhead ends: one row an axis and framework.

    Returns:
        Columns: axis, framework; "twice_the_time", the size from which a step takes twice as long
        as that of the disk network; "half_of_the_peak", the size from which it reaches half of the
        FLOP/s of a matrix product; "peak_share", the largest share. NaN: not reached.
    """
    rows = []
    for axis, group in table.groupby("axis", sort=False):
        for side in ("minifw", "pytorch"):
            times, shares = group[side], group[f"{side}_peak_share"]
            rows.append(
                {
                    "axis": axis,
                    "framework": side,
                    "twice_the_time": _crossing(group["size"], times, 2 * times.iloc[0]),
                    "half_of_the_peak": _crossing(group["size"], shares, 0.5),
                    "peak_share": shares.max(),
                }
            )
    return pd.DataFrame(rows)


def _format_table(table: pd.DataFrame) -> pd.DataFrame:
    def both(row: "pd.Series[float]", column: str, factor: float, digits: int) -> str:
        values = (row[f"{side}_{column}"] * factor for side in ("minifw", "pytorch"))
        return "" if row["wrong"] else " / ".join(f"{value:,.{digits}f}" for value in values)

    return pd.DataFrame(
        [
            {
                "growing": row["axis"],
                "size": f"{row['size']:,}",
                "minifw (quartiles)": format_times(row, "minifw"),
                "PyTorch (quartiles)": format_times(row, "pytorch"),
                "speed-up over PyTorch (95 %)": format_ratio(row, "ratio"),
                "noise floor": format_ratio(row, "noise"),
                "claim": f"not timed: {row['wrong']}" if row["wrong"] else row["claim"],
                "MiB": both(row, "bytes", 2**-20, 2),
                "GFLOP/s": both(row, "flop_s", 1e-9, 1),
                "% of peak": both(row, "peak_share", 100, 1),
            }
            for _, row in table.iterrows()
        ]
    )


def _format_overhead(table: pd.DataFrame) -> pd.DataFrame:
    def size(number: float) -> str:
        return "not reached" if pd.isna(number) else f"{number:,.0f}"

    return pd.DataFrame(
        {
            "growing": table["axis"],
            "framework": table["framework"],
            "twice the time from": table["twice_the_time"].map(size),
            "half of the peak from": table["half_of_the_peak"].map(size),
            "largest % of peak": (100 * table["peak_share"]).map("{:.1f}".format),
        }
    )


def _notes(arguments: argparse.Namespace, peak: float) -> list[str]:
    """Sentences below the tables: how it was measured."""
    return [
        f"A training step of 2-{DISK.width}-{DISK.width}-{DISK.width}-1 with ReLU, MSE and SGD, "
        f"batch {DISK.batch}; one size is doubled: width, hidden layers or batch. float32 "
        f"on {arguments.threads} thread(s).",
        f"Medians over {arguments.rounds} rounds. In each round both frameworks are timed twice, "
        "with new models, in an order drawn anew. The speed-up over PyTorch is computed within a "
        "round; its interval is that of the sign test. The noise floor is a framework timed "
        "against itself. A difference is claimed where the interval of the speed-up contains "
        "neither 1 nor any value of the noise floor's.",
        "Both frameworks are verified before they are timed: their gradients agree in float64. "
        "Memory is the peak of the tensors of model, gradients and step. Pairs of values are "
        "minifw / PyTorch.",
        "GFLOP/s counts matrix products alone: 2 * batch * inputs * outputs for the output of a "
        "layer, as many for the gradient of its weight and, except in the first layer, of its "
        f"input. The peak is that of torch.mm on square matrices: {peak / 1e9:.0f} GFLOP/s.",
        "Overhead ends at the size where a step takes twice as long as that of the disk network: "
        "beyond it, most of the time grows with the size. Arithmetic dominates where half of the "
        "peak is reached. Each layer adds calls, so depth adds overhead as fast as arithmetic.",
    ]


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    arguments.rounds = arguments.rounds or (7 if arguments.quick else 15)
    arguments.max_step = arguments.max_step or (2 if arguments.quick else 50)
    if arguments.threads > cores():
        parser.error(f"--threads: at most one for each of the {cores()} cores")
    with parser.ending(OutputFolderError):
        check_writable(arguments.output_dir)
        table, peak = _run(arguments, log)
        overhead = _overhead(table)
        with threads(arguments.threads):
            conditions = provenance() | {"rounds": str(arguments.rounds)}
        notes = _notes(arguments, peak)
        notes.append("Run with " + ", ".join(f"{k} {v}" for k, v in conditions.items()) + ".")
        sections = [_format_table(table), _format_overhead(overhead)]
        files: dict[str, Content] = {
            "scaling.csv": table,
            "scaling_overhead.csv": overhead,
            "scaling.md": markdown(*sections, *notes),
        }
        if table["ratio"].notna().any():
            files["scaling.svg"] = lambda path: figures.save(
                figures.draw_scaling(table, peak), path
            )
        write_files(arguments.output_dir, files)
    wrong = table["wrong"].astype(bool).any()
    if arguments.json:
        printed = {
            "conditions": conditions,
            "verified": not wrong,
            "peak_flop_s": peak,
            "table": records(table),
            "overhead": records(overhead),
            "notes": notes,
        }
        print(json.dumps(printed, indent=2))
    else:
        show(out, *sections, *notes, f"Tables and picture: {arguments.output_dir}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
