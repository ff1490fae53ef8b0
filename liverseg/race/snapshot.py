"""All facts of a study at one moment, read in one sweep."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from liverseg.race import facts
from liverseg.race.executor import parse_job_name
from liverseg.race.facts import Arm, Report
from liverseg.race.verdicts import Decision, Failure, Promotion
from liverseg.storage import record
from liverseg.storage.port import ObjectStore


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
    decisions: tuple[Decision, ...]
    results: frozenset[Arm]
    """Arms whose result is written."""
    ends: dict[str, int | None]
    """Exit code by job, of the jobs whose segment has an end."""
    open_segments: frozenset[str]
    """Jobs that began and whose end nobody has recorded yet."""
    reached: dict[int, int]
    """Furthest iteration recorded, by seed."""


class SnapshotReader:
    """Reads snapshots of one study; a record that was read once is not read again."""

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._study = study
        self._known: dict[str, tuple[dict[str, Any], str]] = {}

    def read(self) -> Snapshot:
        """Return what is recorded now; lists neither checkpoints nor curves."""
        ends, open_segments, reached = self._segments()
        return Snapshot(
            tuple(Recorded(Report.from_mapping(v), sha) for v, sha in self._all("reports")),
            tuple(Failure.from_mapping(v) for v, _ in self._all("failures")),
            tuple(Promotion.from_mapping(v) for v, _ in self._all("promotions")),
            tuple(Decision.from_mapping(v) for v, _ in self._all("decisions")),
            frozenset(a for a in _ARMS if self._store.keys(facts.result_key(self._study, a))),
            ends,
            open_segments,
            reached,
        )

    def _all(self, kind: str) -> list[tuple[dict[str, Any], str]]:
        prefix = f"{facts.study_prefix(self._study)}{kind}/"
        return [self._record(key) for key in self._store.keys(prefix)]

    def _record(self, key: str) -> tuple[dict[str, Any], str]:
        """Return the values and the SHA-256 of a record that is written only once."""
        if key not in self._known:
            data = self._store.get(key)
            self._known[key] = (record.decode(data, key), sha256(data).hexdigest())
        return self._known[key]

    def _segments(self) -> tuple[dict[str, int | None], frozenset[str], dict[int, int]]:
        prefix = f"{facts.study_prefix(self._study)}segments/"
        ends: dict[str, int | None] = {}
        begun: set[str] = set()
        reached: dict[int, int] = {}
        for key in self._store.keys(prefix):
            job, _, part = key.removeprefix(prefix).removesuffix(".json").rpartition("/")
            name = parse_job_name(job)
            if name is None:
                continue
            begun.add(job)
            iteration = int(part) if part.isdigit() else 0
            if part in ("end", "closed"):
                end = self._record(key)[0]
                iteration = end["iteration"] or 0
                # The trainer's own word counts; "closed" sorts, and is read, before "end".
                ends[job] = end["exit_code"]
            reached[name.seed] = max(reached.get(name.seed, 0), iteration)
        return ends, frozenset(begun - ends.keys()), reached


_ARMS: tuple[Arm, Arm] = ("multi", "single")
