"""Training runs: all of a sweep, kept in a history, on one machine or a cluster."""
