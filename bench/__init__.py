"""The harness of minifw: comparisons, timings, tables and pictures; used from a clone."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the clone
