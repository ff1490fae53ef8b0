"""Which running trainers are so slow that another node would do better. Pure.

A node with a throttled GPU or a bad disk holds up its whole rung. The trainer is ended, saves its
checkpoint, and its next attempt continues from there, bit for bit.
"""

import statistics
from collections.abc import Iterator, Mapping

from liverseg.core.race.ledger import Span
from liverseg.race.decide.state import RaceState
from liverseg.race.records.decisions import Failure
from liverseg.race.records.job import JobName, JobState
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.spans import attempt_of

# Slower than its siblings by more than this ...
FACTOR = 3.0
# ... while at least so many of them are known ...
SIBLINGS = 2
# ... and moving saves more than it costs, in seconds.
WORTH_SECONDS = 600.0
# Validations over which a rate is taken: a node that has become slow is seen after these.
_WINDOW = 3


def stragglers(
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[str, tuple[JobName, JobState]],
    generation: int,
) -> Iterator[Failure]:
    """Yield a failure for every running job to be moved; once a seed and rung."""
    rates = {at: rate for at, s in snapshot.spans.items() if (rate := _rate(s)) is not None}
    for parts, job in jobs.values():
        at = attempt_of(parts)
        seed_state = state.seed_state(parts.seed, parts.rung)
        if (
            at not in rates
            or not job.running
            or seed_state is None
            or seed_state.report
            or seed_state.lost
        ):
            continue
        if any(f.kind == "straggler" or f.attempt == parts.attempt for f in seed_state.failures):
            continue
        others = [rate for other, rate in rates.items() if other != at]
        if len(others) < SIBLINGS:
            continue
        usual, rate = statistics.median(others), rates[at]
        index = len(state.rungs) - 1 if parts.rung == "baseline" else parts.rung
        reached = snapshot.spans[at].samples[-1].iteration
        left = state.rungs[index].rung.iterations - reached
        if rate * FACTOR < usual and left / rate - left / usual > WORTH_SECONDS:
            yield Failure(
                seed=parts.seed,
                rung=parts.rung,
                attempt=parts.attempt,
                exit_code=None,
                reason=f"moved: {rate:.3g} iterations a second, its siblings {usual:.3g}",
                kind="straggler",
                iteration=reached,
                generation=generation,
            )


def _rate(span: Span) -> float | None:
    """Return iterations a second over the last validations; None before the first."""
    # The first sample is the start, the second where it resumed.
    samples = span.samples[1:][-_WINDOW:]
    if len(samples) < 2 or samples[-1].time <= samples[0].time:
        return None
    rate = (samples[-1].iteration - samples[0].iteration) / (samples[-1].time - samples[0].time)
    return rate if rate > 0 else None
