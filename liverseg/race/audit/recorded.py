"""All facts of a race as an audit reads them, and who was at which rung."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TypeVar

from liverseg.core.race.halving import Rung, promotion_slots
from liverseg.core.race.ledger import RungName
from liverseg.race.audit.findings import Audit, Entry, Kind
from liverseg.race.records import facts, reports, spans
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm, CurvePoint, Report, Result
from liverseg.race.records.lineage import ids
from liverseg.race.records.study import Spec
from liverseg.settings import RaceSettings

Group = TypeVar("Group")
ARMS: tuple[Arm, Arm] = ("multi", "baseline")


class RecordedFacts:
    """The facts of a study that can be read; what cannot is noted.

    A store lists decisions and promotions before the reports of their rung, so that they rest on
    nothing that a running race writes in between.
    """

    def __init__(
        self, audit: Audit, study: str, spec: Spec, race: RaceSettings, rungs: tuple[Rung, ...]
    ) -> None:
        self.audit, self.study, self.spec = audit, study, spec
        self.race, self.rungs = race, rungs
        # Reports of an extended study may name checkpoints of the study that it extends.
        self.lineage = ids(audit.store, study)
        results = {arm: audit.read(facts.result_key(study, arm), Result) for arm in ARMS}
        self.results = {arm: entry for arm, entry in results.items() if entry is not None}
        keys: dict[str, list[str]] = defaultdict(list)
        for key in audit.store.keys(facts.rungs_prefix(study)):
            keys[facts.kind_at_rung(key)].append(key)
        for key in keys[""]:
            audit.note(key, "is no key of a race")
        self.promotions = audit.facts(
            keys["promotions"],
            Promotion,
            lambda e: facts.promotion_key(study, e.fact.rung, e.fact.seed),
        )
        self.decisions = audit.facts(
            keys["decision.json"], Decision, lambda e: facts.decision_key(study, e.fact.rung)
        )
        self.all_decided_known = audit.unreadable.isdisjoint(
            keys["promotions"] + keys["decision.json"]
        )
        audit.parse(keys["attempts"], spans.parse)
        self.failures = audit.facts(
            keys["failures"],
            Failure,
            lambda e: facts.failure_key(study, e.fact.rung, e.fact.seed, e.fact.attempt),
        )
        self.reports = audit.facts(
            keys["reports"], Report, lambda e: reports.key_of(study, e.fact, e.sha256)
        )
        self.validations = audit.facts(
            audit.store.keys(facts.curves_prefix(study)),
            CurvePoint,
            lambda e: facts.curve_key(study, e.fact),
        )
        for kind in ("results", "promotions", "decisions", "failures", "reports", "validations"):
            if number := len(getattr(self, kind)):
                audit.checked[kind] = number

    def decision(self, rung: int) -> Entry[Decision] | None:
        """Return a rung's decision."""
        return next((entry for entry in self.decisions if entry.fact.rung == rung), None)

    @cached_property
    def reports_of(self) -> Mapping[tuple[RungName, int], list[Entry[Report]]]:
        """The reports of all attempts, by rung and seed."""
        return _grouped(self.reports, lambda report: (report.rung, report.seed))

    @cached_property
    def failures_of(self) -> Mapping[tuple[RungName, int], list[Entry[Failure]]]:
        """The failures of all attempts, by rung and seed."""
        return _grouped(self.failures, lambda failure: (failure.rung, failure.seed))

    @cached_property
    def validations_of(self) -> Mapping[int, list[Entry[CurvePoint]]]:
        """The validations of all attempts, by seed."""
        return _grouped(self.validations, lambda validation: validation.seed)

    def entrants(self, rung: int) -> frozenset[int] | None:
        """Return the seeds that were promoted to a rung; None where not all can be known."""
        if rung == 0:
            return frozenset(range(self.race.seeds))
        if not self.all_decided_known:
            return None
        early = frozenset(e.fact.seed for e in self.promotions if e.fact.rung == rung - 1)
        decision = self.decision(rung - 1)
        return early | frozenset(decision.fact.promoted if decision else ())

    def expected(self, rung: int) -> int:
        """Return how many seeds come to a rung at most, as far as is decided."""
        if rung == 0:
            return self.race.seeds
        decision = self.decision(rung - 1)
        if decision is not None:
            return len(decision.fact.promoted)
        return min(promotion_slots(self.rungs, rung - 1), self.expected(rung - 1))


def _grouped(
    entries: Iterable[Entry[Kind]], group: Callable[[Kind], Group]
) -> Mapping[Group, list[Entry[Kind]]]:
    groups = defaultdict(list)
    for entry in entries:
        groups[group(entry.fact)].append(entry)
    return groups
