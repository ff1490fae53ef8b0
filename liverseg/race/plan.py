"""What a controller should do next. Pure: state, jobs and capacity give actions.

Order: what ended badly is recorded, then who goes on, then results; only when the record is
complete are jobs started, so that every job rests on facts that are in the store.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from liverseg.errors import StudyError
from liverseg.race.executor import NOT_FINITE, Job, JobName, JobState, parse_job_name
from liverseg.race.facts import Arm
from liverseg.race.snapshot import Snapshot
from liverseg.race.state import RaceState, RungState
from liverseg.race.stragglers import stragglers
from liverseg.race.verdicts import Decision, Failure, Promotion
from liverseg.settings import SINGLE_SEED

Until = int | Literal["single", "end"]


@dataclass(frozen=True)
class Actions:
    """What to do, in this order."""

    failures: tuple[Failure, ...] = ()
    closed: tuple[JobState, ...] = ()
    """Jobs that have ended; from and until when they had their place is recorded."""
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
    """How much may run at a time, and whether A2 is part of it."""

    gpus: int
    compare_single: bool
    max_gpu_hours: float | None = None
    """Spent that much, nothing more is started; None: no limit."""

    def exhausted(self, spent_seconds: float) -> bool:
        """Return whether the budget is spent."""
        return self.max_gpu_hours is not None and spent_seconds >= self.max_gpu_hours * 3600


def plan(
    study: str,
    state: RaceState,
    snapshot: Snapshot,
    states: Mapping[str, JobState],
    capacity: Capacity,
    epoch: int,
    silent: Collection[str] = (),
) -> Actions:
    """Return the next actions; StudyError if no seed of a rung is left.

    `silent` are running jobs of which nothing has been heard for too long (race/silence.py).
    """
    jobs = {
        name: (parts, states[name])
        for name in sorted(states)
        if (parts := parse_job_name(name)) is not None and parts.study == study
    }
    record = Actions(
        failures=(
            *_failures(state, snapshot, jobs, epoch),
            *_hanging(state, snapshot, jobs, epoch, silent),
            *stragglers(state, snapshot, jobs, epoch),
        ),
        closed=tuple(
            s for _, s in jobs.values() if not s.running and s.name not in snapshot.closed
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
    if len(chosen) < free and capacity.compare_single:
        chosen += _single(study, state, running, capacity.gpus)
    return Actions(
        jobs=tuple(chosen),
        cancelled=tuple(
            n for n, parts in running.items() if n in silent or _is_stray(state, parts)
        ),
        waits=not running and not chosen,
    )


def reached(state: RaceState, snapshot: Snapshot, until: Until) -> bool:
    """Return whether the race has got as far as `until`: a rung, its end, or A2's end.

    A rung that the schedule does not have, and its last one, mean the race's end. A2 has also come
    to its end where it failed for good: the race's winner needs no comparison.
    """
    if until == "single":
        return "multi" in snapshot.results and ("single" in snapshot.results or state.single.lost)
    if until == "end" or until >= len(state.rungs) - 1:
        return "multi" in snapshot.results
    return state.rungs[until].decision is not None


def _failures(
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[str, tuple[JobName, JobState]],
    epoch: int,
) -> Iterator[Failure]:
    """Every job that ended while its seed has no report that counts; exit code 0 included."""
    for name, (parts, job) in jobs.items():
        place = state.place(parts.seed, parts.rung)
        if job.running or place is None or place.report or place.lost:
            continue
        if any(failure.attempt == parts.attempt for failure in place.failures):
            continue
        segment = snapshot.segments.get(name)
        code = segment.exit_code if segment and job.exit_code is None else job.exit_code
        yield Failure(
            seed=parts.seed,
            rung=parts.rung,
            attempt=parts.attempt,
            exit_code=code,
            reason=f"{_ending(code)}; {job.message}" if job.message else _ending(code),
            kind="model" if code == NOT_FINITE else "infrastructure",
            iteration=segment.marks[-1].iteration if segment else 0,
            epoch=epoch,
        )


def _hanging(
    state: RaceState,
    snapshot: Snapshot,
    jobs: Mapping[str, tuple[JobName, JobState]],
    epoch: int,
    silent: Collection[str],
) -> Iterator[Failure]:
    """Every running job that has been silent for too long and has not reported."""
    for name in sorted(silent):
        parts, job = jobs[name]
        place = state.place(parts.seed, parts.rung)
        if not job.running or place is None or place.report or place.lost:
            continue
        if any(failure.attempt == parts.attempt for failure in place.failures):
            continue
        yield Failure(
            seed=parts.seed,
            rung=parts.rung,
            attempt=parts.attempt,
            exit_code=None,
            reason=f"has said nothing for too long; {job.message}",
            kind="infrastructure",
            iteration=snapshot.segments[name].marks[-1].iteration,
            epoch=epoch,
        )


def _ending(code: int | None) -> str:
    if code is None:
        return "ended, exit code unknown"
    if code == NOT_FINITE:
        return "the loss is not finite"
    if code == 0:
        return "ended without a report"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _promotions(state: RaceState) -> Iterator[Promotion]:
    """Seeds that are certain of a place at a rung that is still open; not at the last."""
    for rung in state.rungs[:-1]:
        if rung.decision is None and not rung.complete:
            # It rests on everybody it knows of: those who were worse, and those who were better.
            inputs = rung.inputs(rung.scores)
            for seed in rung.certain():
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
    if state.single.report is not None and "single" not in snapshot.results:
        yield "single"


def _require_survivors(state: RaceState) -> None:
    """Raise StudyError, naming every failure, if a complete rung has nobody who could go on."""
    for rung in state.rungs:
        if rung.decision is None and rung.complete:
            lines = [
                f"seed {seed}: {place.failures[-1].reason if place.lost else 'no finite Jaccard'}"
                for seed, place in rung.seeds.items()
            ]
            raise StudyError(
                f"all {len(lines)} seeds failed at rung {rung.index} "
                f"({rung.rung.iterations} iterations); {_advice(rung)}:\n" + "\n".join(lines)
            )


def _advice(rung: RungState) -> str:
    places = rung.seeds.values()
    if all(place.lost and place.failures[-1].kind == "model" for place in places):
        return "with these settings they always will; lower training.learning_rate, another study"
    return "mend it and start again"


def _due(study: str, state: RaceState, busy: set[int]) -> Iterator[Job]:
    """The race's jobs that could start: later rungs first, then lower seeds.

    Later rungs first keeps the longest chain short: what remains at the end is many short
    trainings, which fill all places, and not one long one.
    """
    for rung in reversed(state.rungs):
        for seed in rung.waiting:
            if seed not in busy:
                attempt = rung.seeds[seed].attempt
                yield Job.of(study, seed, rung.index, attempt, rung.rung.iterations)


def _single(study: str, state: RaceState, running: Mapping[str, JobName], gpus: int) -> list[Job]:
    """A2, once the race can no longer fill all places: A2 keeps its place for very long."""
    if state.single.report or state.single.lost or _most_at_once(state) >= gpus:
        return []
    if any(parts.seed == SINGLE_SEED for parts in running.values()):
        return []
    return [_single_job(study, state)]


def _single_job(study: str, state: RaceState) -> Job:
    last = state.rungs[-1]
    return Job.of(study, SINGLE_SEED, last.index, state.single.attempt, last.rung.iterations)


def _most_at_once(state: RaceState) -> int:
    """Return how many trainings the race can still have at a time.

    A seed goes on early only when its rank and the waiting together stay below the places, so
    the waiting and those who have gone on are never more than the larger of the two numbers.
    """
    current = next((rung for rung in state.rungs if rung.decision is None), None)
    if current is None:
        return 0
    waiting = len(current.waiting)
    if current is state.rungs[-1]:
        return waiting
    return max(waiting, min(current.places, len(current.hopeful())))


def _is_stray(state: RaceState, parts: JobName) -> bool:
    """Return whether a running job is of no use: decided against, or given up and replaced.

    One whose own report counts is about to end by itself.
    """
    place = state.place(parts.seed, parts.rung)
    if place is None:
        return True
    if place.report is not None:
        return place.report.report.attempt != parts.attempt
    return place.lost or any(f.attempt == parts.attempt for f in place.failures)
