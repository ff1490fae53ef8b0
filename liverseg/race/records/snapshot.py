"""All facts of a study at one moment, read with few requests."""

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, groupby
from operator import attrgetter
from typing import Any, TypeVar

from liverseg.core.race.ledger import Span
from liverseg.errors import IntegrityError
from liverseg.race.records import facts, reports, spans
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import ARMS, Arm, Fact, Stop
from liverseg.race.records.job import Attempt
from liverseg.race.records.key_forms import DECISION, EVENT, FAILURE, PROMOTION, named
from liverseg.race.records.reports import ReportKey
from liverseg.race.records.study import stored_nonce
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

AnyFact = TypeVar("AnyFact", bound=Fact)
_ORDER = attrgetter("seed", "attempt", "sha256")


@dataclass(frozen=True)
class Snapshot:
    """What has been recorded; sorted, so that equal stores give equal snapshots."""

    reports: tuple[ReportKey, ...]
    failures: tuple[Failure, ...]
    """Of rungs that are not decided: a decision says all that counts of its rung."""
    promotions: frozenset[tuple[int, int]]
    """(rung, seed) of early promotions, of rungs that are not decided."""
    decisions: tuple[Decision, ...]
    named: dict[tuple[int, int], str | None]
    """What promotions and decisions depend on, by (rung, seed): a report, or None for a failure.

    Promotions of a rung are left out while each of its seeds can be counted in one way only."""
    results: frozenset[Arm]
    """Arms whose result is written."""
    spans: dict[Attempt, Span]
    """Of all attempts that have begun."""
    unknown: frozenset[Attempt] = frozenset()
    """Begun, not among those asked for, and their end or what they came to is not recorded."""
    closed: frozenset[Attempt] = frozenset()
    """Attempts whose end a controller recorded."""
    spent_seconds: float = 0.0
    """GPU (or CPU) time of all trainers, until their last event."""
    stopped: bool = False
    """Somebody has stopped the study and not yet resumed it."""


class SnapshotReader:
    """Reads snapshots of one study.

    The first read lists all rungs at once, later ones only those that are not decided, or whose
    attempts are not all closed. A record is read once.
    """

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._study = study
        self._nonce: str | None = None
        self._rungs: defaultdict[str, _Rung] = defaultdict(lambda: _Rung(self._nonce))
        self._record: Callable[..., Any] = cache(partial(_read, store))

    def read(self, asked: Iterable[Attempt] = ()) -> Snapshot:
        """Return what is recorded now; `asked` are the attempts whose job the executor knows."""
        asked = frozenset(asked)
        self._list(asked)
        rungs = [self._rungs[name] for name in sorted(self._rungs, key=lambda n: (len(n), n))]
        undecided = [rung for rung in rungs if rung.decision is None]
        decisions = [self._record(r.decision, Decision) for r in rungs if r.decision is not None]
        early = [key for rung in undecided if rung.is_ambiguous() for key in rung.promotions]
        resting = [self._record(key, Promotion) for key in early]
        reports = [report for rung in rungs for report in rung.reports]
        spans = {attempt: span for rung in rungs for attempt, span in rung.spans.items()}
        closed = frozenset(attempt for rung in rungs for attempt in rung.closed)
        # Once a seed has reported, its other attempts need no failure.
        reported = {(report.rung, report.seed) for report in reports}
        failed = {attempt for rung in rungs for attempt in rung.failures.values()}
        settled = {at for at in closed if at in failed or (at.rung, at.seed) in reported}
        results = self._store.keys(facts.study_prefix(self._study) + "results/")
        stops = self._store.keys(facts.stops_prefix(self._study))
        return Snapshot(
            reports=tuple(reports),
            failures=tuple(self._record(key, Failure) for r in undecided for key in r.failures),
            promotions=frozenset(pair for r in undecided for pair in r.promotions.values()),
            decisions=tuple(decisions),
            named=rests_on([*resting, *decisions]),
            results=frozenset(arm for arm in ARMS if facts.result_key(self._study, arm) in results),
            spans=spans,
            unknown=frozenset(spans) - settled - asked,
            closed=closed,
            spent_seconds=sum(span.seconds for span in spans.values()),
            stopped=bool(stops) and self._record(stops[-1], Stop).stopped,
        )

    def failures(self) -> list[Failure]:
        """Return every failure that `read` has seen, those of decided rungs included."""
        return [self._record(key, Failure) for r in self._rungs.values() for key in r.failures]

    def _list(self, asked: frozenset[Attempt]) -> None:
        """Look at every rung that can have changed."""
        if not self._rungs:
            self._nonce = stored_nonce(self._store, self._study)
            listed = self._store.keys(facts.rungs_prefix(self._study))
            self._rungs["0"].take(())
            for name, keys in groupby(listed, key=lambda key: key.split("/")[3]):
                self._rungs[name].take(keys)
            return
        # One whose job is known may be closed though it has never begun.
        unclosed = asked.difference(*(rung.closed for rung in self._rungs.values()))
        again = {str(attempt.rung) for attempt in unclosed}
        for index in count():
            rung = self._look(str(index), again)
            if rung.decision is None and not rung.promotions:
                break
        self._look("baseline", again)

    def _look(self, name: str, again: Collection[str]) -> "_Rung":
        rung = self._rungs[name]
        # Else nothing of it can change any more.
        if name in again or rung.decision is None or not rung.spans.keys() <= rung.closed:
            rung.take(self._store.keys(f"{facts.rungs_prefix(self._study)}{name}/"))
        return rung


class _Rung:
    """What the keys below one rung say; a key is read once."""

    def __init__(self, nonce: str | None) -> None:
        self._nonce = nonce
        self._keys: set[str] = set()
        self._events: dict[Attempt, list[str]] = {}
        self.decision: str | None = None
        self.promotions: dict[str, tuple[int, int]] = {}
        self.failures: dict[str, Attempt] = {}
        self.reports: list[ReportKey] = []
        self.spans: dict[Attempt, Span] = {}
        self.closed: set[Attempt] = set()

    def take(self, keys: Iterable[str]) -> None:
        """Note the keys that were not there before."""
        grown: set[Attempt] = set()
        for key in keys:
            if key in self._keys:
                continue
            self._keys.add(key)
            match facts.kind_at_rung(key):
                case "attempts":
                    at = named(key, EVENT)
                    if at["nonce"] == self._nonce:
                        attempt = Attempt(at["rung"], at["seed"], at["attempt"])
                        self._events.setdefault(attempt, []).append(key)
                        grown.add(attempt)
                        if at["event"].startswith("closed_"):
                            self.closed.add(attempt)
                case "reports":
                    insort(self.reports, reports.parse(key), key=_ORDER)
                case "failures":
                    at = named(key, FAILURE)
                    self.failures[key] = Attempt(at["rung"], at["seed"], at["attempt"])
                case "promotions":
                    at = named(key, PROMOTION)
                    self.promotions[key] = at["rung"], at["seed"]
                case "decision.json" | "":
                    named(key, DECISION)
                    self.decision = key
        for attempt in grown:
            if span := spans.span_of(attempt, self._events[attempt]):
                self.spans[attempt] = span

    def is_ambiguous(self) -> bool:
        """Return whether any seed has failed or reported twice, so could be counted in two ways."""
        seeds = {report.seed for report in self.reports}
        return bool(self.failures) or len(seeds) < len(self.reports)


def read_failures(store: ObjectStore, study: str) -> list[Failure]:
    """Return every failure, those of decided rungs included."""
    keys = store.keys(facts.rungs_prefix(study))
    return [_read(store, k, Failure) for k in keys if facts.kind_at_rung(k) == "failures"]


def _read(store: ObjectStore, key: str, kind: type[AnyFact]) -> AnyFact:
    """Return a fact; IntegrityError where it is another one than its key says."""
    fact = record.read(store, key, kind)
    for field, part in (named(key, kind.form) if kind.form else {}).items():
        if (value := getattr(fact, field)) != part:
            raise IntegrityError(f"'{key}' is damaged: field '{field}' is {value}, its key {part}")
    return fact


def rests_on(concluded: Iterable[Promotion | Decision]) -> dict[tuple[int, int], str | None]:
    """Return the SHA-256 of the report (None: failed) that counts for good, by (rung, seed)."""
    return {(c.rung, entry.seed): entry.sha256 for c in concluded for entry in c.inputs}
