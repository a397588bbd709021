"""Is a hand-written backward pass equal to PyTorch's? The verification engine.

::

    from minifw.testing import verify

    report = verify(MyLinear, torch.nn.Linear, ["4,5"], (5, 3))
    assert report.status == "PASSED", report

Nothing else in :mod:`minifw` imports this package but ``python -m minifw``, its command.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minifw.testing.optimizers import verify_optimizer
    from minifw.testing.report import Report
    from minifw.testing.schedules import verify_schedule
    from minifw.testing.subjects import Adapter, UsageError
    from minifw.testing.timing.plan import TimingPlan
    from minifw.testing.verdict import Status, Verdict
    from minifw.testing.verification import verify

__all__ = [
    "Adapter",
    "Report",
    "Status",
    "TimingPlan",
    "UsageError",
    "Verdict",
    "verify",
    "verify_optimizer",
    "verify_schedule",
]

# Imported when first used, as in minifw itself: the pytest plugin lies beside them.
_MODULES = {
    "Adapter": "subjects", "Report": "report", "Status": "verdict", "TimingPlan": "timing.plan",
    "UsageError": "subjects", "Verdict": "verdict", "verify": "verification",
    "verify_optimizer": "optimizers",
    "verify_schedule": "schedules",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'minifw.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"minifw.testing.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
