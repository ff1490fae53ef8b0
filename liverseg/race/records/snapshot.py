"""All facts of a study at one moment, read in one sweep."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from liverseg.core.race.ledger import RungName, Span
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Arm, Fact, Report
from liverseg.race.records.spans import SpanReader
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

Parsed = TypeVar("Parsed")
AnyFact = TypeVar("AnyFact", bound=Fact)


@dataclass(frozen=True)
class Recorded:
    """A report with the SHA-256 of its bytes, by which promotions and decisions name it."""

    report: Report
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """What has been recorded; sorted, so that equal stores give equal snapshots."""

    reports: tuple[Recorded, ...]
    failures: tuple[Failure, ...]
    promotions: tuple[Promotion, ...]
    """Of rungs that are not decided: a decision says the same of its rung."""
    decisions: tuple[Decision, ...]
    named: dict[tuple[int, int], str | None]
    """What promotions and decisions rest on, by (rung, seed): a report, or None for a failure."""
    results: frozenset[Arm]
    """Arms whose result is written."""
    spans: dict[str, Span]
    """By job, of all that have begun."""
    unknown: frozenset[str] = frozenset()
    """Jobs that have begun, whose end nobody recorded, and that were not among those asked for."""
    closed: frozenset[str] = frozenset()
    """Jobs whose end a controller recorded."""
    spent_seconds: float = 0.0
    """GPU (or CPU) time of all trainers, until their last word."""
    stopped: bool = False
    """Somebody has stopped the study and not yet resumed it."""


class SnapshotReader:
    """Reads snapshots of one study; a record that was read once is not read again."""

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._study = study
        self._spans = SpanReader(store, study)
        self._known: dict[str, Any] = {}
        self._named: dict[tuple[int, int], str | None] = {}

    def read(self, jobs: Iterable[str] = (), besides: Iterable[str] = ()) -> Snapshot:
        """Return what is recorded now, with the spans of `jobs`; no checkpoints, no curves.

        `besides` are jobs that may have begun though the executor does not know them.
        """
        decisions = self._all("decisions", _parsed(Decision))
        decided = {decision.rung for decision in decisions}
        promotions = self._all("promotions", _parsed(Promotion), decided)
        asked = frozenset(jobs)
        spans = self._spans.read(asked.union(besides))
        reports = self._all("reports", _recorded)
        failures = self._all("failures", _parsed(Failure))
        settled = {(r.report.rung, r.report.seed, r.report.attempt) for r in reports}
        settled |= {(f.rung, f.seed, f.attempt) for f in failures}
        return Snapshot(
            reports,
            failures,
            promotions,
            decisions,
            dict(self._named),
            frozenset(a for a in _ARMS if self._store.keys(facts.result_key(self._study, a))),
            spans,
            frozenset(
                job
                for job in spans.keys() - asked
                if job not in self._spans.closed or _attempt(spans[job]) not in settled
            ),
            frozenset(self._spans.closed),
            self._spans.seconds,
            facts.is_stopped(self._store, self._study),
        )

    def _all(
        self, kind: str, parse: Callable[[bytes, str], Parsed], without: Collection[int] = ()
    ) -> tuple[Parsed, ...]:
        """Return all facts of a kind, but for the rungs in `without`."""
        prefix = f"{facts.study_prefix(self._study)}{kind}/"
        skipped = tuple(f"{prefix}{rung}/" for rung in without)
        keys = [key for key in self._store.keys(prefix) if not key.startswith(skipped)]
        for key in keys:
            if key not in self._known:
                self._known[key] = found = parse(self._store.get(key), key)
                if isinstance(found, Promotion | Decision):
                    self._named |= rests_on([found])
        return tuple(self._known[key] for key in keys)


def _attempt(span: Span) -> tuple[RungName, int, int]:
    return span.rung, span.seed, span.attempt


def rests_on(verdicts: Iterable[Promotion | Decision]) -> dict[tuple[int, int], str | None]:
    """Return the SHA-256 of the report (None: failed) that counts for good, by (rung, seed)."""
    return {(v.rung, entry.seed): entry.sha256 for v in verdicts for entry in v.inputs}


def _recorded(data: bytes, key: str) -> Recorded:
    return Recorded(Report.from_mapping(record.decode(data, key)), sha256(data).hexdigest())


def _parsed(kind: type[AnyFact]) -> Callable[[bytes, str], AnyFact]:
    return lambda data, key: kind.from_mapping(record.decode(data, key))


_ARMS: tuple[Arm, Arm] = ("multi", "baseline")
