"""The lives of trainers as they and the controller recorded them (`spans/<job>/`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from liverseg.core.race.ledger import Sample, Span
from liverseg.race.records import facts
from liverseg.race.records.job_name import JobName, parse_job_name
from liverseg.race.records.study import stored_nonce
from liverseg.storage import record
from liverseg.storage.port import ObjectStore


class SpanReader:
    """Reads spans; a record that was read once is not read again, a closed job not listed.

    `seconds` is what all spans seen so far amount to: GPU (or CPU) time until their last mark.
    """

    def __init__(self, store: ObjectStore, study: str) -> None:
        self._store = store
        self._study = study
        self._nonce: str | None = None
        self._prefix = facts.spans_prefix(study)
        self._records: dict[str, dict[str, dict[str, Any]]] = {}
        self._known: dict[str, Span] = {}
        self.closed: set[str] = set()
        """Jobs of which a controller has recorded the end."""
        self._open: set[str] = set()
        self._complete = False

    @property
    def seconds(self) -> float:
        """Return the time of all spans that were read."""
        return sum(span.seconds for span in self._known.values())

    def read(self, jobs: Iterable[str]) -> dict[str, Span]:
        """Return the spans of all jobs that have begun, as far as is known.

        Looked at are `jobs`, and all that are known to have begun, until they are closed.
        """
        if not self._complete:
            self.all()
        self._open.update(jobs)
        for job in tuple(self._open):
            if job in self.closed:
                self._open.discard(job)
            else:
                self._look(job, self._store.keys(f"{self._prefix}{job}/"))
        return dict(self._known)

    def all(self) -> tuple[Span, ...]:
        """Return the span of every job of the study, sorted by name."""
        if self._nonce is None:
            self._nonce = stored_nonce(self._store, self._study)
        keys: dict[str, list[str]] = {}
        for key in self._store.keys(self._prefix):
            keys.setdefault(key.removeprefix(self._prefix).partition("/")[0], []).append(key)
        for job, found in keys.items():
            self._look(job, found)
        self._open.update(keys)
        self._complete = True
        return tuple(self._known[job] for job in sorted(self._known))

    def _look(self, job: str, keys: Iterable[str]) -> None:
        name = parse_job_name(job)
        if name is None or name.nonce != self._nonce:
            return  # a trainer of the study that was here before the store was emptied
        records = self._records.setdefault(job, {})
        for key in keys:
            part = key.rpartition("/")[2].removesuffix(".json")
            if part not in records:
                records[part] = record.read(self._store, key)
        if "closed" in records:
            self.closed.add(job)
        span = _span(name, records)
        if span is not None:
            self._known[job] = span


def _span(name: JobName, records: Mapping[str, Mapping[str, Any]]) -> Span | None:
    """Return a job's life: its own words, from and until when its platform knew it."""
    middle = sorted(
        (records[part] for part in records if part.isdigit()), key=lambda r: int(r["iteration"])
    )
    own = [records[part] for part in ("start", "end") if part in records]
    samples = [Sample(int(r["iteration"]), float(r["time"])) for r in [*own[:1], *middle, *own[1:]]]
    closed = records.get("closed")
    if closed is not None:
        samples = _framed(samples, closed["started"], closed["ended"], "end" in records)
    if not samples:
        return None
    end = records.get("end", closed)
    code = end["exit_code"] if end else None
    device = records.get("start", {}).get("device", "")
    return Span(name.seed, name.rung, name.attempt, tuple(samples), end is not None, code, device)


def _framed(
    samples: list[Sample], started: float | None, ended: float | None, has_end: bool
) -> list[Sample]:
    """Extend what a process said of itself to when it occupied a GPU, as far as that is known."""
    if not samples:
        return [Sample(0, started), Sample(0, ended)] if started and ended else []
    first, last = samples[0], samples[-1]
    if started is not None:
        samples[0] = Sample(first.iteration, min(started, first.time))
    if not has_end:
        # A process that was given up may have gone on: it lived until its last word.
        samples.append(last)
    if ended is not None:
        samples[-1] = Sample(last.iteration, max(ended, last.time))
    return samples
