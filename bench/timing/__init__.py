"""Timing: trials interleaved in one process, ratios and their intervals."""
