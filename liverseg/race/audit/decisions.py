"""Promotions and decisions, made once more from the inputs that they name."""

from liverseg.core.race.halving import decide, guaranteed, promotion_slots
from liverseg.race.audit.recorded import Entry, RungFacts
from liverseg.race.decide.state import failed_for_good
from liverseg.race.records.decisions import Decision, Input, Promotion


def check(rung_facts: RungFacts, entry: Entry[Promotion] | Entry[Decision]) -> None:
    """Note what keeps a promotion or decision from following from what it rests on."""
    audit, key, fact, rungs = rung_facts.audit, entry.key, entry.fact, rung_facts.study.rungs
    # From the last rung nobody is promoted early.
    end = len(rungs) - isinstance(fact, Promotion)
    if fact.rung >= end:
        audit.note(key, f"field 'rung' is {fact.rung}, expected one below {end}")
        return
    decision = rung_facts.decisions.get(fact.rung)
    decided = set(decision.fact.inputs if decision is not None else fact.inputs)
    for one in fact.inputs:
        made, problem = _made_anew(rung_facts, fact.rung, one), f"its input of seed {one.seed} is"
        if one != made:
            source = "by the reports and failures that can be read"
            audit.note(key, f"{problem} {one}, expected {made} {source}")
        elif one not in decided:
            audit.note(key, f"{problem} {one}, expected one of '{decision and decision.key}'")
    # A decision rests on all seeds of its rung, a promotion on some of them.
    seeds, entrants = sorted(one.seed for one in fact.inputs), rung_facts.entrants[fact.rung]
    expected = sorted(entrants if isinstance(fact, Decision) else entrants & set(seeds))
    if seeds != expected:
        audit.note(key, f"its inputs are of seeds {seeds}, expected seeds {expected}")
    scores = {one.seed: one.jaccard for one in fact.inputs}
    slots = promotion_slots(rungs, fact.rung)
    if isinstance(fact, Decision):
        if fact.rung and fact.rung - 1 not in rung_facts.decisions:
            audit.note(key, f"there is no decision of rung {fact.rung - 1} that can be read")
        audit.compare(entry, vars(decide(scores, slots)), "its inputs")
        audit.compare(entry, {"iterations": rungs[fact.rung].iterations}, "the schedule")
        return
    # What is decided bounds how many seeds come to the rung.
    numbers = [len(d.fact.promoted) for at, d in rung_facts.decisions.items() if at < fact.rung]
    to_come = max(0, min([rungs[fact.rung].size, *numbers]) - len(scores))
    sure = guaranteed(scores, to_come, slots)
    if fact.seed not in sure:
        source = f"its inputs, with {to_come} seeds still to come"
        audit.note(key, f"field 'seed' is {fact.seed}, expected one of {sure} by {source}")


def _made_anew(rung_facts: RungFacts, rung: int, one: Input) -> Input | None:
    """Return an input as the report that it names, or its seed's failures, make it."""
    if one.sha256 is not None:
        report = rung_facts.reports.get(one.sha256)
        if report is None or report.fact.rung != rung:
            return None
        score = report.fact.score(rung_facts.study.settings.race.rung_metric)
        return Input(report.fact.seed, report.fact.attempt, score, report.sha256)
    failures = sorted(rung_facts.failures[rung, one.seed], key=lambda failure: failure.attempt)
    before = rung_facts.study.rungs[rung - 1].iterations if rung else 0
    # Of which generation the controller was that gave the seed up, and after which failure, is
    # not recorded.
    failed = any(
        failed_for_good(failures[:end], before, generation)
        for end in range(1, len(failures) + 1)
        for generation in {failure.generation for failure in failures}
    )
    return Input(one.seed, None, None, None) if failed else None
