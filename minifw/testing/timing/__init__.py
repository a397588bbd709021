"""What a backward pass costs: time and memory beside the reference's, in one process."""
