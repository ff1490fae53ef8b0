"""Which checkpoints a study still needs. Pure: state and what is there give what may go.

Kept are the winner's last (with its best weights), what the reports of the last three rungs name,
and the newest of every seed still in the race and of the baseline. All else may go once decided.
"""

from collections.abc import Collection, Mapping

from liverseg.race.decide.state import RaceState
from liverseg.race.records.facts import Checkpoint
from liverseg.race.records.reports import ReportKey
from liverseg.settings import BASELINE_SEED

LAST_RUNGS = 3


def needed_reports(state: RaceState) -> list[ReportKey]:
    """Return the reports whose checkpoints are kept whatever becomes of their seeds."""
    seeds = [one for rung in state.rungs[-LAST_RUNGS:] for one in rung.seeds.values()]
    return [one.report for one in seeds if one.report is not None]


def useless(
    state: RaceState, saved: Mapping[int, Collection[Checkpoint]], named: Collection[str]
) -> list[Checkpoint]:
    """Return which of the `saved` checkpoints, by seed, may be deleted.

    `named` are the prefixes of those that `needed_reports` name.
    """
    # Nothing recorded says of the others, the baseline among them, that they never train again.
    pruned = {s for rung in state.rungs if rung.decision for s in rung.decision.pruned}
    chosen = []
    for seed, checkpoints in saved.items():
        newest = max((c.iteration for c in checkpoints), default=0)
        chosen += [
            checkpoint
            for checkpoint in checkpoints
            if checkpoint.prefix not in named
            and (checkpoint.iteration != newest or seed in pruned)
            and _decided(state, seed, checkpoint.iteration)
        ]
    return chosen


def _decided(state: RaceState, seed: int, iteration: int) -> bool:
    """Return whether the rung that the checkpoint led to is decided; the baseline has only one."""
    if seed == BASELINE_SEED:
        return state.baseline.report is not None
    return any(
        rung.decision is not None and iteration <= rung.rung.iterations and seed in rung.seeds
        for rung in state.rungs
    )
