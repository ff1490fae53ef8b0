"""What follows from the facts. Pure: no store, no executor, no clock."""
