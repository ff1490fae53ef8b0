"""The race: a decision is a pure function of recorded facts; adapters touch the world.

Nothing in here imports torch, reads the environment or prints. `plan.py` and `state.py` are pure;
only `controller.py` acts, and only through the ObjectStore and Executor ports.
"""
