"""Which running trainers are so slow that another node would do better. Pure.

A node with a throttled GPU or a bad disk holds up its whole rung. The trainer is ended, saves its
checkpoint, and its next attempt continues from there, bit for bit.
"""

import statistics
from collections.abc import Mapping

from liverseg.core.race.ledger import Span
from liverseg.race.decide.state import RaceState
from liverseg.race.records.job import Attempt

# Slower than its siblings by more than this ...
FACTOR = 3.0
# ... while at least so many of them are known ...
SIBLINGS = 2
# ... and moving saves more than it costs, in seconds.
WORTH_SECONDS = 600.0
# Stretches between validations over which a rate is taken: a node that has become slow is seen
# after these.
_STRETCHES = 2


def stragglers(state: RaceState, spans: Mapping[Attempt, Span]) -> dict[Attempt, str]:
    """Return, for every attempt to be moved if it still runs, the reason; once a seed and rung."""
    rates = {at: rate for at, span in spans.items() if (rate := _rate(span)) is not None}
    slow = {}
    for at, rate in rates.items():
        seed_state = state.seed_state(at.seed, at.rung)
        if (
            len(rates) <= SIBLINGS
            or seed_state is None
            or not seed_state.awaits(at.attempt)
            or any(failure.kind == "straggler" for failure in seed_state.failures)
        ):
            continue
        usual = statistics.median(rate for other, rate in rates.items() if other != at)
        index = -1 if at.rung == "baseline" else at.rung
        left = state.rungs[index].rung.iterations - spans[at].samples[-1].iteration
        if rate * FACTOR < usual and left / rate - left / usual > WORTH_SECONDS:
            slow[at] = f"moved: {rate:.3g} iterations a second, its siblings {usual:.3g}"
    return slow


def _rate(span: Span) -> float | None:
    """Return iterations a second over the last validations; None before the first."""
    last = span.stretches[-_STRETCHES:]
    iterations, seconds = sum(i for i, _ in last), sum(s for _, s in last)
    return iterations / seconds if iterations > 0 and seconds > 0 else None
