"""What the commands share: arguments and exit codes, files, provenance."""
