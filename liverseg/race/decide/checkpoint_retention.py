"""Which checkpoints a study still needs. Pure: state and what is there give what may go.

Kept are the winner's last (with its best weights), what the reports of the last three rungs name,
and the newest of every seed that is still in the race, of A2 too. All else may go as soon as the
decision that makes it useless is recorded.
"""

from collections.abc import Iterable, Mapping

from liverseg.race.decide.state import RaceState
from liverseg.race.records.facts import Checkpoint
from liverseg.settings import BASELINE_SEED

LAST_RUNGS = 3


def useless(state: RaceState, there: Mapping[int, Iterable[Checkpoint]]) -> list[Checkpoint]:
    """Return the checkpoints that may be deleted.

    Args:
        state: Of the race.
        there: By seed, the committed checkpoints.
    """
    named = {
        seed_state.report.report.checkpoint
        for rung in state.rungs[-LAST_RUNGS:]
        for seed_state in rung.seeds.values()
        if seed_state.report is not None
    }
    found = []
    for seed, checkpoints in there.items():
        newest = max((c.iteration for c in checkpoints), default=0)
        for saved in checkpoints:
            if saved.prefix in named or (saved.iteration == newest and _races(state, seed)):
                continue
            if _decided(state, seed, saved.iteration):
                found.append(saved)
    return found


def _races(state: RaceState, seed: int) -> bool:
    """Return whether nothing recorded says that the seed will never train again."""
    if seed == BASELINE_SEED:
        return True
    return not any(rung.decision and seed in rung.decision.pruned for rung in state.rungs)


def _decided(state: RaceState, seed: int, iteration: int) -> bool:
    """Return whether the rung that the checkpoint led to is decided; A2 has no rung between."""
    if seed == BASELINE_SEED:
        return state.baseline.report is not None
    return any(
        rung.decision is not None and iteration <= rung.rung.iterations and seed in rung.seeds
        for rung in state.rungs
    )
