"""The equivalence engine: proves a hand-written backward pass equal to PyTorch's."""

from bench.equivalence.engine import Comparison, of_case
from bench.equivalence.report import Report
from bench.equivalence.subject import Adapter, UsageError
from bench.equivalence.verdict import Status, Verdict
from bench.equivalence.verification import verify, verify_comparison

__all__ = [
    "Adapter",
    "Comparison",
    "Report",
    "Status",
    "UsageError",
    "Verdict",
    "of_case",
    "verify",
    "verify_comparison",
]
