"""What a race has recorded: every fact, its key, and who writes it."""
