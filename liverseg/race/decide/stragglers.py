"""Which running trainers are so slow that another node would do better. Pure.

A node with a throttled GPU or a bad disk holds up its whole rung. The trainer is ended, saves its
checkpoint, and its next attempt continues from there, bit for bit.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from liverseg.core.race.ledger import Span
from liverseg.race.decide.state import RaceState
from liverseg.race.records.job import Attempt

# Slower than its siblings by more than this ...
FACTOR = 3.0
# ... while at least so many of them are known ...
SIBLINGS = 2
# ... and moving saves more than it costs, in seconds.
WORTH_SECONDS = 600.0


def stragglers(state: RaceState, spans: Mapping[Attempt, Span]) -> dict[Attempt, str]:
    """Return why to move each attempt that is slow; a seed is moved at most once per rung."""
    rates = {at: rate for at, span in spans.items() if (rate := span.recent_rate) is not None}
    in_order = sorted(rates.values())
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
        usual = _median_without(rate, in_order)
        index = -1 if at.rung == "baseline" else at.rung
        left = state.rungs[index].rung.iterations - spans[at].samples[-1].iteration
        if rate * FACTOR < usual and left / rate - left / usual > WORTH_SECONDS:
            slow[at] = f"moved: {rate:.3g} iterations a second, its siblings {usual:.3g}"
    return slow


def _median_without(one: float, in_order: Sequence[float]) -> float:
    """Return the median of all values but `one`; sorted once, since a rung may have thousands."""
    at, others = bisect_left(in_order, one), len(in_order) - 1
    middle = ((others - 1) // 2, others // 2)
    lower, upper = (in_order[number + (number >= at)] for number in middle)
    return (lower + upper) / 2
