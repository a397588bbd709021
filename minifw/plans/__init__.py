"""Captured calls: a module's call and its backward pass, recorded once and then replayed.

CUDA graphs do the same. Nothing here computes anything new: under :func:`disabled` every call has
the same result, later.
"""

from minifw.plans.captured import disabled

__all__ = ["disabled"]
