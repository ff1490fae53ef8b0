"""What a trainer's process does."""
