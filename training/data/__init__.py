"""What a training sees of the outcome log, as arrays."""
