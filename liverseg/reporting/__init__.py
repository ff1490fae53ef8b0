"""Pages and figures from plain values and arrays.

No store, no race, no torch in here: what is shown is handed in.
"""
