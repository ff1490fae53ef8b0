"""What a controller should do next. Pure: state, jobs and capacity give actions.

Order: failed attempts are recorded, then promotions, then results; only when the record is
complete are jobs started, so that every job depends on facts that are in the store.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from liverseg.core.race.halving import decide, guaranteed, hopeful
from liverseg.errors import StudyError
from liverseg.exit_codes import ExitCode
from liverseg.race.decide.state import RaceState
from liverseg.race.decide.stragglers import stragglers
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm
from liverseg.race.records.job import ASKED_TO_END, Attempt, Job, JobState
from liverseg.race.records.reports import ReportKey
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED

Until = int | Literal["baseline", "end"]


@dataclass(frozen=True)
class Actions:
    """What to do, in this order."""

    failures: tuple[Failure, ...] = ()
    closed: tuple[Attempt, ...] = ()
    """Their jobs have ended; from and until when they occupied a GPU is recorded."""
    promotions: tuple[Promotion, ...] = ()
    decisions: tuple[Decision, ...] = ()
    results: Mapping[Arm, ReportKey] = field(default_factory=dict)
    """Arms that have ended, each with the report that it ends with."""
    jobs: tuple[Job, ...] = ()
    cancelled: tuple[Attempt, ...] = ()
    waits: bool = False
    """Nothing runs, though the race is not over."""

    @property
    def facts(self) -> int:
        """How many facts are to be recorded; while there are any, no job is started."""
        recorded = (self.failures, self.closed, self.promotions, self.decisions, self.results)
        return sum(len(kind) for kind in recorded)


@dataclass(frozen=True)
class Capacity:
    """How much may run at a time, and whether the baseline is part of it."""

    gpus: int
    compare_baseline: bool
    max_gpu_hours: float | None = None
    """Spent that much, nothing more is started; None: no limit."""

    def exhausted(self, spent_seconds: float) -> bool:
        """Return whether the budget is spent."""
        return self.max_gpu_hours is not None and spent_seconds >= self.max_gpu_hours * 3600


def reconcile(
    study: Study,
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[Attempt, JobState],
    capacity: Capacity,
    generation: int,
    stalled: Collection[Attempt] = (),
    evicted: Collection[Attempt] = (),
) -> Actions:
    """Return the next actions; StudyError if no seed of a rung is left.

    `stalled` jobs have made no progress for too long (race/decide/stalls.py), `evicted` ones have
    begun and were then suspended: they are cancelled before their queue starts them anew.
    """
    record = Actions(
        failures=tuple(_failures(state, snapshot, jobs, generation, stalled, evicted)),
        closed=tuple(at for at in jobs if not (jobs[at].running or at in snapshot.closed)),
        promotions=tuple(_promotions(state)),
        decisions=tuple(_decisions(state)),
        results=dict(_results(state, snapshot)),
    )
    if record.facts:
        return record
    _require_survivors(state)
    running = [at for at, job in jobs.items() if job.running]
    exhausted = capacity.exhausted(snapshot.spent_seconds)
    free = 0 if exhausted else max(0, capacity.gpus - len(running))
    chosen = tuple(_due(study, state, {at.seed for at in running}, capacity))[:free]
    ended = {*stalled, *evicted}
    cancelled = tuple(at for at in running if at in ended or _is_stray(state, at))
    return Actions(jobs=chosen, cancelled=cancelled, waits=not running and not chosen)


def reached(state: RaceState, snapshot: Snapshot, until: Until) -> bool:
    """Return whether the race has got as far as `until`: a rung, its end, or the baseline's end.

    A rung that the schedule does not have, and its last one, mean the race's end. The baseline has
    also ended where it failed for good: the race's winner needs no comparison.
    """
    if until == "baseline":
        return "multi" in snapshot.results and (
            "baseline" in snapshot.results or state.baseline.lost
        )
    if until == "end" or until >= len(state.rungs) - 1:
        return "multi" in snapshot.results
    return state.rungs[until].decision is not None


def _failures(
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[Attempt, JobState],
    generation: int,
    stalled: Collection[Attempt],
    evicted: Collection[Attempt],
) -> Iterator[Failure]:
    """Every attempt that will not report: it ended, exit code 0 included, or is given up."""
    slow = stragglers(state, snapshot.spans)
    for at, job in jobs.items():
        seed_state = state.seed_state(at.seed, at.rung)
        if seed_state is None or not seed_state.awaits(at.attempt):
            continue
        span = snapshot.spans.get(at)
        code: int | None = None
        kind: Literal["infrastructure", "model", "stalled", "straggler"] = "infrastructure"
        if not job.running:
            code = span.exit_code if span and job.exit_code is None else job.exit_code
            kind = "model" if code == ExitCode.NOT_FINITE else kind
            reason = f"{_ending(code)}; {job.message}" if job.message else _ending(code)
        elif at in evicted:
            code, reason = ASKED_TO_END, "its Job was suspended after it had begun"
        elif at in stalled:
            kind, reason = "stalled", f"has made no progress for too long; {job.message}"
        elif at in slow:
            kind, reason = "straggler", slow[at]
        else:
            continue
        iteration = span.samples[-1].iteration if span else 0
        yield Failure(at.seed, at.rung, at.attempt, code, reason, kind, iteration, generation)


def _ending(code: int | None) -> str:
    if code is None:
        return "ended, exit code unknown"
    if code == ExitCode.NOT_FINITE:
        return "the loss is not finite"
    if code == ExitCode.DONE:
        return "ended without a report"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _promotions(state: RaceState) -> Iterator[Promotion]:
    """Seeds whose promotion is guaranteed from a rung that is still open; not at the last."""
    for rung in state.rungs[:-1]:
        if rung.decision is None and not rung.complete:
            to_come = len(rung.waiting) + rung.coming
            for seed in guaranteed(rung.scores, to_come, rung.promotion_slots):
                if seed not in rung.promotions:
                    # It depends on all known seeds: the worse and the better ones.
                    yield Promotion(rung.index, seed, rung.inputs)


def _decisions(state: RaceState) -> Iterator[Decision]:
    """The rung of which nothing more can be heard; none where no seed is left."""
    rung = state.current
    if rung and rung.complete and any(score is not None for score in rung.scores.values()):
        end = decide(rung.scores, rung.promotion_slots)
        yield Decision(rung.index, rung.rung.iterations, rung.inputs, end.promoted, end.pruned)


def _results(state: RaceState, snapshot: Snapshot) -> Iterator[tuple[Arm, ReportKey]]:
    """The arms that have ended, each with the report that it ends with."""
    last = state.rungs[-1]
    if last.decision is not None and "multi" not in snapshot.results:
        winner = last.seeds[last.decision.promoted[0]].report
        assert winner is not None
        yield "multi", winner
    if state.baseline.report is not None and "baseline" not in snapshot.results:
        yield "baseline", state.baseline.report


def _require_survivors(state: RaceState) -> None:
    """Raise StudyError, naming every failure, if a complete rung has nobody who could go on."""
    rung = state.current
    if rung is None or not rung.complete:
        return
    seeds, advice = rung.seeds.items(), "fix the cause and start again"
    if all(one.lost and one.failures[-1].kind == "model" for _, one in seeds):
        advice = "they will fail again with these settings; "
        advice += "open another study with a lower training.learning_rate"
    raise StudyError(
        f"all {len(seeds)} seeds failed at rung {rung.index} "
        f"({rung.rung.iterations} iterations); {advice}:\n"
        + "\n".join(
            f"seed {seed}: {one.failures[-1].reason if one.lost else 'no finite Jaccard'}"
            for seed, one in seeds
        )
    )


def _due(study: Study, state: RaceState, busy: set[int], capacity: Capacity) -> Iterator[Job]:
    """The jobs that could start: later rungs first, then lower seeds, and last the baseline.

    So what remains at the end is many short trainings, which fill all GPUs, and not one long one.
    The baseline, which is long, waits until the race can no longer fill all of them.
    """
    due = [(s, rung, rung.seeds[s]) for rung in reversed(state.rungs) for s in rung.waiting]
    baseline = state.baseline
    is_open = not (baseline.report or baseline.lost)
    if capacity.compare_baseline and is_open and _most_at_once(state) < capacity.gpus:
        due.append((BASELINE_SEED, state.rungs[-1], baseline))
    for seed, rung, one in due:
        if seed not in busy:
            target = rung.rung.iterations
            yield Job.of(study.id, study.nonce, seed, rung.index, one.attempt, target)


def _most_at_once(state: RaceState) -> int:
    """Return how many trainings the race can still have at a time.

    A seed is promoted early only when its rank and the waiting together stay within the promotion
    slots, so the waiting and those who have gone on are never more than the larger of the two.
    """
    current = state.current
    if current is None:
        return 0
    slots = current.promotion_slots
    may_go_on = hopeful(current.scores, current.waiting, slots)
    return max(len(current.waiting), min(slots, len(may_go_on)))


def _is_stray(state: RaceState, at: Attempt) -> bool:
    """Return whether a running job is of no use: decided against, or given up and replaced."""
    one = state.seed_state(at.seed, at.rung)
    if one and one.report:
        # One whose own report counts is about to end by itself.
        return one.report.attempt != at.attempt
    return one is None or not one.awaits(at.attempt)
