"""Training: the race of the seeds, and one trainer of it."""
