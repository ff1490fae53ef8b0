"""One file, one `run(...)` a pipeline step; adapters come in as arguments.

Nothing in here reads the environment or prints.
"""
