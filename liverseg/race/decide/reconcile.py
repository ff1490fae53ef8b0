"""What a controller should do next. Pure: state, jobs and capacity give actions.

Order: failed attempts are recorded, then promotions, then results; only when the record is
complete are jobs started, so that every job rests on facts that are in the store.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from liverseg.errors import StudyError
from liverseg.exit_codes import ExitCode
from liverseg.race.decide.state import RaceState, RungState
from liverseg.race.decide.stragglers import stragglers
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm
from liverseg.race.records.job import ASKED_TO_END, Job, JobName, JobState, parse_job_name
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.spans import Attempt, attempt_of
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED

Until = int | Literal["baseline", "end"]


@dataclass(frozen=True)
class Actions:
    """What to do, in this order."""

    failures: tuple[Failure, ...] = ()
    closed: tuple[JobState, ...] = ()
    """Jobs that have ended; from and until when they occupied a GPU is recorded."""
    promotions: tuple[Promotion, ...] = ()
    decisions: tuple[Decision, ...] = ()
    results: tuple[Arm, ...] = ()
    jobs: tuple[Job, ...] = ()
    cancelled: tuple[str, ...] = ()
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
    states: Mapping[str, JobState],
    capacity: Capacity,
    generation: int,
    stalled: Collection[Attempt] = (),
    evicted: Collection[Attempt] = (),
) -> Actions:
    """Return the next actions; StudyError if no seed of a rung is left.

    `stalled` are running jobs of which nothing has been heard for too long (race/decide/stalls.py),
    `evicted` those that have begun and were then suspended: their attempt is over, and they are
    cancelled before their queue starts them anew as another process.
    """
    jobs = {
        name: (parts, states[name])
        for name in sorted(states)
        if (parts := parse_job_name(name)) is not None and parts.belongs_to(study.id, study.nonce)
    }
    record = Actions(
        failures=(
            *_failures(state, snapshot, jobs, generation),
            *_given_up(state, snapshot, jobs, generation, stalled, evicted),
            *stragglers(state, snapshot, jobs, generation),
        ),
        closed=tuple(
            job
            for parts, job in jobs.values()
            if not job.running and attempt_of(parts) not in snapshot.closed
        ),
        promotions=tuple(_promotions(state)),
        decisions=tuple(_decisions(state)),
        results=tuple(_results(state, snapshot)),
    )
    if record.facts:
        return record
    _require_survivors(state)
    running = {name: parts for name, (parts, job) in jobs.items() if job.running}
    due = list(_due(study, state, {parts.seed for parts in running.values()}))
    free = max(0, capacity.gpus - len(running))
    if capacity.exhausted(snapshot.spent_seconds):
        free = 0
    chosen = due[:free]
    if len(chosen) < free and capacity.compare_baseline:
        chosen += _baseline(study, state, running, capacity.gpus)
    return Actions(
        jobs=tuple(chosen),
        cancelled=tuple(
            n
            for n, parts in running.items()
            if attempt_of(parts) in {*stalled, *evicted} or _is_stray(state, parts)
        ),
        waits=not running and not chosen,
    )


def reached(state: RaceState, snapshot: Snapshot, until: Until) -> bool:
    """Return whether the race has got as far as `until`: a rung, its end, or the baseline's end.

    A rung that the schedule does not have, and its last one, mean the race's end. The baseline has
    also come to its end where it failed for good: the race's winner needs no comparison.
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
    jobs: Mapping[str, tuple[JobName, JobState]],
    generation: int,
) -> Iterator[Failure]:
    """Every job that ended while its seed has no report that counts; exit code 0 included."""
    for parts, job in jobs.values():
        seed_state = state.seed_state(parts.seed, parts.rung)
        if job.running or seed_state is None or seed_state.report or seed_state.lost:
            continue
        if any(failure.attempt == parts.attempt for failure in seed_state.failures):
            continue
        span = snapshot.spans.get(attempt_of(parts))
        code = span.exit_code if span and job.exit_code is None else job.exit_code
        yield Failure(
            seed=parts.seed,
            rung=parts.rung,
            attempt=parts.attempt,
            exit_code=code,
            reason=f"{_ending(code)}; {job.message}" if job.message else _ending(code),
            kind="model" if code == ExitCode.NOT_FINITE else "infrastructure",
            iteration=span.samples[-1].iteration if span else 0,
            generation=generation,
        )


def _given_up(
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[str, tuple[JobName, JobState]],
    generation: int,
    stalled: Collection[Attempt],
    evicted: Collection[Attempt],
) -> Iterator[Failure]:
    """Every running job that was evicted or silent for too long, and has not reported."""
    for parts, job in jobs.values():
        attempt = attempt_of(parts)
        if attempt not in stalled and attempt not in evicted:
            continue
        seed_state = state.seed_state(parts.seed, parts.rung)
        if not job.running or seed_state is None or seed_state.report or seed_state.lost:
            continue
        if any(failure.attempt == parts.attempt for failure in seed_state.failures):
            continue
        yield Failure(
            seed=parts.seed,
            rung=parts.rung,
            attempt=parts.attempt,
            exit_code=ASKED_TO_END if attempt in evicted else None,
            reason="its Job was suspended after it had begun"
            if attempt in evicted
            else f"has said nothing for too long; {job.message}",
            kind="infrastructure",
            iteration=snapshot.spans[attempt].samples[-1].iteration,
            generation=generation,
        )


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
            # It rests on everybody it knows of: those who were worse, and those who were better.
            inputs = rung.inputs(rung.scores)
            for seed in rung.guaranteed():
                if seed not in rung.promotions:
                    yield Promotion(rung.index, seed, inputs)


def _decisions(state: RaceState) -> Iterator[Decision]:
    """Rungs of which nothing more can be heard. None where no seed is left."""
    for rung in state.rungs:
        if rung.decision is not None:
            continue
        if rung.complete and any(score is not None for score in rung.scores.values()):
            standing = rung.standing()
            yield Decision(
                rung.index,
                rung.rung.iterations,
                rung.inputs(rung.scores),
                standing.promoted,
                standing.pruned,
            )
        # The rung after is complete only when this decision is in the store.
        return


def _results(state: RaceState, snapshot: Snapshot) -> Iterator[Arm]:
    if state.rungs[-1].decision is not None and "multi" not in snapshot.results:
        yield "multi"
    if state.baseline.report is not None and "baseline" not in snapshot.results:
        yield "baseline"


def _require_survivors(state: RaceState) -> None:
    """Raise StudyError, naming every failure, if a complete rung has nobody who could go on."""
    for rung in state.rungs:
        if rung.decision is None and rung.complete:
            lines = [
                f"seed {seed}: {state.failures[-1].reason if state.lost else 'no finite Jaccard'}"
                for seed, state in rung.seeds.items()
            ]
            raise StudyError(
                f"all {len(lines)} seeds failed at rung {rung.index} "
                f"({rung.rung.iterations} iterations); {_advice(rung)}:\n" + "\n".join(lines)
            )


def _advice(rung: RungState) -> str:
    seeds = rung.seeds.values()
    if all(seed_state.lost and seed_state.failures[-1].kind == "model" for seed_state in seeds):
        return "with these settings they always will; lower training.learning_rate, another study"
    return "mend it and start again"


def _due(study: Study, state: RaceState, busy: set[int]) -> Iterator[Job]:
    """The race's jobs that could start: later rungs first, then lower seeds.

    Later rungs first keeps the longest chain short: what remains at the end is many short
    trainings, which fill all GPUs, and not one long one.
    """
    for rung in reversed(state.rungs):
        for seed in rung.waiting:
            if seed not in busy:
                attempt = rung.seeds[seed].attempt
                target = rung.rung.iterations
                yield Job.of(study.id, study.nonce, seed, rung.index, attempt, target)


def _baseline(
    study: Study, state: RaceState, running: Mapping[str, JobName], gpus: int
) -> list[Job]:
    """The baseline, once the race can no longer fill all GPUs: it occupies one for very long."""
    if state.baseline.report or state.baseline.lost or _most_at_once(state) >= gpus:
        return []
    if any(parts.seed == BASELINE_SEED for parts in running.values()):
        return []
    return [_baseline_job(study, state)]


def _baseline_job(study: Study, state: RaceState) -> Job:
    last, attempt = state.rungs[-1], state.baseline.attempt
    names = study.id, study.nonce, BASELINE_SEED
    return Job.of(*names, last.index, attempt, last.rung.iterations)


def _most_at_once(state: RaceState) -> int:
    """Return how many trainings the race can still have at a time.

    A seed is promoted early only when its rank and the waiting together stay within the promotion
    slots, so the waiting and those who have gone on are never more than the larger of the two.
    """
    current = next((rung for rung in state.rungs if rung.decision is None), None)
    if current is None:
        return 0
    waiting = len(current.waiting)
    if current is state.rungs[-1]:
        return waiting
    return max(waiting, min(current.promotion_slots, len(current.hopeful())))


def _is_stray(state: RaceState, parts: JobName) -> bool:
    """Return whether a running job is of no use: decided against, or given up and replaced.

    One whose own report counts is about to end by itself.
    """
    seed_state = state.seed_state(parts.seed, parts.rung)
    if seed_state is None:
        return True
    if seed_state.report is not None:
        return seed_state.report.attempt != parts.attempt
    return seed_state.lost or any(f.attempt == parts.attempt for f in seed_state.failures)
