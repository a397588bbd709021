"""The peer table: a training step in minifw, PyTorch, JAX, NumPy and tinygrad.

Also stacks of networks trained at once, a wide network with its peak memory, and the time of
importing minifw. Peers are timed interleaved in one process that is bound to as many cores as it
has threads. A peer is timed only if its weights equal PyTorch's after some epochs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench import figures
from bench.cli.command_line import (
    Parser,
    at_least,
    consoles,
    cores,
    exit_codes,
    positive,
    progress_bar,
    show,
)
from bench.cli.files import (
    Content,
    OutputFolderError,
    check_writable,
    markdown,
    records,
    write_files,
)
from bench.timing.interleave import in_fresh_process
from bench.timing.peer_tables import (
    IMPORT,
    MEMORY,
    claim,
    claims,
    format_claims,
    format_peers,
    format_stacks,
    summarize,
)
from bench.timing.peers import (
    BASELINE,
    TOLERANCE,
    VERIFIED_EPOCHS,
    Setting,
    import_seconds,
    measure,
    peer_memory,
)
from reference.jobs import disk_job, stacked_disk_job, wide_job
from reference.peers import PEERS, Peer
from reference.stacked_peers import STACKED_PEERS

__all__ = ["main"]

EPILOG = """\
examples:
  python bench/peers.py                                    everything
  python bench/peers.py --quick                            finishes in a minute or two
  python bench/peers.py --parts network --peers minifw pytorch jax
  python bench/peers.py --parts stack --stacks 1 32 --threads 1
  python bench/peers.py --list                             the peers, and what they need that is
  missing python bench/peers.py --quick --json > peers.json        the tables, for a program
  python bench/peers.py --fail-below 1.5 --fail-above-import 60

exit codes:
  0  success    1  a peer is wrong    2  wrong usage    3  slower than allowed
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

EXPERIMENTS = ("network", "stack", "wide", "import")
STACKS = (1, 2, 4, 8, 16, 32, 64, 128)
QUICK_STACKS = (1, 8, 32)
WIDTH, WIDE_BATCH, WIDE_LAYERS = 1024, 1024, 3


def _parser() -> Parser:
    parser = Parser(
        prog="peers.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list({**PEERS, **STACKED_PEERS})
    add = parser.add_argument
    add("--parts", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME",
        help=f"what to measure: {', '.join(EXPERIMENTS)} (default: all)")  # fmt: skip
    add("--peers", nargs="+", choices=names, default=names, metavar="NAME",
        help="peers to compare with PyTorch; --list shows them (default: all)")  # fmt: skip
    add("--stacks", nargs="+", type=at_least(1), metavar="N",
        help="sizes of stacks (default: 1 2 4 ... 128; quick: 1 8 32)")  # fmt: skip
    add("--processes", type=at_least(1), metavar="N",
        help="new processes, one by one, for each table (default: 3; quick: 1)")  # fmt: skip
    add("--rounds", type=at_least(1), metavar="N",
        help="rounds in each process, of one trial a peer (default: 15; quick: 7)")  # fmt: skip
    add("--threads", type=at_least(1), default=min(2, cores()), metavar="N",
        help="threads and cores of stacks and the wide one (default: %(default)s)")  # fmt: skip
    add("--fail-below", type=positive, metavar="RATIO",
        help="exit with 3 if the speed-up over PyTorch on one network is smaller")  # fmt: skip
    add("--fail-below-stack", type=positive, metavar="RATIO",
        help="the same on a stack of 32, or the largest")  # fmt: skip
    add("--fail-below-wide", type=positive, metavar="RATIO", help="the same on the wide network")
    add("--fail-above-memory", type=positive, metavar="RATIO",
        help="exit with 3 if minifw's peak memory / PyTorch's is larger")  # fmt: skip
    add("--fail-above-import", type=positive, metavar="MS",
        help="exit with 3 if importing minifw after torch takes more milliseconds")  # fmt: skip
    add("--output-dir", type=Path, default=Path("results"), metavar="DIR",
        help="folder for tables and picture (default: results)")  # fmt: skip
    add("--quick", action="store_true", help="1 process, 7 rounds, 3 stacks, unless given")
    add("--list", action="store_true", help="list the peers and stop")
    add("--json", action="store_true", help="print the tables as JSON and nothing else")
    return parser


# By flag, the claim that it limits.
SMALLEST = {
    "fail_below": claim("network", BASELINE),
    "fail_below_stack": claim("stack", BASELINE),
    "fail_below_wide": claim("wide", BASELINE),
}
LARGEST = {"fail_above_memory": MEMORY, "fail_above_import": IMPORT}


def _list_peers(console: Console, as_json: bool) -> None:
    rows = [
        {"part": part, "peer": name, "summary": peer.summary, "missing": ", ".join(peer.missing())}
        for part, peers in (("network", PEERS), ("stack", STACKED_PEERS))
        for name, peer in peers.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        show(console, pd.DataFrame(rows))


def _settings(arguments: argparse.Namespace) -> list[Setting]:
    """The measurements, in the order of the tables."""

    def present(peers: dict[str, Peer]) -> tuple[str, ...]:
        return tuple(
            name
            for name, peer in peers.items()
            if name in arguments.peers and name != BASELINE and not peer.missing()
        )

    settings = []
    if "network" in arguments.parts:
        job = partial(disk_job, seed=0)
        settings.append(Setting("network", 1, present(PEERS), job, threads=1, epochs=10))
    if "stack" in arguments.parts:
        for size in arguments.stacks:
            job = partial(stacked_disk_job, size)
            peers = present(STACKED_PEERS)
            settings.append(
                Setting("stack", size, peers, job, arguments.threads, epochs=max(1, 16 // size))
            )
    if "wide" in arguments.parts:
        job = partial(wide_job, WIDTH, WIDE_BATCH, WIDE_LAYERS)
        peers = ("minifw",) if "minifw" in arguments.peers else ()
        settings.append(Setting("wide", 1, peers, job, arguments.threads, epochs=2))
    return settings


@dataclass(frozen=True)
class Results:
    """All measurements.

    Attributes:
        trials: as :func:`bench.timing.peer_tables.summarize` expects.
        failures: by setting and peer, why a peer was not timed.
        memory: peak bytes of the wide network, by peer.
        imports: milliseconds that importing minifw took, in each process.
    """

    trials: pd.DataFrame
    failures: dict[tuple[str, int, str], str]
    memory: dict[str, int]
    imports: list[float]


def _run(arguments: argparse.Namespace, settings: list[Setting], log: Console) -> Results:
    """Measure everything, under a progress bar."""
    trials, failures, memory, imports = [], {}, {}, []
    import_runs = 5 * arguments.processes if "import" in arguments.parts else 0
    wide = [setting for setting in settings if setting.name == "wide"]
    with progress_bar(log, "processes") as progress:
        measured_peers = sum(len(setting.peers) + 1 for setting in wide)
        total = len(settings) * arguments.processes + measured_peers + import_runs
        bar = progress.add_task("measuring", total=total)
        for process in range(arguments.processes):
            for setting in settings:
                measured = in_fresh_process(setting.threads, measure, setting, arguments.rounds)
                trials.append(
                    measured.trials.assign(
                        setting=setting.name, members=setting.members, process=process
                    )
                )
                for peer, reason in measured.failures.items():
                    failures[setting.name, setting.members, peer] = reason
                progress.advance(bar)
        for setting in wide:
            for peer in (*setting.peers, BASELINE):
                memory[peer] = in_fresh_process(setting.threads, peer_memory, setting, peer)
                progress.advance(bar)
        for _ in range(import_runs):
            imports.append(1e3 * import_seconds())
            progress.advance(bar)
    return Results(
        pd.concat(trials) if trials else pd.DataFrame(columns=["setting", "members", "peer"]),
        failures,
        memory,
        imports,
    )


def _sections(table: pd.DataFrame, claimed: pd.DataFrame, threads: int) -> dict[str, pd.DataFrame]:
    """The human-readable tables, by title."""
    step = "A training step of 2-25-25-25-1, batch 100, float32"
    titles = {
        "network": f"{step}, of one network on one thread",
        "stack": f"{step}, of stacks on {threads} threads: µs a network (speed-up over PyTorch)",
        "wide": f"A training step of {WIDE_LAYERS} layers of width {WIDTH}, batch {WIDE_BATCH}, "
        f"on {threads} threads",
    }
    sections = {"Summary: medians of the ratios within a round": format_claims(claimed)}
    for setting, title in titles.items():
        rows = table[table["setting"] == setting]
        if not rows.empty:
            sections[title] = format_stacks(rows) if setting == "stack" else format_peers(rows)
    return sections


def _notes(arguments: argparse.Namespace, results: Results) -> list[str]:
    """Sentences below the tables: what was wrong or skipped, and how it was measured."""
    skipped = {
        name: peer.missing()
        for name, peer in {**STACKED_PEERS, **PEERS}.items()
        if name in arguments.peers and peer.missing()
    }
    return [
        *(
            f"Wrong: {peer}, {setting} of {members}: {reason}."
            for (setting, members, peer), reason in results.failures.items()
        ),
        *(
            f"Skipped: {name}, which needs {' and '.join(missing)}."
            for name, missing in skipped.items()
        ),
        *(
            f"Peak memory of the wide network, tensors of model, gradients and step, on {peer}: "
            f"{size / 2**20:.1f} MiB."
            for peer, size in results.memory.items()
        ),
        f"Peers are verified before they are timed: after {VERIFIED_EPOCHS} epochs from the same "
        f"weights over the same batches, loss and weights equal eager PyTorch's to {TOLERANCE:g}.",
        f"Times are medians over {arguments.processes} new process(es) of {arguments.rounds} "
        "rounds each, in which the trials of all peers are interleaved; a process is bound to as "
        "many cores as it has threads. The speed-up over eager PyTorch is computed within a round; "
        "its 95 % interval is that of the sign test. The noise floor is PyTorch timed against "
        "itself.",
    ]


def _too_slow(arguments: argparse.Namespace, claimed: pd.DataFrame) -> list[str]:
    """Sentences about thresholds that are not met; a missing measurement meets none."""
    values = dict(zip(claimed["claim"], claimed["value"], strict=True))
    limits = [(flag, name, 1) for flag, name in SMALLEST.items()]
    limits += [(flag, name, -1) for flag, name in LARGEST.items()]
    messages = []
    for flag, name, sign in limits:
        limit, value = getattr(arguments, flag), values.get(name)
        if limit is not None and (value is None or not sign * value >= sign * limit):
            found = "not measured" if value is None else f"{value:.2f}"
            bound = "at least" if sign > 0 else "at most"
            messages.append(f"Not allowed: {name} is {found}; the limit is {bound} {limit:g}.")
    return messages


def _versions() -> dict[str, str | None]:
    """The versions of the peers that are installed."""
    names = ("torch", "numpy", "jax", "tinygrad")
    return {name: version(name) if find_spec(name) else None for name in names}


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out, log = consoles()
    if arguments.list:
        _list_peers(out, arguments.json)
        return 0
    arguments.processes = arguments.processes or (1 if arguments.quick else 3)
    arguments.rounds = arguments.rounds or (7 if arguments.quick else 15)
    arguments.stacks = arguments.stacks or (QUICK_STACKS if arguments.quick else STACKS)
    if arguments.threads > cores():
        parser.error(f"--threads: at most one for each of the {cores()} cores")
    conditions = {
        **_versions(),
        "cores": cores(),
        "threads": arguments.threads,
        "processes": arguments.processes,
        "rounds": arguments.rounds,
    }
    with parser.ending(OutputFolderError):
        check_writable(arguments.output_dir)
        results = _run(arguments, _settings(arguments), log)
        table = summarize(results.trials)
        claimed = claims(results.trials, results.memory, results.imports)
        slow = _too_slow(arguments, claimed)
        sections = _sections(table, claimed, arguments.threads)
        conditions_text = ", ".join(f"{name} {value}" for name, value in conditions.items())
        notes = [*slow, *_notes(arguments, results), f"Run with {conditions_text}."]
        parts = [part for title, frame in sections.items() for part in (f"## {title}", frame)]
        files: dict[str, Content] = {
            "peers.csv": table,
            "peers_claims.csv": claimed,
            "peers.md": markdown(*parts, *notes),
        }
        if table["setting"].isin(("network", "stack")).any():
            files["peers.svg"] = lambda path: figures.save(figures.draw_peers(table), path)
        write_files(arguments.output_dir, files)
    if arguments.json:
        printed = {
            "conditions": conditions,
            "verified": not results.failures,
            "claims": records(claimed),
            "table": records(table),
            "notes": notes,
        }
        print(json.dumps(printed, indent=2))
    else:
        titled = [part for section in sections.items() for part in section]
        show(out, *titled, *notes, f"Tables and picture: {arguments.output_dir}")
    return 1 if results.failures else 3 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
