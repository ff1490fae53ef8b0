"""The lives of trainers as they and the controller recorded them (`segments/<job>/`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from liverseg.core.ledger import Mark, Segment
from liverseg.race import facts
from liverseg.race.executor import parse_job_name
from liverseg.storage import record
from liverseg.storage.port import ObjectStore


class SegmentReader:
    """Reads segments; a record that was read once is not read again, an ended job not listed.

    `seconds` is what all segments seen so far amount to: GPU (or CPU) time until their last mark.
    """

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._prefix = facts.segments_prefix(study)
        self._records: dict[str, dict[str, dict[str, Any]]] = {}
        self._known: dict[str, Segment] = {}
        self._open: set[str] = set()
        self._complete = False

    @property
    def seconds(self) -> float:
        """Return the time of all segments that were read."""
        return sum(segment.seconds for segment in self._known.values())

    def read(self, jobs: Iterable[str]) -> dict[str, Segment]:
        """Return the segments of all jobs that have begun, as far as is known.

        Looked at are `jobs`, and those that were asked for before, until they have ended.
        """
        if not self._complete:
            self.all()
        self._open.update(jobs)
        for job in tuple(self._open):
            known = self._known.get(job)
            if known is None or not known.ended:
                self._look(job, self._store.keys(f"{self._prefix}{job}/"))
            else:
                self._open.discard(job)
        return dict(self._known)

    def all(self) -> tuple[Segment, ...]:
        """Return the segment of every job of the study, sorted by name."""
        keys: dict[str, list[str]] = {}
        for key in self._store.keys(self._prefix):
            keys.setdefault(key.removeprefix(self._prefix).partition("/")[0], []).append(key)
        for job, found in keys.items():
            self._look(job, found)
        self._complete = True
        return tuple(self._known[job] for job in sorted(self._known))

    def _look(self, job: str, keys: Iterable[str]) -> None:
        records = self._records.setdefault(job, {})
        for key in keys:
            part = key.rpartition("/")[2].removesuffix(".json")
            if part not in records:
                records[part] = record.read(self._store, key)
        segment = _segment(job, records)
        if segment is not None:
            self._known[job] = segment


def _segment(job: str, records: Mapping[str, Mapping[str, Any]]) -> Segment | None:
    name = parse_job_name(job)
    if name is None or "start" not in records:
        return None
    # The trainer's own end counts; the controller closes only segments that have none.
    end = records.get("end", records.get("closed"))
    middle = sorted(
        (records[part] for part in records if part.isdigit()), key=lambda r: int(r["iteration"])
    )
    ordered = [records["start"], *middle, *([end] if end else [])]
    marks = [Mark(int(r["iteration"]), float(r["time"])) for r in ordered]
    if end is not None and "end" not in records:
        # A process that was given up may have gone on: it lived until its last word.
        marks[-1] = Mark(max(mark.iteration for mark in marks), max(mark.time for mark in marks))
    code = end["exit_code"] if end else None
    return Segment(name.seed, name.rung, name.attempt, tuple(marks), end is not None, code)
