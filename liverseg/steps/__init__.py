"""One file with `run(...)` per pipeline step; adapters come in as arguments.

Nothing in here prints, and only race/trainer_backend.py reads the environment.
"""
