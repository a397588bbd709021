"""The command ``minifw``: is a hand-written backward pass equal to PyTorch's?

Nothing here imports torch, rich or hypothesis before it is needed: ``minifw --help`` answers at
once, and without the extra ``[testing]`` the command says what is missing.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import json
import math
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minifw.testing.isolation import Runner, SubjectError
from minifw.testing.screen import csv_text, sections

if TYPE_CHECKING:
    from rich.console import Console

    from minifw.testing import Report
    from minifw.testing.comparison import Comparison
    from minifw.testing.example import Example
    from minifw.testing.timing.plan import TimingPlan

__all__ = [
    "OutputFolderError",
    "Parser",
    "at_least",
    "check_writable",
    "device",
    "exit_codes",
    "main",
    "positive",
    "words",
]

EXAMPLES = """\
examples:
  minifw verify my_layers.py:MyLinear torch.nn.Linear --init '3, 5, bias=False' --input 4,3
  minifw verify my_losses.py:MyLoss torch.nn.CrossEntropyLoss --input 4,10 --input 4:long:10
  minifw verify my_package.layers:Swish torch.nn.SiLU --input 4,3 --quick
  minifw verify my_optimizers.py:MyAdam torch.optim.Adam --init 'lr=0.01'
  minifw verify my_layers.py:MyLinear torch.nn.Linear --init '3, 5' --input 4,3 \\
      --dtype float32 --json
  minifw verify my_layers.py:MyNorm torch.nn.LayerNorm --init 256 --input 16,256 \
      --time --sweep 'batch=1,16,256,4096' --fail-below 1.0

inputs:
  4,3  or  4,3:float       normally distributed numbers of this shape
  4,3:probability          numbers between 0 and 1
  4,3:binary               0 or 1
  4:long:10                whole numbers from 0 to 9
  4,3:float:constant       an input that the subject gives no gradient of, as a target

exit codes:
  0  good    1  a comparison failed    2  wrong usage    3  slower than allowed
  4  the machine failed: no memory, a full disk, a closed pipe    130  interrupted
"""

QUICK_DTYPES = ("float64", "float32")
# One for each kind of attack; the kill matrix says how much the others add.
QUICK_CHECKS = {
    *("values-float64", "values-float32", "transposed", "empty-batch", "one-sample"),
    *("nan", "ties", "other-mode", "two-forwards", "frozen"),
}


# References that are optimizers or schedules, which have no inputs: told apart by name, since torch
# is imported later.
OPTIMIZERS = re.compile(r"\boptim\b|^(SGD|ASGD|Ada\w+|NAdam|RAdam|RMSprop|Rprop|\w+LR)$")


Main = Callable[..., int]
_CLOSED_PIPE = "whoever read the output has closed it"


class OutputFolderError(OSError):
    """The output folder cannot be written."""


def exit_codes(main: Main) -> Main:
    """Decorate a command's main function: what fails for want of memory, disk and the like ends
    with exit code 4 and one line, any other error with 4 and its traceback.

    Python itself would exit with 1, which says that a comparison failed.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        try:
            if sys.stdout is None:
                raise OSError("standard output is closed")
            code = main(argv)
            sys.stdout.flush()
            return code
        except (OSError, MemoryError, BrokenExecutor) as error:
            line = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, BrokenPipeError):
                line = _CLOSED_PIPE
        except SystemExit as error:
            if not isinstance(error.__context__, BrokenPipeError):
                raise
            line = _CLOSED_PIPE  # which rich turns into exit code 1
        except Exception:
            traceback.print_exc()
            line = "an unexpected error, see above"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Or Python would fail once more when it closes standard output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"{Path(sys.argv[0]).name}: failed: {line}", file=sys.stderr)
        return 4

    return guarded


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        message = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {message} (--help shows the usage)\n")

    @contextlib.contextmanager
    def ending(
        self, *errors: type[Exception], left: str = "earlier results are as they were"
    ) -> Iterator[None]:
        """Context that one of ``errors`` ends with exit code 2, and an interrupt with 130."""
        try:
            yield
        except errors as error:
            self.error(str(error))
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted; {left}\n")


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least ``smallest``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {smallest}, got {text!r}"
            )
        return number

    return parse


def positive(text: str) -> float:
    """The type of an argument that is a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def words(text: str) -> list[str]:
    """The type of an argument that is a name, or several with commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def device(text: str) -> str:
    """The type of an argument that names a torch device, once it has been seen to work."""
    import torch

    try:
        torch.zeros(1, device=text).item()  # which "meta" can make, and not read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"cannot use device {text!r}: {reason}") from None
    return text


def check_writable(folder: Path, option: str = "--output-dir") -> None:
    """Make ``folder`` if there is none, and raise unless a file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # which needs no name
            pass
    except OSError as error:
        raise OutputFolderError(
            f"cannot write to the output folder {str(folder)!r} ({error.strerror}); "
            f"name another with {option}"
        ) from None


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        versions = [f"minifw {version('minifw')}", f"torch {version('torch')}"]
        print(", ".join([*versions, f"Python {platform.python_version()}"]))
        parser.exit(0)


def _parser() -> tuple[Parser, Parser]:
    parser = Parser(
        prog="minifw", description=__doc__.splitlines()[0].partition(": ")[2].capitalize(),
        epilog="`minifw verify --help` has examples and the exit codes.",
    )  # fmt: skip
    parser.add_argument("--version", action=_Version, nargs=0,
        help="print the versions of minifw, torch and Python, and stop")  # fmt: skip
    verify = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        "verify",
        help="verify a layer, a loss or a function of yours",
        description="Is this hand-written backward pass equal to PyTorch's?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = verify.add_argument
    add("subject", metavar="FILE:NAME", nargs="?",
        help="class or function in a file, or in a module (package.module:NAME)")  # fmt: skip
    add("reference", metavar="REFERENCE", nargs="?",
        help="the trusted class: torch.nn.NAME, or FILE:NAME")  # fmt: skip
    add("--input", action="append", default=[], metavar="SHAPE[:KIND]",
        help="an input; once for each")  # fmt: skip
    add("--init", default="", metavar="ARGUMENTS",
        help="arguments of both constructors, as in a call")  # fmt: skip
    add("--reference-init", metavar="ARGUMENTS",
        help="arguments of the reference's constructor, where they are others")  # fmt: skip
    add("--call", default="", metavar="ARGUMENTS",
        help="arguments of every call after the inputs, as 'dim=-1, eps=1e-6'")  # fmt: skip
    add("--backward", metavar="NAME",
        help="the function that goes back, where the subject is one that goes forward")  # fmt: skip
    add("--contract", metavar="NAME",
        help="which clauses decide: formula, torch or minifw (default: that of the subject's "
        "kind)")  # fmt: skip
    add("--require", nargs="+", action="extend", type=words, default=[], metavar="CLAUSE",
        help="clauses that decide besides; --list shows them")  # fmt: skip
    add("--allow", nargs="+", action="extend", type=words, default=[], metavar="CLAUSE",
        help="clauses that are reported and do not decide")  # fmt: skip
    add("--timeout", type=positive, default=60.0, metavar="SECONDS",
        help="that one call of the subject may take (default: 60)")  # fmt: skip
    add("--memory-limit", type=positive, metavar="GIB",
        help="that the subject may allocate (default: three quarters of what there "
        "is)")  # fmt: skip
    add("--no-isolate", action="store_true",
        help="run the subject in this process, for a debugger")  # fmt: skip
    add("--in-place", action="store_true",
        help="the subject may modify its inputs and cotangents")  # fmt: skip
    add("--dtype", nargs="+", action="extend", type=words, default=[], metavar="NAME",
        help="float64, float32, bfloat16 or float16 (default: all; quick: the first "
        "two)")  # fmt: skip
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--max-examples", type=at_least(0), metavar="N",
        help="fuzzed examples (default: 100; quick: 0)")  # fmt: skip
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the fuzzer (default: 0)")
    add("--quick", action="store_true", help="two dtypes, a third of the checks, no fuzzing")
    add("--time", action="store_true",
        help="time it beside the reference if it passes (needs minifw[timing])")  # fmt: skip
    add("--time-input", action="append", default=[], metavar="SHAPE",
        help="time it at this shape too; once for each input")  # fmt: skip
    add("--sweep", default="", metavar="SIZES",
        help="time it at these sizes too, as 'batch=1,16,256,4096'")  # fmt: skip
    add("--beside", choices=("compile",),
        help="time the reference after torch.compile as well")  # fmt: skip
    add("--threads", type=at_least(1), default=1, metavar="N",
        help="of torch, while it is timed (default: 1)")  # fmt: skip
    add("--fail-below", type=positive, metavar="X",
        help="exit with 3 if a step is surely slower than X times the reference's")  # fmt: skip
    add("--example", metavar="JSON", help="this one example alone, as a failure prints it")
    add("--skip", "--without", nargs="+", action="extend", type=words, default=[],
        metavar="CHECK", help="checks or clauses to leave out; --list shows them")  # fmt: skip
    add("--list", action="store_true", help="list clauses and checks, and stop")
    add("--json", action="store_true", help="print everything as JSON and nothing else")
    add(
        "--csv", type=Path, metavar="FILE", help="write the tensors there, a row a tensor and dtype"
    )
    add("--markdown", action="store_true", help="print tables as Markdown")
    add("-v", "--verbose", action="store_true", help="all columns of the tensors")
    add("--output-dir", type=Path, metavar="DIR",
        help="write verification.csv, .json and .md there, and timing.csv and .png")  # fmt: skip
    return parser, verify


def _check_memory(comparison: "Comparison") -> None:
    """Raise if the inputs alone, of which several copies are held, do not fit into memory."""
    from minifw.testing import UsageError

    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = 8 * 8 * sum(math.prod(spec.shape) for spec in comparison.inputs)
    if needed > there:
        raise UsageError(
            f"these inputs need about {needed / 2**30:,.0f} GiB of memory, and there are "
            f"{there / 2**30:,.0f}; give a smaller --input"
        )


def _command(arguments: argparse.Namespace) -> str:
    """The line that runs this comparison again, for ``--example``."""
    line = ["minifw", "verify", arguments.subject, arguments.reference]
    line += ["--init", arguments.init] if arguments.init else []
    if arguments.reference_init is not None:
        line += ["--reference-init", arguments.reference_init]
    line += ["--call", arguments.call] if arguments.call else []
    line += ["--backward", arguments.backward] if arguments.backward else []
    line += [word for text in arguments.input for word in ("--input", text)]
    line += ["--device", arguments.device] if arguments.device != "cpu" else []
    line += ["--contract", arguments.contract] if arguments.contract else []
    line += ["--in-place"] if arguments.in_place else []
    return shlex.join(line)


def _plan(arguments: argparse.Namespace) -> "TimingPlan | None":
    from minifw.testing.timing.plan import TimingPlan

    if not arguments.time:
        return None
    return TimingPlan(
        inputs=arguments.time_input,
        sweep=arguments.sweep,
        compiled=arguments.beside is not None,
        threads=arguments.threads,
    )


def _verify_optimizer(arguments: argparse.Namespace) -> "Report":
    """Verify an optimizer or a schedule, in this process."""
    from minifw.testing import UsageError
    from minifw.testing.from_text import load, read_call
    from minifw.testing.optimizers import is_optimizer_reference, verify_optimizer
    from minifw.testing.schedules import is_schedule_reference, verify_schedule

    reference = load(arguments.reference)
    positional, options = read_call(arguments.init)
    settings: dict[str, Any] = {
        "contract": arguments.contract,
        "require": list(chain(*arguments.require)),
        "allow": list(chain(*arguments.allow)),
        "name": arguments.subject.rpartition(":")[2],
    }
    if arguments.reference_init is not None:
        settings["reference_options"] = read_call(arguments.reference_init)[1]
    subject = load(arguments.subject)
    if is_optimizer_reference(reference):
        return verify_optimizer(subject, reference, positional, options, **settings)
    if is_schedule_reference(reference):
        return verify_schedule(subject, reference, positional, options, **settings)
    raise UsageError(
        f"expected an --input, such as 4,3, for each input: {arguments.reference} is neither an "
        "optimizer nor a schedule"
    )


def _verify(arguments: argparse.Namespace) -> "Report":
    """Verify, with the subject in a process of its own unless that is not wanted."""
    if OPTIMIZERS.search(arguments.reference) or not arguments.input:
        return _verify_optimizer(arguments)
    # Before torch is imported here: the other process imports it at the same time.
    runner = None if arguments.no_isolate else Runner(arguments.timeout, arguments.memory_limit)
    with runner or contextlib.nullcontext():
        from minifw.testing import UsageError
        from minifw.testing.from_text import comparison_from_text, load
        from minifw.testing.remote import Elsewhere, isolated
        from minifw.testing.verification import lost_report, timed

        try:
            device(arguments.device)
        except argparse.ArgumentTypeError as error:
            raise UsageError(str(error)) from None
        comparison = comparison_from_text(
            arguments.subject,
            arguments.reference,
            arguments.init,
            arguments.input,
            arguments.device,
            Elsewhere if runner else load,
            reference_init=arguments.reference_init,
            call=arguments.call,
            backward=arguments.backward,
        )
        comparison = dataclasses.replace(comparison, in_place=arguments.in_place)
        _check_memory(comparison)
        plan = _plan(arguments)
        if plan:
            plan.sizes(comparison)  # which says what is wrong with them
        if runner is None:
            return timed(_report(comparison, arguments), comparison, plan)
        texts = [arguments.reference, *(text for text in arguments.input if ".py:" in text)]
        try:
            comparison = isolated(comparison, runner, texts)
            report = timed(_report(comparison, arguments), comparison, plan, runner)
        except SubjectError as error:
            return lost_report(comparison, error, _command(arguments))
        if arguments.subject.rpartition(":")[0] == arguments.reference.rpartition(":")[0] != "":
            note = "the reference is in the subject's file, which the judging process imports too"
            report = dataclasses.replace(report, notes=(*report.notes, note))
        return report


def _report(comparison: "Comparison", arguments: argparse.Namespace) -> "Report":
    from minifw.testing import UsageError
    from minifw.testing.example import DTYPES, Example
    from minifw.testing.verification import CHECK_NAMES, verify_comparison

    dtypes = list(chain(*arguments.dtype)) or list(QUICK_DTYPES if arguments.quick else DTYPES)
    skip = list(chain(*arguments.skip))
    if arguments.example:
        try:
            example = Example.parse(arguments.example)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return _verify_example(comparison, example, arguments)
    if arguments.quick:
        skip += [name for name in CHECK_NAMES if name not in QUICK_CHECKS]
    examples = arguments.max_examples
    return verify_comparison(
        comparison,
        contract=arguments.contract,
        require=list(chain(*arguments.require)),
        allow=list(chain(*arguments.allow)),
        dtypes=dtypes,
        skip=skip,
        max_examples=(0 if arguments.quick else 100) if examples is None else examples,
        seed=arguments.seed,
        command=_command(arguments),
        power=not arguments.quick,
    )


def _verify_example(
    comparison: "Comparison", example: "Example", arguments: argparse.Namespace
) -> "Report":
    """Make one check, of which every clause decides: it was asked for."""
    import torch

    from minifw.testing import Report
    from minifw.testing.check import check
    from minifw.testing.comparison import draw

    contract = arguments.contract or draw(comparison, example).subject(torch.float64).contract
    verdicts = check(
        dataclasses.replace(comparison, strict=contract != "formula"), example, "example"
    )
    return Report(
        comparison.name,
        tuple(verdicts),
        reference=comparison.reference_name,
        contract=contract,
        examples=1,
        command=_command(arguments),
    )


def _require(parser: Parser, arguments: argparse.Namespace) -> None:
    """End with exit code 2 if the extra or an argument that is always needed is missing."""
    missing = [name for name in ("rich", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} is missing: pip install 'minifw[testing]'")
    timing = ("time_input", "sweep", "beside", "fail_below")
    given = [f"--{name.replace('_', '-')}" for name in timing if getattr(arguments, name)]
    if given and not arguments.time:
        parser.error(f"{given[0]} says what to time: give --time too")
    if arguments.time and importlib.util.find_spec("seaborn") is None:
        parser.error("pandas, scipy and seaborn are needed: pip install 'minifw[timing]'")
    if not arguments.subject or not arguments.reference:
        parser.error("expected a subject and a reference, such as my.py:Layer torch.nn.Linear")
    if arguments.time and arguments.reference and OPTIMIZERS.search(arguments.reference):
        parser.error("--time is for layers, losses and functions, not for optimizers")


def _list(as_json: bool) -> None:
    from minifw.testing.catalog import CHECKS
    from minifw.testing.clause import CLAUSES

    if as_json:
        clauses = {name: clause.summary for name, clause in CLAUSES.items()}
        checks = {name: planned.clause for name, planned in CHECKS.items()}
        print(json.dumps({"clauses": clauses, "checks": checks}, indent=2))
        return
    for name, clause in CLAUSES.items():
        print(f"{name:18} {clause.summary} (decides in: {', '.join(clause.contracts)})")
        names = [check for check, planned in CHECKS.items() if planned.clause == name]
        if names:
            print(f"{'':18} checks: {', '.join(names)}")


def _write(folder: Path, report: "Report") -> None:
    contents = {
        "verification.csv": csv_text(report.rows()),
        "verification.json": json.dumps(report.as_dict(), indent=2) + "\n",
        "verification.md": "\n".join(_lines(report, verbose=True, markdown=True)) + "\n",
    }
    if report.timing:
        contents["timing.csv"] = csv_text(report.timing.rows())
    for name, text in contents.items():
        _write_whole(folder / name, text)
    if report.timing:
        from minifw.testing.timing.picture import draw_speed_up

        draw_speed_up(
            report.timing, f"{report.name} against {report.reference}", folder / "timing.png"
        )


def _write_whole(path: Path, text: str) -> None:
    """Write a file that is either the earlier one or the new one, whenever the process ends."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _lines(report: "Report", *, verbose: bool, markdown: bool) -> Iterator[str]:
    yield f"**{report.headline}**" if markdown else report.headline
    for title, lines in sections(report, verbose=verbose, markdown=markdown):
        yield ""
        if title:
            yield f"## {title.capitalize()}\n" if markdown else f"{title}:"
        yield from lines


def _print(report: "Report", arguments: argparse.Namespace, out: "Console") -> None:
    """The headline in bold and color on a terminal; plain text anywhere else."""
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))
        return
    headline, *lines = _lines(report, verbose=arguments.verbose, markdown=arguments.markdown)
    color = "green" if report.status == "PASSED" else "red"
    out.print(headline, style=f"bold {color}", highlight=False, markup=False, soft_wrap=True)
    print("\n".join(lines))


@exit_codes
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser, verify = _parser()
    arguments = parser.parse_args(argv)
    if arguments.list:
        _list(arguments.json)
        return 0
    _require(verify, arguments)
    from rich.console import Console

    log = Console(stderr=True)
    with verify.ending(OutputFolderError, left="nothing was written"):
        if arguments.output_dir:
            check_writable(arguments.output_dir)
        if arguments.csv:
            check_writable(arguments.csv.absolute().parent, "--csv")
        # torch takes a second to import: whoever waits is told before.
        waiting = log.status(f"verifying {arguments.subject}") if log.is_terminal else None
        with waiting or contextlib.nullcontext():
            from minifw.testing import UsageError

            with verify.ending(UsageError, left="nothing was written"):
                report = dataclasses.replace(_verify(arguments), reference=arguments.reference)
    if arguments.csv:
        _write_whole(arguments.csv, csv_text(report.rows()))
    if arguments.output_dir:
        _write(arguments.output_dir, report)
    _print(report, arguments, Console())
    if report.status != "PASSED":
        return 1
    slow = report.timing.slower_than(arguments.fail_below or 0) if report.timing else []
    for line in slow:
        print(f"slower than {arguments.fail_below:g}: {line}", file=sys.stderr)
    return 3 if slow else 0
