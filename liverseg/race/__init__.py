"""The race: a decision is a pure function of recorded facts; adapters touch the world.

Nothing in here imports torch or prints. `records/` has the facts, `decide/` is pure, `executors/`
run trainers, `audit/` derives decisions again; only `controller.py` acts, and only through the
ObjectStore and Executor ports (docs/architecture.md section 4).
"""
