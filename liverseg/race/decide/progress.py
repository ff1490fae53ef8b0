"""Where every seed of a race is and how long it will take: facts to rows. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import pairwise
from statistics import fmean
from typing import Literal

from liverseg.core.race.ledger import Span
from liverseg.race.decide.state import RaceState, RungState
from liverseg.race.records.job import job_name, parse_job_name
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED

State = Literal["waiting", "training", "paused", "promoted", "pruned", "failed", "winner"]


@dataclass(frozen=True)
class Row:
    """One seed, at the last rung that it has got to."""

    seed: int
    rung: int
    state: State
    """`waiting` to be scheduled, for the first time or after a failure; `training`; `paused` at the
    rung until others report; `promoted` to it and not yet started; `pruned`; `failed` for good;
    `winner`."""
    jaccard: float | None
    """Best validation so far, 0 to 1; None: no validation yet."""
    iteration: int
    """Furthest validation or report, counted from the start of the training."""
    target: int
    """Iterations of the rung."""
    iterations_per_second: float | None
    """Between its last two validations, saving included; None: not known yet."""
    job: str | None
    """Name of what trains it now."""
    device: str | None
    """Where: the machine, and its GPU or CPU."""
    remaining_seconds: float | None
    """Until it reaches its rung; None: it does not train, or no rate is known."""
    waits_for: str | None
    """What keeps its job from being scheduled, as the platform says; None: nothing, or no job."""


def rows(
    study: Study,
    state: RaceState,
    spans: Iterable[Span],
    best: Mapping[int, float],
    waiting: Mapping[str, str],
    now: float,
) -> list[Row]:
    """Return a row a seed, in order of seeds.

    Args:
        study: For the names of jobs.
        state: Of the race.
        spans: The life of every trainer.
        best: Highest validation Jaccard by seed.
        waiting: What jobs wait for, by their names (Heartbeat.waiting).
        now: Unix time.
    """
    lives: dict[int, list[Span]] = {}
    for span in sorted(spans, key=lambda s: s.samples[0].time):
        lives.setdefault(span.seed, []).append(span)
    rates = {seed: rate for seed in lives if (rate := _rate(lives[seed])) is not None}
    usual = fmean(rates.values()) if rates else None
    named = ((parse_job_name(name), reason) for name, reason in waiting.items())
    waits = {(parts.seed, parts.rung): reason for parts, reason in named if parts is not None}
    rows = []
    for seed, rung in sorted(_last_rungs(state).items()):
        mine = [s for s in lives.get(seed, []) if s.rung == rung.index]
        open_span = next((s for s in reversed(mine) if not s.ended), None)
        stands = _state(rung, seed, open_span, bool(mine), rung is state.rungs[-1])
        iteration = _iteration(state, rung, seed, open_span or (mine[-1] if mine else None))
        rate = rates.get(seed, usual)
        left = None
        if stands == "training" and open_span is not None and rate is not None:
            since_sample = max(0.0, now - open_span.samples[-1].time)
            left = max(0.0, (rung.rung.iterations - iteration) / rate - since_sample)
        job = None
        if stands == "training" and open_span is not None:
            job = job_name(study.id, study.nonce, seed, rung.index, open_span.attempt)
        rows.append(
            Row(
                seed,
                rung.index,
                stands,
                best.get(seed),
                iteration,
                rung.rung.iterations,
                rates.get(seed),
                job,
                open_span.device if stands == "training" and open_span else None,
                left,
                waits.get((seed, rung.index)) if stands in ("waiting", "promoted") else None,
            )
        )
    return rows


def remaining_seconds(
    state: RaceState, rows: Collection[Row], spans: Iterable[Span]
) -> float | None:
    """Return how long the race will take from now on, or None before any rate is known.

    Counted rung by rung on as many trainers as have ever run at once, longest first. Early
    promotions make a race a little quicker, starting and stopping a little slower.
    """
    rates = [row.iterations_per_second for row in rows if row.iterations_per_second]
    if not rates:
        return None
    usual, trainers = fmean(rates), max(1, most_at_once(spans))
    by_seed = {row.seed: row for row in rows}
    whole, before = 0.0, 0
    for rung in state.rungs:
        target = rung.rung.iterations
        waiting = [by_seed[seed] for seed in rung.waiting]
        lengths = [(target - before) / usual] * rung.coming
        for row in waiting:
            left = (target - row.iteration) / (row.iterations_per_second or usual)
            lengths.append(left if row.remaining_seconds is None else row.remaining_seconds)
        whole += makespan(lengths, trainers)
        before = target
    return whole


def makespan(lengths: Iterable[float], trainers: int) -> float:
    """Return the seconds until all jobs are done: longest first, each on the next free trainer."""
    ends = [0.0] * trainers
    heapify(ends)
    for length in sorted(lengths, reverse=True):
        heapreplace(ends, ends[0] + length)
    return max(ends)


def most_at_once(spans: Iterable[Span]) -> int:
    """Return how many trainers of the race have lived at the same time at most; A2 is not one."""
    changes = []
    for span in spans:
        if span.seed != BASELINE_SEED:
            changes.append((span.samples[0].time, 1))
            if span.ended:
                changes.append((span.samples[-1].time, -1))
    most = live = 0
    # An end and a beginning at one time are one GPU passed on, so ends come first.
    for _, change in sorted(changes):
        live += change
        most = max(most, live)
    return most


def _last_rungs(state: RaceState) -> dict[int, RungState]:
    return {seed: rung for rung in state.rungs for seed in rung.seeds}


def _state(rung: RungState, seed: int, live: Span | None, begun: bool, last: bool) -> State:
    seed_state = rung.seeds[seed]
    if seed_state.lost:
        return "failed"
    if rung.decision is not None:
        return "winner" if last and seed in rung.decision.promoted else "pruned"
    if seed_state.report is not None:
        return "paused"
    if live is not None:
        return "training"
    return "waiting" if begun or rung.index == 0 else "promoted"


def _iteration(state: RaceState, rung: RungState, seed: int, newest: Span | None) -> int:
    """Return how far a seed is; a process says so only once it has read its checkpoint."""
    if rung.seeds[seed].report is not None:
        return rung.rung.iterations
    before = state.rungs[rung.index - 1].rung.iterations if rung.index else 0
    reached = newest.samples[-1].iteration if newest is not None else 0
    return max(before, reached)


def _rate(lives: Iterable[Span]) -> float | None:
    """Return iterations per second of the last stretch between two samples that made any."""
    rate = None
    for span in lives:
        # The first sample is the process's start, before it knows where it is.
        for a, b in pairwise(span.samples[1:]):
            if b.iteration > a.iteration and b.time > a.time:
                rate = (b.iteration - a.iteration) / (b.time - a.time)
    return rate
