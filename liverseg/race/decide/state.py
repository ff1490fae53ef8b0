"""Where the race stands, computed from facts alone. Pure: the same facts give the same state."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from liverseg.core.race.halving import Rung, promotion_slots
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
_Attempted = TypeVar("_Attempted", ReportKey, Failure)


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

    def awaits(self, attempt: int) -> bool:
        """Return whether a report of this attempt would count: it has not failed, nor the seed."""
        ended = self.report or self.lost
        return not ended and all(failure.attempt != attempt for failure in self.failures)


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
        return self.promotions.union(self.decision.promoted if self.decision else ())

    @property
    def complete(self) -> bool:
        """Whether nothing more can be heard from this rung."""
        return not self.waiting and self.coming == 0

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a promotion or a decision depends on: all seeds that are done at the rung."""
        inputs = []
        for seed in sorted(self.scores):
            report = self.seeds[seed].report
            attempt, sha256 = (report.attempt, report.sha256) if report else (None, None)
            inputs.append(Input(seed, attempt, self.scores[seed], sha256))
        return tuple(inputs)


@dataclass(frozen=True)
class RaceState:
    """The whole race, and the baseline beside it."""

    rungs: tuple[RungState, ...]
    baseline: SeedState

    @property
    def current(self) -> RungState | None:
        """The first rung that is not decided; None at the end of the race."""
        return next((rung for rung in self.rungs if rung.decision is None), None)

    def seed_state(self, seed: int, rung: RungName) -> SeedState | None:
        """Return what is known of a seed at a rung, or None if it never got there."""
        if rung == "baseline":
            return self.baseline
        return self.rungs[rung].seeds.get(seed) if rung < len(self.rungs) else None


def fold(
    rungs: tuple[Rung, ...], race: RaceSettings, snapshot: Snapshot, generation: int
) -> RaceState:
    """Return the state that the facts amount to.

    Attempts that failed under an earlier `generation` than this controller's do not count against
    a seed of an open rung: a person who mends what was wrong and starts again gets all anew.
    """
    reports, failures = _by_seed(snapshot.reports), _by_seed(snapshot.failures)

    def seed_state(seed: int, rung: RungName, before: int) -> SeedState:
        """Return the state of a seed that came to the rung at iteration `before`."""
        reported, failed = reports.get((rung, seed), []), failures.get((rung, seed), [])
        # What a promotion or decision depends on counts for good: a report or, None, a failure.
        # Nothing ever depends on the baseline.
        if rung != "baseline" and (rung, seed) in snapshot.named:
            named = snapshot.named[rung, seed]
            report, lost = next((r for r in reported if r.sha256 == named), None), named is None
        else:
            lost = failed_for_good(failed, before, generation)
            report = None if lost or not reported else reported[0]
        taken = {failure.attempt for failure in failed}
        attempt = next(number for number in count() if number not in taken)
        return SeedState(report, lost, attempt, tuple(failed))

    states: list[RungState] = []
    seeds: Iterable[int] = range(race.seeds)
    expected = race.seeds
    for index, rung in enumerate(rungs):
        before = rungs[index - 1].iterations if index else 0
        here = {seed: seed_state(seed, index, before) for seed in sorted(seeds)}
        state = RungState(
            index=index,
            rung=rung,
            promotion_slots=promotion_slots(rungs, index),
            seeds=here,
            coming=expected - len(here),
            scores={
                seed: one.report.score(race.rung_metric) if one.report else None
                for seed, one in here.items()
                if one.report or one.lost
            },
            promotions=frozenset(seed for at, seed in snapshot.promotions if at == index),
            decision=next((d for d in snapshot.decisions if d.rung == index), None),
        )
        states.append(state)
        seeds = state.gone_on
        # A seed that failed for good may be tried anew by the next controller: until the decision
        # every promotion slot may still be taken.
        slots = min(state.promotion_slots, expected)
        expected = len(state.gone_on) if state.decision else slots
    return RaceState(tuple(states), seed_state(BASELINE_SEED, "baseline", 0))


def _by_seed(facts: Iterable[_Attempted]) -> dict[tuple[RungName, int], list[_Attempted]]:
    """Return the facts by rung and seed, each in order of attempts."""
    grouped: dict[tuple[RungName, int], list[_Attempted]] = {}
    for fact in sorted(facts, key=lambda fact: fact.attempt):
        grouped.setdefault((fact.rung, fact.seed), []).append(fact)
    return grouped


def failed_for_good(failures: Iterable[Failure], before: int, generation: int) -> bool:
    """Return whether no further attempt is due. An attempt that got further starts a new count."""
    furthest, ended, lost = before, 0, 0
    for failure in failures:
        if failure.kind == "model":
            return True
        if failure.iteration > furthest:
            furthest, ended, lost = failure.iteration, 0, 0
        elif failure.generation == generation and failure.kind != "straggler":
            code = failure.exit_code
            # Whether somebody else ended the trainer; it may have saved and said so.
            was_ended = code is None or code < 0 or code in _NOT_THE_SEEDS_FAULT
            lost += was_ended
            ended += not was_ended
    return ended >= ATTEMPTS or lost >= LOST_ATTEMPTS
