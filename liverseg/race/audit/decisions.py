"""Promotions and decisions, made once more from the inputs that they name."""

from collections import defaultdict

from liverseg.core.race.halving import decide, guaranteed, promotion_slots
from liverseg.core.race.ledger import RungName
from liverseg.race.audit.findings import Audit, Entry
from liverseg.race.decide.state import failed_for_good
from liverseg.race.records import facts, spans
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import Report
from liverseg.race.records.study import Study


class RungFacts:
    """The facts of all rungs that can be read; the others are noted."""

    def __init__(self, audit: Audit, study: Study) -> None:
        self.audit, self.study = audit, study
        # A store lists decisions and promotions before the reports of their rung, so that they
        # rest on nothing that a running race writes in between.
        keys: dict[str, list[str]] = defaultdict(list)
        for key in audit.store.keys(facts.rungs_prefix(study.id)):
            keys[facts.kind_at_rung(key)].append(key)
        for key in keys[""]:
            audit.note(key, "is no key of a race")
        for key in keys["attempts"]:
            with audit.noting(key):
                spans.parse(key)
        self.promotions = audit.read_all("promotions", keys["promotions"], Promotion)
        decisions = audit.read_all("decisions", keys["decision.json"], Decision)
        self.decisions = {entry.fact.rung: entry for entry in decisions}
        reports = audit.read_all("reports", keys["reports"], Report)
        self.reports = {report.sha256: report for report in reports}
        self.failures: dict[tuple[RungName, int], list[Failure]] = defaultdict(list)
        for failure in audit.read_all("failures", keys["failures"], Failure):
            self.failures[failure.fact.rung, failure.fact.seed].append(failure.fact)


def check(rung_facts: RungFacts, entry: Entry[Promotion] | Entry[Decision]) -> None:
    """Note what keeps a promotion or decision from following from what it rests on."""
    audit, key, fact, rungs = rung_facts.audit, entry.key, entry.fact, rung_facts.study.rungs
    # From the last rung nobody is promoted early.
    end = len(rungs) - isinstance(fact, Promotion)
    if fact.rung >= end:
        audit.note(key, f"field 'rung' is {fact.rung}, expected one below {end}")
        return
    for one in fact.inputs:
        if one != (made := _made_anew(rung_facts, fact.rung, one)):
            problem = f"its input of seed {one.seed} is {one}, expected {made}"
            audit.note(key, f"{problem} by the reports and failures that can be read")
    # A decision rests on all seeds of its rung, a promotion on some of them.
    seeds, entrants = sorted(one.seed for one in fact.inputs), _entrants(rung_facts, fact)
    expected = sorted(entrants if isinstance(fact, Decision) else entrants & set(seeds))
    if seeds != expected:
        audit.note(key, f"its inputs are of seeds {seeds}, expected seeds {expected}")
    scores = {one.seed: one.jaccard for one in fact.inputs}
    slots = promotion_slots(rungs, fact.rung)
    if isinstance(fact, Decision):
        audit.compare(entry, vars(decide(scores, slots)), "its inputs")
        audit.compare(entry, {"iterations": rungs[fact.rung].iterations}, "the schedule")
        return
    if (decision := rung_facts.decisions.get(fact.rung)) is not None:
        others = set(fact.inputs) - set(decision.fact.inputs)
        for one in sorted(others, key=lambda one: one.seed):
            audit.note(
                key, f"its input of seed {one.seed} is {one}, which is none of '{decision.key}'"
            )
    # What is decided bounds how many seeds come to the rung.
    decided = [len(d.fact.promoted) for at, d in rung_facts.decisions.items() if at < fact.rung]
    to_come = max(0, min([rungs[fact.rung].size, *decided]) - len(scores))
    sure = guaranteed(scores, to_come, slots)
    if fact.seed not in sure:
        source = f"its inputs, with {to_come} seeds still to come"
        audit.note(key, f"field 'seed' is {fact.seed}, expected one of {sure} by {source}")


def _entrants(rung_facts: RungFacts, fact: Promotion | Decision) -> set[int]:
    """Return who was promoted to a rung; what is decided rests on a decision, not on promotions."""
    if fact.rung == 0:
        return set(range(rung_facts.study.settings.race.seeds))
    decision = rung_facts.decisions.get(fact.rung - 1)
    if decision is not None or isinstance(fact, Decision):
        return set(decision.fact.promoted if decision else ())
    return {e.fact.seed for e in rung_facts.promotions if e.fact.rung == fact.rung - 1}


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
