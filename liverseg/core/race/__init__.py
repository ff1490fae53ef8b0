"""Successive halving, what it costs, and how sure its decisions are."""
