"""Where the race stands, computed from facts alone. Pure: the same facts give the same state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from liverseg.core.race.halving import Rung, Standing, decide, guaranteed, hopeful, promotion_slots
from liverseg.core.race.ledger import RungName
from liverseg.exit_codes import ExitCode
from liverseg.race.records.decisions import Decision, Failure, Input
from liverseg.race.records.reports import ReportKey
from liverseg.race.records.snapshot import Snapshot
from liverseg.settings import BASELINE_SEED, RaceSettings

# Attempts in a row that got no further, after which a seed has failed for good: trainers that ended
# by themselves, ...
ATTEMPTS = 3
# ... and those that were ended: killed, evicted, on a node that was lost or that the store refused,
# silent. That says nothing of the seed, and on preemptible nodes it happens all the time.
LOST_ATTEMPTS = 30


_NOT_THE_SEEDS_FAULT = (
    ExitCode.STORE,
    ExitCode.INTERRUPTED,
    ExitCode.ORPHANED,
    ExitCode.SETTINGS_DIFFER,
)


@dataclass(frozen=True)
class SeedState:
    """One seed at one rung."""

    report: ReportKey | None
    """The report that counts; of several attempts the one that was named first, else the lowest."""
    lost: bool
    """Failed for good, and no report counts."""
    attempt: int
    """The attempt that is due or running where neither holds."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class RungState:
    """One rung: who is there and what is known of them."""

    index: int
    rung: Rung
    promotion_slots: int
    """How many leave it."""
    seeds: dict[int, SeedState]
    """Everybody who has got here so far."""
    coming: int
    """How many may still come from the rung before."""
    scores: dict[int, float | None]
    """Of the seeds that reported (None: not a finite number) or failed for good (None)."""
    promotions: frozenset[int]
    """Recorded promotions."""
    decision: Decision | None

    @property
    def waiting(self) -> tuple[int, ...]:
        """Seeds that have neither reported nor failed for good."""
        return tuple(seed for seed in self.seeds if seed not in self.scores)

    @property
    def gone_on(self) -> frozenset[int]:
        """Seeds that are recorded as promoted, early or by the decision."""
        decided = self.decision.promoted if self.decision else ()
        return self.promotions | frozenset(decided)

    @property
    def complete(self) -> bool:
        """Whether nothing more can be heard from this rung."""
        return not self.waiting and self.coming == 0

    def guaranteed(self) -> list[int]:
        """Return the seeds, best first, that are promoted whatever is still to come."""
        return guaranteed(self.scores, len(self.waiting) + self.coming, self.promotion_slots)

    def hopeful(self) -> frozenset[int]:
        """Return the seeds here that are still to train or may still go on."""
        return hopeful(self.scores, self.waiting, self.promotion_slots)

    def standing(self) -> Standing:
        """Return who is promoted, once the rung is complete."""
        return decide(self.scores, self.promotion_slots)

    def inputs(self, seeds: Iterable[int]) -> tuple[Input, ...]:
        """Return what a promotion or decision says of `seeds`, in their order."""
        inputs = []
        for seed in sorted(seeds):
            counted = self.seeds[seed].report
            attempt = counted.attempt if counted else None
            sha256 = counted.sha256 if counted else None
            inputs.append(Input(seed, attempt, self.scores[seed], sha256))
        return tuple(inputs)


@dataclass(frozen=True)
class RaceState:
    """The whole race, and the baseline beside it."""

    rungs: tuple[RungState, ...]
    baseline: SeedState

    def seed_state(self, seed: int, rung: RungName) -> SeedState | None:
        """Return what is known of a seed at a rung, or None if it never got there."""
        if rung == "baseline":
            return self.baseline
        return self.rungs[rung].seeds.get(seed) if rung < len(self.rungs) else None


def fold(
    rungs: tuple[Rung, ...], race: RaceSettings, snapshot: Snapshot, generation: int
) -> RaceState:
    """Return the state that the facts amount to.

    `generation` is that of the newest controller: attempts that failed under an earlier one do not
    count against a seed of a rung that is still open, so that a person who mends what was wrong
    and starts again gets all attempts anew.
    """
    facts = _Facts(snapshot, generation)
    states: list[RungState] = []
    seeds: Iterable[int] = range(race.seeds)
    expected = race.seeds
    for index, rung in enumerate(rungs):
        before = rungs[index - 1].iterations if index else 0
        promotions = frozenset(seed for at, seed in snapshot.promotions if at == index)
        decision = next((d for d in snapshot.decisions if d.rung == index), None)
        standing = {seed: facts.seed_state(seed, index, before) for seed in sorted(seeds)}
        state = RungState(
            index=index,
            rung=rung,
            promotion_slots=promotion_slots(rungs, index),
            seeds=standing,
            coming=expected - len(standing),
            scores=_scores(standing, race),
            promotions=promotions,
            decision=decision,
        )
        states.append(state)
        seeds = state.gone_on
        # A seed that failed for good may be tried anew by the next controller: until the decision
        # every promotion slot may still be taken.
        expected = len(state.gone_on) if decision else min(state.promotion_slots, expected)
    return RaceState(tuple(states), facts.seed_state(BASELINE_SEED, "baseline", 0))


def _scores(seeds: Mapping[int, SeedState], race: RaceSettings) -> dict[int, float | None]:
    """Return the ranking value of every seed of which nothing more will be heard."""
    return {
        seed: seed_state.report.score(race.rung_metric) if seed_state.report else None
        for seed, seed_state in seeds.items()
        if seed_state.report or seed_state.lost
    }


class _Facts:
    """The snapshot, sorted by rung and seed."""

    def __init__(self, snapshot: Snapshot, generation: int) -> None:
        self._generation = generation
        self._reports: dict[tuple[RungName, int], list[ReportKey]] = {}
        for report in snapshot.reports:
            self._reports.setdefault((report.rung, report.seed), []).append(report)
        self._failures: dict[tuple[RungName, int], list[Failure]] = {}
        for failure in snapshot.failures:
            self._failures.setdefault((failure.rung, failure.seed), []).append(failure)
        # What a promotion or decision rests on counts for good: a report or, None, a failure.
        self._named = snapshot.named

    def seed_state(self, seed: int, rung: RungName, before: int) -> SeedState:
        """Return the seed's state; `before` is the iteration at which it came to the rung."""
        at = (rung, seed)
        reports = sorted(self._reports.get(at, ()), key=lambda r: r.attempt)
        failures = tuple(sorted(self._failures.get(at, ()), key=lambda f: f.attempt))
        # Nothing ever rests on the baseline.
        if rung != "baseline" and (rung, seed) in self._named:
            named = self._named[rung, seed]
            report, lost = next((r for r in reports if r.sha256 == named), None), named is None
        else:
            lost = failed_for_good(failures, before, self._generation)
            report = None if lost or not reports else reports[0]
        failed = {failure.attempt for failure in failures}
        attempt = next(a for a in range(len(failed) + 1) if a not in failed)
        return SeedState(report, lost, attempt, failures)


def failed_for_good(failures: Iterable[Failure], before: int, generation: int) -> bool:
    """Return whether no further attempt is due. An attempt that got further starts a new count."""
    furthest, ended, lost = before, 0, 0
    for failure in failures:
        if failure.kind == "model":
            return True
        if failure.iteration > furthest:
            furthest, ended, lost = failure.iteration, 0, 0
        elif failure.generation == generation and failure.kind != "straggler":
            was_ended = _was_ended(failure.exit_code)
            lost += was_ended
            ended += not was_ended
    return ended >= ATTEMPTS or lost >= LOST_ATTEMPTS


def _was_ended(code: int | None) -> bool:
    """Return whether somebody else ended the trainer; it may have saved and said so."""
    return code is None or code < 0 or code in _NOT_THE_SEEDS_FAULT
