"""Captured steps: training steps that are captured once and then replayed, as CUDA graphs.

Nothing here computes anything new: under :func:`disabled` every step has the same result, later.
"""

from minifw.plans.plan import differentiate, disabled

__all__ = ["differentiate", "disabled"]
