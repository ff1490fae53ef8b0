import statistics

from hypothesis import given
from hypothesis import strategies as st

from liverseg.core.race.halving import Rung
from liverseg.core.race.ledger import Sample, Span
from liverseg.race.decide.state import RaceState, RungState, SeedState
from liverseg.race.decide.stragglers import FACTOR, stragglers
from liverseg.race.records.job import Attempt

RUNG = Rung(size=20, iterations=1_000_000)
WAITING = SeedState(report=None, lost=False, attempt=0, failures=())


def span(seed: int, seconds: int) -> Span:
    """A trainer that takes so many seconds for ten iterations."""
    samples = (Sample(0, 0.0), *(Sample(10 * n, float(seconds * n)) for n in range(3)))
    return Span(seed, 0, 0, samples, False, None)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_a_straggler_is_slower_than_the_median_of_all_others(seconds: list[int]) -> None:
    spans = {Attempt(0, seed, 0): span(seed, taken) for seed, taken in enumerate(seconds)}
    seeds = dict.fromkeys(range(len(seconds)), WAITING)
    rung = RungState(0, RUNG, 10, seeds, 0, {}, frozenset(), None)
    rates = [10 / taken for taken in seconds]
    expected = {
        Attempt(0, seed, 0)
        for seed, rate in enumerate(rates)
        if len(rates) > 2 and rate * FACTOR < statistics.median(rates[:seed] + rates[seed + 1 :])
    }
    assert set(stragglers(RaceState((rung,), WAITING), spans)) == expected
