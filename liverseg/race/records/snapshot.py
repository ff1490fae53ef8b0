"""All facts of a study at one moment, read with few requests."""

from bisect import insort
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from liverseg.core.race.ledger import Span
from liverseg.errors import IntegrityError
from liverseg.race.records import facts, reports, spans
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm, Fact, Stop
from liverseg.race.records.reports import ReportKey
from liverseg.race.records.spans import Attempt
from liverseg.race.records.study import stored_nonce
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

AnyFact = TypeVar("AnyFact", bound=Fact)
_BASELINE = "baseline"


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
    """What promotions and decisions rest on, by (rung, seed): a report, or None for a failure.

    Promotions of a rung are left out while none of its seeds can be told in two ways."""
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

    The first read lists all rungs at once, later ones only those that can still change: rungs that
    are not decided, or whose attempts are not all closed. A record is read once.
    """

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._study = study
        self._nonce: str | None = None
        self._rungs: dict[str, _Rung] = {}
        self._records: dict[str, Any] = {}

    def read(self, asked: Iterable[Attempt] = ()) -> Snapshot:
        """Return what is recorded now; `asked` are the attempts whose job the executor knows."""
        asked = frozenset(asked)
        self._list(asked)
        numbered = [rung for name, rung in self._rungs.items() if name != _BASELINE]
        decisions = [
            self._record(key, Decision) for rung in numbered if (key := rung.decision) is not None
        ]
        undecided = [rung for rung in numbered if rung.decision is None]
        ambiguous = [rung for rung in undecided if rung.is_ambiguous()]
        resting: list[Promotion | Decision] = [
            self._record(key, Promotion) for rung in ambiguous for key in rung.promotions
        ]
        reports = [report for rung in self._rungs.values() for report in rung.reports]
        open_rungs = [r for name, r in self._rungs.items() if r in undecided or name == _BASELINE]
        failed = [self._record(key, Failure) for rung in open_rungs for key in rung.failures]
        begun = {attempt: s for rung in self._rungs.values() for attempt, s in rung.spans.items()}
        closed = self._closed()
        # Once a seed has reported, its other attempts need no failure.
        reported = {(report.rung, report.seed) for report in reports}
        failed_ = {a for rung in self._rungs.values() for a in rung.failed}
        unsettled = (
            a
            for a in begun
            if a not in closed or ((a.rung, a.seed) not in reported and a not in failed_)
        )
        return Snapshot(
            tuple(reports),
            tuple(failed),
            frozenset(pair for rung in undecided for pair in rung.promoted),
            tuple(sorted(decisions, key=lambda decision: decision.rung)),
            rests_on([*resting, *decisions]),
            self._results(),
            begun,
            frozenset(unsettled) - asked,
            closed,
            sum(span.seconds for span in begun.values()),
            self._is_stopped(),
        )

    def _list(self, asked: frozenset[Attempt]) -> None:
        """Look at every rung that can have changed."""
        if not self._rungs:
            self._nonce = stored_nonce(self._store, self._study)
            prefix = facts.rungs_prefix(self._study)
            keys: dict[str, list[str]] = {"0": []}
            for key in self._store.keys(prefix):
                keys.setdefault(key.removeprefix(prefix).partition("/")[0], []).append(key)
            for name in sorted(keys, key=lambda name: (len(name), name)):
                self._take(name, keys[name])
            return
        # One whose job is known may be closed though it has never begun.
        unclosed = {str(at.rung) for at in asked - self._closed()}
        index, comes = 0, True
        while comes:
            comes = self._take_anew(str(index), unclosed).lets_through()
            index += 1
        self._take_anew(_BASELINE, unclosed)

    def _closed(self) -> frozenset[Attempt]:
        return frozenset(a for rung in self._rungs.values() for a in rung.closed)

    def _take_anew(self, name: str, unclosed: Collection[str]) -> "_Rung":
        rung = self._rungs.get(name)
        if rung is None or name in unclosed or not rung.is_settled():
            prefix = f"{facts.rungs_prefix(self._study)}{name}/"
            self._take(name, self._store.keys(prefix))
        return self._rungs[name]

    def _take(self, name: str, keys: Collection[str]) -> None:
        self._rungs.setdefault(name, _Rung(name, self._nonce)).take(keys)

    def _record(self, key: str, kind: type[AnyFact]) -> AnyFact:
        if key not in self._records:
            self._records[key] = read = record.read(self._store, key, kind)
            _require_named(key, read)
        found: AnyFact = self._records[key]
        return found

    def _results(self) -> frozenset[Arm]:
        written = set(self._store.keys(facts.results_prefix(self._study)))
        arms: tuple[Arm, ...] = ("multi", "baseline")
        return frozenset(arm for arm in arms if facts.result_key(self._study, arm) in written)

    def _is_stopped(self) -> bool:
        keys = self._store.keys(facts.stops_prefix(self._study))
        return bool(keys) and self._record(keys[-1], Stop).stopped


class _Rung:
    """What the keys below one rung say; a key is read once."""

    def __init__(self, name: str, nonce: str | None) -> None:
        self.name = name
        self._nonce = nonce
        self.decision: str | None = None
        self.promotions: list[str] = []
        self.failures: list[str] = []
        self.reports: list[ReportKey] = []
        self.spans: dict[Attempt, Span] = {}
        self.closed: set[Attempt] = set()
        self.failed: set[Attempt] = set()
        self.promoted: set[tuple[int, int]] = set()
        self._keys: set[str] = set()
        self._events: dict[Attempt, list[str]] = {}

    def take(self, keys: Iterable[str]) -> None:
        """Note the keys that were not there before."""
        grown: set[Attempt] = set()
        for key in keys:
            if key in self._keys:
                continue
            self._keys.add(key)
            try:
                kind, _, name = key.split("/", 4)[4].partition("/")
                if kind == "attempts":
                    folder, _, event = name.removesuffix(".json").partition("/")
                    number, _, nonce = folder.rpartition("-")
                    if nonce != self._nonce:
                        continue
                    attempt = spans.parse_attempt(self.name, number)
                    self._events.setdefault(attempt, []).append(event)
                    grown.add(attempt)
                else:
                    self._take_record(kind, key, name.removesuffix(".json"))
            except (ValueError, IndexError) as error:
                raise IntegrityError(
                    f"'{key}' is no key of a race ({error}); see docs/store.md, and delete it"
                ) from error
        for attempt in grown:
            span = spans.span_of(attempt, self._events[attempt])
            if span is not None:
                self.spans[attempt] = span
            if any(event.startswith("closed_") for event in self._events[attempt]):
                self.closed.add(attempt)

    def _take_record(self, kind: str, key: str, name: str) -> None:
        if kind == "decision.json":
            self.decision = key
        elif kind == "promotions":
            self.promotions.append(key)
            self.promoted.add((int(self.name), int(name)))
        elif kind == "failures":
            self.failures.append(key)
            self.failed.add(spans.parse_attempt(self.name, name))
        elif kind == "reports":
            insort(self.reports, reports.parse(key), key=_order)

    def lets_through(self) -> bool:
        """Return whether any seed may be at the next rung."""
        return self.decision is not None or bool(self.promotions)

    def is_settled(self) -> bool:
        """Return whether nothing of it can change any more."""
        return self.decision is not None and self.spans.keys() <= self.closed

    def is_ambiguous(self) -> bool:
        """Return whether what an early promotion rests on must be read.

        A seed that has one report and no failure can be told in one way only.
        """
        seeds = [report.seed for report in self.reports]
        return bool(self.promotions) and (bool(self.failures) or len(set(seeds)) < len(seeds))


def _require_named(key: str, fact: Fact) -> None:
    """Raise IntegrityError where a fact of a rung is another one than its key says."""
    rung, _, name = key.removesuffix(".json").split("/", 3)[3].partition("/")
    seed, _, attempt = name.rpartition("/")[2].partition("-a")
    for field, told in (("rung", rung), ("seed", seed), ("attempt", attempt)):
        value = getattr(fact, field, None)
        if value is not None and told != (f"{value:04d}" if field == "seed" else str(value)):
            raise IntegrityError(f"'{key}' is damaged: field '{field}' is {value}, its key {told}")


def read_failures(store: ObjectStore, study: str) -> list[Failure]:
    """Return every failure, those of decided rungs included."""
    keys = [key for key in store.keys(facts.rungs_prefix(study)) if "/failures/" in key]
    return [record.read(store, key, Failure) for key in keys]


def _order(report: ReportKey) -> tuple[int, int, str]:
    return report.seed, report.attempt, report.sha256


def rests_on(concluded: Iterable[Promotion | Decision]) -> dict[tuple[int, int], str | None]:
    """Return the SHA-256 of the report (None: failed) that counts for good, by (rung, seed)."""
    return {(c.rung, entry.seed): entry.sha256 for c in concluded for entry in c.inputs}
