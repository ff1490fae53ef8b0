"""All facts of a race as an audit read them, and who was at which rung."""

from collections.abc import Mapping

from liverseg.core.race.halving import Rung, promotion_slots
from liverseg.core.race.ledger import RungName
from liverseg.race.audit.findings import Audit
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm, Report, Result
from liverseg.race.records.lineage import ids
from liverseg.settings import RaceSettings

_ARMS: tuple[Arm, Arm] = ("multi", "baseline")


class Testimony:
    """What is recorded under which key.

    Read in this order: what was concluded before what it rests on, so that nothing rests on a
    fact that a running race wrote after it was looked for.
    """

    def __init__(
        self, audit: Audit, study: str, race: RaceSettings, rungs: tuple[Rung, ...]
    ) -> None:
        self.audit, self.study, self.race, self.rungs = audit, study, race, rungs
        # An extended study's reports name the checkpoints of the one that it extends.
        self.lineage = ids(audit.store, study)
        found = {arm: audit.fact(facts.result_key(study, arm), Result) for arm in _ARMS}
        self.results = {arm: entry for arm, entry in found.items() if entry is not None}
        prefix = facts.study_prefix(study)
        self.promotions = audit.facts(
            prefix + "promotions/", Promotion, lambda p: facts.promotion_key(study, p.rung, p.seed)
        )
        self.decisions = audit.facts(
            prefix + "decisions/", Decision, lambda d: facts.decision_key(study, d.rung)
        )
        self.failures = audit.facts(
            prefix + "failures/",
            Failure,
            lambda f: facts.failure_key(study, f.rung, f.seed, f.attempt),
        )
        self.reports = audit.facts(
            prefix + "reports/",
            Report,
            lambda r: facts.report_key(study, r.rung, r.seed, r.attempt),
        )
        kinds: dict[str, Mapping[str, object]] = {
            "reports": self.reports,
            "failures": self.failures,
            "promotions": self.promotions,
            "decisions": self.decisions,
            "results": {str(arm): entry for arm, entry in self.results.items()},
        }
        audit.checked.update({kind: len(read) for kind, read in kinds.items()})

    def decision(self, rung: int) -> Decision | None:
        """Return a rung's decision, or None where there is none that can be read."""
        entry = self.decisions.get(facts.decision_key(self.study, rung))
        return None if entry is None else entry.fact

    def failures_of(self, rung: RungName, seed: int) -> list[Failure]:
        """Return a seed's failures at a rung in order of their attempts."""
        known = [entry.fact for entry in self.failures.values() if entry.fact is not None]
        mine = [failure for failure in known if (failure.rung, failure.seed) == (rung, seed)]
        return sorted(mine, key=lambda failure: failure.attempt)

    def entrants(self, rung: int) -> frozenset[int] | None:
        """Return the seeds that were promoted to a rung; None where a claim cannot be read."""
        if rung == 0:
            return frozenset(range(self.race.seeds))
        prefix = f"{facts.study_prefix(self.study)}promotions/{rung - 1}/"
        early = [entry for key, entry in self.promotions.items() if key.startswith(prefix)]
        decided = self.decisions.get(facts.decision_key(self.study, rung - 1))
        if any(entry.fact is None for entry in early) or (decided and decided.fact is None):
            return None
        seeds = frozenset(entry.fact.seed for entry in early if entry.fact is not None)
        return seeds | frozenset(decided.fact.promoted if decided and decided.fact else ())

    def expected(self, rung: int) -> int:
        """Return how many seeds come to a rung at most, as far as is decided."""
        expected = self.race.seeds
        for before in range(rung):
            expected = min(promotion_slots(self.rungs, before), expected)
            entrants = self.entrants(before + 1)
            if self.decision(before) is not None and entrants is not None:
                expected = len(entrants)
        return expected
