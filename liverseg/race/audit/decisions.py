"""Promotions and decisions, made once more from the inputs that they name."""

from liverseg.core.race.halving import decide, guaranteed, promotion_slots
from liverseg.race.audit.findings import Entry
from liverseg.race.audit.recorded import RecordedFacts
from liverseg.race.decide.state import failed_for_good
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision, Input, Promotion


def check_promotion(recorded: RecordedFacts, entry: Entry[Promotion]) -> None:
    """Note what keeps a promotion from following from its inputs, or from its rung's decision."""
    audit, key, rung, seed = recorded.audit, entry.key, entry.fact.rung, entry.fact.seed
    if rung >= len(recorded.rungs) - 1:
        audit.note(key, f"field 'rung' is {rung}, expected one below {len(recorded.rungs) - 1}")
        return
    inputs = {one.seed: one for one in entry.fact.inputs}
    _check_inputs(recorded, key, rung, entry.fact.inputs)
    to_come = max(0, recorded.expected(rung) - len(inputs))
    scores = {one.seed: one.jaccard for one in entry.fact.inputs}
    sure = guaranteed(scores, to_come, promotion_slots(recorded.rungs, rung))
    if seed not in sure:
        source = f"its inputs, with {to_come} seeds still to come"
        audit.note(key, f"field 'seed' is {seed}, expected one of {sure} by {source}")
    entrants = recorded.entrants(rung)
    if entrants is not None and not inputs.keys() <= entrants:
        of = sorted(inputs)
        audit.note(key, f"its inputs are of seeds {of}, expected only seeds {sorted(entrants)}")
    decision = recorded.decision(rung)
    if decision is not None and seed not in decision.fact.promoted:
        promoted = list(decision.fact.promoted)
        audit.note(key, f"field 'seed' is {seed}, expected one of {promoted} by '{decision.key}'")
    for one in decision.fact.inputs if decision is not None else ():
        _compare(recorded, key, inputs.get(one.seed, one), one, f"'{decision and decision.key}'")


def check_decision(recorded: RecordedFacts, entry: Entry[Decision]) -> None:
    """Note what keeps a decision from following from its inputs and from the rung before."""
    audit, key, rung = recorded.audit, entry.key, entry.fact.rung
    if rung >= len(recorded.rungs):
        audit.note(key, f"field 'rung' is {rung}, expected one below {len(recorded.rungs)}")
        return
    if rung and recorded.decision(rung - 1) is None:
        audit.missing(facts.decision_key(recorded.study, rung - 1), key)
    _check_inputs(recorded, key, rung, entry.fact.inputs)
    scores = {one.seed: one.jaccard for one in entry.fact.inputs}
    entrants = recorded.entrants(rung)
    if entrants is not None and scores.keys() != entrants:
        of = sorted(scores)
        audit.note(key, f"its inputs are of seeds {of}, expected seeds {sorted(entrants)}")
    standing = decide(scores, promotion_slots(recorded.rungs, rung))
    iterations = recorded.rungs[rung].iterations
    audit.compare(key, entry.fact, vars(standing), "its inputs")
    audit.compare(key, entry.fact, {"iterations": iterations}, "the schedule")


def _check_inputs(recorded: RecordedFacts, key: str, rung: int, inputs: tuple[Input, ...]) -> None:
    """Compare inputs with the reports and failures that they name."""
    seeds = [entry.seed for entry in inputs]
    if len(set(seeds)) < len(seeds):
        recorded.audit.note(key, f"its inputs are of seeds {seeds}, expected each seed once")
    for entry in inputs:
        reports = [
            report
            for report in recorded.reports_of[rung, entry.seed]
            if report.fact.attempt == entry.attempt
        ]
        if entry.sha256 is None:
            expected, source = _failed(recorded, rung, entry.seed)
        elif reports:
            report = next((r for r in reports if r.sha256 == entry.sha256), reports[0])
            score = report.fact.score(recorded.race.rung_metric)
            expected = Input(entry.seed, entry.attempt, score, report.sha256)
            source = f"'{report.key}'"
        else:
            expected, source = None, "the reports that can be read"
        _compare(recorded, key, entry, expected, source)


def _failed(recorded: RecordedFacts, rung: int, seed: int) -> tuple[Input | None, str]:
    """Return the input of a seed that failed for good, None where it did not, and the source."""
    failures = [failure.fact for failure in recorded.failures_of[rung, seed]]
    failures.sort(key=lambda failure: failure.attempt)
    before = recorded.rungs[rung - 1].iterations if rung else 0
    # Of which generation the controller was that gave the seed up, and after which failure, is
    # not recorded.
    failed = any(
        failed_for_good(failures[:end], before, generation)
        for end in range(1, len(failures) + 1)
        for generation in {failure.generation for failure in failures}
    )
    return Input(seed, None, None, None) if failed else None, f"its {len(failures)} failures"


def _compare(
    recorded: RecordedFacts, key: str, stored: Input, expected: Input | None, source: str
) -> None:
    if stored != expected:
        text = f"its input of seed {stored.seed} is {_words(stored)}"
        recorded.audit.note(key, f"{text}, expected {_words(expected)} by {source}")


def _words(entry: Input | None) -> str:
    if entry is None:
        return "none"
    return f"attempt {entry.attempt}, Jaccard {entry.jaccard}, SHA-256 {entry.sha256}"
