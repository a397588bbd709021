"""What verifies minifw alone: optimizers, schedules, data, whole runs, and no use of autograd."""
