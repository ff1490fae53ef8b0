"""Values and decisions: standard library, numpy and scipy.

No file, socket, clock, environment, thread or print may happen in here.
"""
