"""Where a race stands and what it will still need: facts to samples. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from liverseg.core.race.halving import makespan
from liverseg.core.race.ledger import most_at_once
from liverseg.exit_codes import ExitCode
from liverseg.race.decide.state import RaceState, fold
from liverseg.race.records.decisions import Failure
from liverseg.race.records.job import Attempt
from liverseg.telemetry import progress
from liverseg.telemetry.metrics import Sample
from liverseg.telemetry.study_facts import StudyFacts
from liverseg.telemetry.study_state import STATES, controller_state

# Why an attempt ended without a report, where its failure's kind does not say it.
_CAUSES = {
    int(ExitCode.STORE): "store",
    int(ExitCode.INTERRUPTED): "interrupted",
    int(ExitCode.ORPHANED): "orphaned",
}
CAUSES = (
    "completed", "nan", "straggler", "stalled", "killed", "interrupted", "orphaned", "store",
    "error", "unknown", "superseded",
)  # fmt: skip


def race_progress(facts: StudyFacts, now: float) -> Iterator[Sample]:
    """Yield state, seeds, rungs and forecast of a study at unix time `now`."""
    study, snapshot, beat = facts.study, facts.snapshot, facts.heartbeat
    labels = {"study": study.id}
    ended = "multi" in snapshot.results
    current = controller_state(beat, snapshot.stopped, ended, now)
    for state in STATES:
        named = labels | {"state": state.replace(": ", "_").replace(" ", "_")}
        yield Sample("liverseg_study_state", named, state == current)
    if beat is not None:
        yield Sample("liverseg_lease_generation", labels, beat.generation)
        yield Sample("liverseg_heartbeat_timestamp_seconds", labels, beat.time)
    waiting = beat.waiting if beat else {}
    yield Sample("liverseg_waiting_jobs", labels, len(waiting))
    race = fold(study.rungs, study.settings.race, snapshot, beat.generation if beat else 0)
    rows = progress.rows(study, race, snapshot.spans.values(), {}, waiting, now)
    seeds = Counter(row.state for row in rows)
    for name in get_args(progress.State):
        yield Sample("liverseg_seeds", labels | {"state": name}, seeds[name])
    yield from _rungs(race, labels)
    yield from _forecast(facts, race, rows, labels, None if ended else now)
    causes = Counter(ended_attempts(facts).values())
    for cause in CAUSES:
        yield Sample("liverseg_attempts_total", labels | {"cause": cause}, causes[cause])
    cases = study.dataset
    for outcome, count in (("processed", len(cases.cases)), ("refused", len(cases.excluded))):
        named = labels | {"step": "scan", "outcome": outcome}
        yield Sample("liverseg_step_cases", named, count)


def ended_attempts(facts: StudyFacts) -> dict[Attempt, str]:
    """Return, for every attempt that has ended, why; one of CAUSES.

    "superseded": without a report or a failure of its own, since another attempt of the seed
    counted. What is said once is never said otherwise later.
    """
    causes = dict.fromkeys(facts.snapshot.closed, "superseded")
    causes |= {Attempt(r.rung, r.seed, r.attempt): "completed" for r in facts.snapshot.reports}
    return causes | {Attempt(f.rung, f.seed, f.attempt): _cause(f) for f in facts.failures}


def _cause(failure: Failure) -> str:
    if failure.kind == "model":
        return "nan"
    if failure.kind != "infrastructure":
        return failure.kind
    code = failure.exit_code
    if code is None:
        return "unknown"
    return "killed" if code < 0 else _CAUSES.get(code, "error")


def _rungs(race: RaceState, labels: dict[str, str]) -> Iterator[Sample]:
    decided = [rung.decision is not None for rung in race.rungs]
    yield Sample("liverseg_rungs", labels, len(race.rungs))
    yield Sample("liverseg_rung", labels, race.current.index if race.current else len(race.rungs))
    yield Sample("liverseg_decisions_total", labels, sum(decided))
    for rung in race.rungs:
        named = labels | {"rung": str(rung.index)}
        yield Sample("liverseg_rung_seeds", named, len(rung.seeds))
        yield Sample("liverseg_promotions_total", named, len(rung.gone_on))


def _forecast(
    facts: StudyFacts,
    race: RaceState,
    rows: list[progress.Row],
    labels: dict[str, str],
    now: float | None,
) -> Iterator[Sample]:
    """Yield what is still to come; of a race that has ended (`now` is None) only that."""
    lengths = progress.remaining_by_rung(race, rows)
    if lengths is None:
        return
    yield Sample("liverseg_remaining_gpu_seconds", labels, sum(map(sum, lengths)))
    if now is None or race.current is None:
        return
    trainers = max(1, most_at_once(facts.snapshot.spans.values()))
    spans = [makespan(rung, trainers) for rung in lengths]
    named = labels | {"rung": str(race.current.index)}
    rung_end = now + spans[race.current.index]
    yield Sample("liverseg_rung_expected_end_timestamp_seconds", named, rung_end)
    yield Sample("liverseg_expected_end_timestamp_seconds", labels, now + sum(spans))
