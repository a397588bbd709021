"""Worked examples: a subject of each kind, right and wrong, as a user would write it."""
