"""Is a backward pass written by hand equal to PyTorch's? Of minifw, or of a layer of yours."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from joblib import delayed
from rich.console import Console

import minifw
from bench.cli.command_line import (
    Parser,
    at_least,
    consoles,
    cores,
    device,
    exit_codes,
    progress_bar,
    show,
)
from bench.cli.files import OutputFolderError, check_writable, markdown, records, write_files
from bench.cli.workers import workers
from bench.equivalence.certificate import Certificate, certify
from bench.equivalence.lockstep import lockstep
from bench.equivalence.tables import by_class, by_row
from bench.equivalence.units import UNITS
from bench.faults.kill_matrix import KillMatrix, kill_matrix
from bench.mistakes.wrong_subjects import (
    describe_subjects,
    new_misses,
    write_wrong_subjects,
    wrong_subjects,
)
from bench.variants.right_variants import (
    describe_variants,
    false_alarms,
    right_variants,
    write_right_variants,
)
from minifw.testing import Report, Status, UsageError, Verdict, command_line
from minifw.testing.check import check
from minifw.testing.command_line import QUICK_CHECKS, QUICK_DTYPES
from minifw.testing.comparison import Comparison
from minifw.testing.example import DTYPES, Example
from minifw.testing.verification import CHECK_NAMES, verify_comparison
from reference.cases import CASES, of_case
from reference.recipes import RECIPES

__all__ = ["main"]

EXAMPLES = """\
examples:
  python bench/verify.py                              every layer, optimizer and recipe of minifw
  python bench/verify.py --quick                      a first look, without fuzzing
  python bench/verify.py --only Linear LayerNorm --max-examples 1000
  python bench/verify.py --faults                     is the tester any good? faults by checks

a layer of your own is verified by `minifw verify`, and here as well:
  python bench/verify.py --subject my_layers.py:MyLinear --reference torch.nn.Linear \\
      --init '3, 5, bias=False' --input 4,3
`minifw verify --help` shows the options that may follow

exit codes:
  0  all PASSED    1  something FAILED or MISTRUSTED    2  wrong usage
  4  the machine failed: no memory, a full disk, a lost worker, a closed pipe    130  interrupted
"""

LOCKSTEP_EPOCHS = 20
RUNS = [(recipe, dtype) for recipe in RECIPES for dtype in QUICK_DTYPES]


def _parser() -> Parser:
    parser = Parser(
        prog="verify.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--subject", metavar="FILE:NAME", help="a layer of your own: as `minifw verify`")
    add("--reference", metavar="NAME", help="the trusted class beside --subject")
    add("--only", nargs="+", default=[], metavar="TEXT",
        help="only what has one of these in its name")  # fmt: skip
    add("--skip", nargs="+", default=[], metavar="TEXT",
        help="not what has one of these in its name")  # fmt: skip
    add("--without", nargs="+", default=[], metavar="CHECK",
        help="checks not to make; --list shows them")  # fmt: skip
    add("--dtype", nargs="+", choices=list(DTYPES), metavar="NAME",
        help=f"{', '.join(DTYPES)} (default: all; quick: {', '.join(QUICK_DTYPES)})")  # fmt: skip
    add("--device", type=device, default="cpu", help="torch device (default: cpu)")
    add("--max-examples", type=at_least(0), metavar="N",
        help="fuzzed examples a case (default: 20; quick: 0)")  # fmt: skip
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the fuzzer (default: 0)")
    add("--example", metavar="JSON", help="this one example alone, as a failure prints it")
    add("--jobs", type=at_least(1), default=cores(), metavar="N",
        help="processes (default: one a core, here %(default)s)")  # fmt: skip
    add("--output-dir", type=Path, metavar="DIR", help="write the table there, as CSV and Markdown")
    add("--faults", action="store_true",
        help="also put each fault of the catalog into minifw, and see what finds it; and verify "
        "wrong subjects and right variants, to see what is missed or found by mistake")  # fmt: skip
    add(
        "--quick",
        action="store_true",
        help="two dtypes, short runs, a third of the checks, no fuzzing",
    )
    add("-v", "--verbose", action="store_true", help="a row a case, not a row a class")
    add("--list", action="store_true", help="list cases and checks, and stop")
    add("--json", action="store_true", help="print everything as JSON and nothing else")
    add("--markdown", action="store_true", help="print tables as Markdown")
    return parser


def _verify_row(index: int, arguments: argparse.Namespace) -> Report:
    """Verify one row of the table of cases, in a worker process."""
    torch.set_num_threads(1)
    comparison = replace(of_case(CASES[index]), device=arguments.device)
    return _verify(comparison, arguments, f"python bench/verify.py --only {comparison.name!r}")


def _verify(comparison: Comparison, arguments: argparse.Namespace, command: str) -> Report:
    if arguments.example:
        try:
            example = Example.parse(arguments.example)
        except ValueError as error:
            raise UsageError(str(error)) from None
        verdicts = check(comparison, example, "example")
        return Report(comparison.name, tuple(verdicts), examples=1, command=command)
    return verify_comparison(
        comparison,
        dtypes=arguments.dtype,
        skip=arguments.without,
        max_examples=arguments.max_examples,
        seed=arguments.seed,
        command=command,
        power=not arguments.quick,
    )


def _verify_unit(index: int) -> Report:
    """Check one unit that is no layer, in a worker process."""
    torch.set_num_threads(1)
    return UNITS[index].report(minifw)


def _run_name(recipe: str, dtype: str) -> str:
    return f"run of {recipe} in {dtype}"


def _verify_run(recipe: str, dtype: str, epochs: int) -> Report:
    """Train one recipe in lockstep, in a worker process."""
    torch.set_num_threads(1)
    run = lockstep(RECIPES[recipe], epochs=epochs, dtype=dtype)
    apart = Verdict("weights", Status.PASSED, absolute=run.distance, relative=run.distance)
    cause = run.cause or apart
    verdict = replace(
        cause,
        check=f"lockstep, step {run.diverged_at}" if run.diverged_at else "lockstep",
        example=Example(dtype=dtype),
        bound=run.allowed,
    )
    return Report(_run_name(recipe, dtype), (verdict,), examples=run.steps)


def _chosen(names: Sequence[str], arguments: argparse.Namespace) -> list[int]:
    """The places of the names that --only and --skip leave."""
    return [
        place
        for place, name in enumerate(names)
        if (not arguments.only or any(text in name for text in arguments.only))
        and not any(text in name for text in arguments.skip)
    ]


def _verify_all(arguments: argparse.Namespace, log: Console) -> list[Report]:
    """Verify all chosen runs, units and cases; an example is one of cases alone."""
    rows = _chosen([case.name for case in CASES], arguments)
    if arguments.quick and not arguments.only:
        rows = [row for row in rows if row % 2 == 0 or CASES[row].module != CASES[row - 1].module]
    jobs = [delayed(_verify_row)(row, arguments) for row in rows]
    if not arguments.example:
        epochs = 3 if arguments.quick else LOCKSTEP_EPOCHS
        runs = [RUNS[place] for place in _chosen([_run_name(*run) for run in RUNS], arguments)]
        units = _chosen([unit.name for unit in UNITS], arguments)
        jobs = [
            *(delayed(_verify_run)(*run, epochs) for run in runs),
            *(delayed(_verify_unit)(unit) for unit in units),
            *jobs,
        ]
    if not jobs:
        raise UsageError("nothing is left to verify; --list shows what there is")
    # A few are done sooner than a second process is there.
    parallel = workers(1 if len(jobs) <= 4 else arguments.jobs, return_as="generator")
    reports: list[Report] = []
    with progress_bar(log, "cases") as progress:
        bar = progress.add_task("verifying", total=len(jobs))
        for report in parallel(jobs):
            reports.append(report)
            progress.advance(bar)
    return reports


def _print_frame(out: Console, frame: pd.DataFrame, as_markdown: bool) -> None:
    for name in frame.select_dtypes("float"):
        form = "{:.0%}" if str(name).startswith("power") else "{:.2g}"
        frame[name] = ["" if math.isnan(value) else form.format(value) for value in frame[name]]
    if as_markdown:
        print(markdown(frame))
    else:
        show(out, frame)


def _list(as_json: bool) -> None:
    listed = {
        "cases": [case.name for case in CASES],
        "units": [unit.name for unit in UNITS],
        "runs": [_run_name(*run) for run in RUNS],
        "checks": list(CHECK_NAMES),
    }
    if as_json:
        print(json.dumps(listed, indent=2))
    else:
        for what, names in listed.items():
            print("\n".join([f"{what}:", *(f"  {name}" for name in names)]))


def _conclude(
    arguments: argparse.Namespace,
    out: Console,
    reports: list[Report],
    certificate: Certificate,
    matrix: KillMatrix | None,
    subjects: pd.DataFrame | None,
    variants: pd.DataFrame | None,
) -> bool:
    """Print what all reports come to, and return whether that is good."""
    bad = [report for report in reports if report.status not in (Status.PASSED, Status.SKIPPED)]
    survivors = matrix.survivors() if matrix else []
    alarms = variants is not None and len(false_alarms(variants))
    holes = subjects is not None and new_misses(subjects)
    good = not (bad or survivors or holes or alarms) and certificate.holds
    if arguments.json:
        print(
            json.dumps(
                {
                    "status": "PASSED" if good else "FAILED",
                    "torch": torch.__version__,
                    "reports": [report.as_dict() for report in reports],
                    "certificate": dataclasses.asdict(certificate),
                    "faults": matrix.faults().to_dict(orient="records") if matrix else None,
                    "mistakes": None if subjects is None else records(subjects),
                    "variants": None if variants is None else records(variants),
                },
                indent=2,
            )
        )
        return good
    table = by_row(reports) if arguments.verbose else by_class(reports)
    _print_frame(out, table, arguments.markdown)
    for report in bad:
        out.print(str(report), highlight=False, markup=False, soft_wrap=True)
    show(out, str(certificate))
    if matrix:
        _print_frame(out, matrix.faults(), arguments.markdown)
        _print_frame(out, matrix.checks(), arguments.markdown)
    if subjects is not None:
        _print_frame(out, subjects, arguments.markdown)
    if variants is not None:
        _print_frame(out, variants, arguments.markdown)
    examples = sum(report.examples for report in reports)
    conclusion = [
        f"{len(reports) - len(bad)} of {len(reports)} cases, units and runs PASSED or SKIPPED, "
        f"in {examples:,} examples and steps; {arguments.max_examples} fuzzed examples a case."
    ]
    exceptions = {(c.module, *item) for c in CASES for item in c.exceptions.items()}
    conclusion += [
        f"Not checked of {module}: {name}; {reason}."
        for module, name, reason in sorted(exceptions)
        if any(report.name.startswith(module) for report in reports)
    ]
    if matrix:
        faults = len(matrix.kills)
        conclusion += [
            f"{faults - len(survivors)} of {faults} faults killed"
            f"{'; survivors: ' + ', '.join(survivors) if survivors else ''}.",
            f"False alarms: {len(bad)} of {len(reports)}.",
            f"Checks that kill no fault that another does not: {', '.join(matrix.redundant())}.",
        ]
    if subjects is not None:
        conclusion.append(describe_subjects(subjects))
    if variants is not None:
        conclusion.append(describe_variants(variants))
    show(out, *conclusion)
    return good


def _write(folder: Path, reports: list[Report]) -> None:
    table = by_row(reports)
    write_files(
        folder,
        {
            "verification.csv": table,
            "verification.md": markdown(by_class(reports)),
        },
    )


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--subject")
    own.add_argument("--reference")
    named, others = own.parse_known_args(argv)
    parser = _parser()
    if named.subject and named.reference:
        # It refuses every option that it would not heed, such as --faults.
        return command_line.main(["verify", named.subject, named.reference, *others])
    if named.subject or named.reference:
        parser.error("--subject needs a --reference, such as torch.nn.Linear, and the reverse")
    arguments = parser.parse_args(argv)
    out, log = consoles()
    if arguments.list:
        _list(arguments.json)
        return 0
    arguments.dtype = arguments.dtype or list(QUICK_DTYPES if arguments.quick else DTYPES)
    if arguments.quick:
        arguments.without += [name for name in CHECK_NAMES if name not in QUICK_CHECKS]
    if arguments.max_examples is None:
        arguments.max_examples = 0 if arguments.quick else 20
    with parser.ending(UsageError, OutputFolderError):
        if arguments.output_dir:
            check_writable(arguments.output_dir)
        reports = _verify_all(arguments, log)
        matrix = kill_matrix(arguments.jobs, log) if arguments.faults else None
        subjects = wrong_subjects(arguments.jobs, log) if arguments.faults else None
        variants = right_variants(arguments.jobs, log) if arguments.faults else None
        good = _conclude(arguments, out, reports, certify(), matrix, subjects, variants)
        if arguments.output_dir:
            _write(arguments.output_dir, reports)
            if matrix:
                from bench.faults.kill_report import write_kill_matrix  # which imports matplotlib

                write_kill_matrix(matrix, arguments.output_dir)
            if subjects is not None:
                write_wrong_subjects(subjects, arguments.output_dir)
            if variants is not None:
                write_right_variants(variants, arguments.output_dir)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
