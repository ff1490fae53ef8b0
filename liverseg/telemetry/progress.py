"""Where every seed of a race is and how long it will take: facts to rows. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from liverseg.core.race.halving import makespan
from liverseg.core.race.ledger import Span, most_at_once
from liverseg.race.decide.state import RaceState, RungState
from liverseg.race.records.job import Attempt, job_name
from liverseg.race.records.study import Study

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
    job: str | None = None
    """Name of what trains it now."""
    device: str | None = None
    """Where: the machine, and its GPU or CPU."""
    remaining_seconds: float | None = None
    """Until it reaches its rung; None: it does not train, or no rate is known."""
    waits_for: str | None = None
    """What keeps its job from being scheduled, as the platform says; None: nothing, or no job."""


def rows(
    study: Study,
    state: RaceState,
    spans: Iterable[Span],
    best: Mapping[int, float],
    waiting: Mapping[str, str],
    now: float,
) -> list[Row]:
    """Return one row per seed, in order of seeds.

    `best` is the highest validation Jaccard by seed, `waiting` what jobs wait for by their names
    (Heartbeat.waiting), `now` the unix time.
    """
    lives: dict[int, list[Span]] = {}
    rates: dict[int, float] = {}
    for span in sorted(spans, key=lambda s: s.samples[0].time):
        lives.setdefault(span.seed, []).append(span)
        # Of the last stretch that got any further.
        for iterations, seconds in span.stretches:
            if iterations > 0 and seconds > 0:
                rates[span.seed] = iterations / seconds
    usual = fmean(rates.values()) if rates else None
    last_rungs = {seed: rung for rung in state.rungs for seed in rung.seeds}
    rows = []
    for seed, rung in sorted(last_rungs.items()):
        mine = [s for s in lives.get(seed, []) if s.rung == rung.index]
        live = next((s for s in reversed(mine) if not s.ended), None)
        row = Row(
            seed,
            rung.index,
            _state(rung, seed, live, bool(mine), rung is state.rungs[-1]),
            best.get(seed),
            _iteration(state, rung, seed, live or (mine[-1] if mine else None)),
            rung.rung.iterations,
            rates.get(seed),
        )
        attempt = live.attempt if live else rung.seeds[seed].attempt
        job = job_name(study.id, study.nonce, Attempt(rung.index, seed, attempt))
        if row.state == "training" and live is not None:
            rate, left = rates.get(seed, usual), None
            if rate is not None:
                since_sample = max(0.0, now - live.samples[-1].time)
                left = max(0.0, (row.target - row.iteration) / rate - since_sample)
            row = replace(row, job=job, device=live.device, remaining_seconds=left)
        elif row.state in ("waiting", "promoted"):
            row = replace(row, waits_for=waiting.get(job))
        rows.append(row)
    return rows


def remaining_seconds(
    state: RaceState, rows: Collection[Row], spans: Iterable[Span]
) -> float | None:
    """Return how long the race will take from now on, or None before any rate is known.

    Counted rung by rung on as many trainers as have ever run at once, longest first.
    """
    lengths, trainers = remaining_by_rung(state, rows), max(1, most_at_once(spans))
    return None if lengths is None else sum(makespan(rung, trainers) for rung in lengths)


def remaining_by_rung(state: RaceState, rows: Collection[Row]) -> list[list[float]] | None:
    """Return, for every rung, the GPU seconds of each training that is still to end there.

    None before any rate is known. The baseline is not counted.
    """
    rates = [row.iterations_per_second for row in rows if row.iterations_per_second]
    if not rates:
        return None
    usual = fmean(rates)
    by_seed = {row.seed: row for row in rows}
    rungs, before = [], 0
    for rung in state.rungs:
        target = rung.rung.iterations
        lengths = [(target - before) / usual] * rung.coming
        for row in (by_seed[seed] for seed in rung.waiting):
            left = (target - row.iteration) / (row.iterations_per_second or usual)
            lengths.append(left if row.remaining_seconds is None else row.remaining_seconds)
        rungs.append(lengths)
        before = target
    return rungs


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
    return max(before, newest.samples[-1].iteration if newest else 0)
