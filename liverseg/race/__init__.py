"""The race: a decision is a pure function of recorded facts (docs/architecture.md section 4).

Nothing in here imports torch or prints. `records/` has the facts, `decide/` is pure, `executors/`
run trainers, `audit/` makes decisions again; only `controller.py` acts, through the two ports.
"""
