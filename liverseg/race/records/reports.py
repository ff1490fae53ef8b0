"""Reports of trainers: what a decision needs is in their keys, so that a LIST reads them all."""

from dataclasses import dataclass
from hashlib import sha256

from liverseg.errors import IntegrityError
from liverseg.race.records.facts import Report, Reported
from liverseg.race.records.key_forms import REPORT, named
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Sha256


@dataclass(frozen=True)
class ReportKey(Reported):
    """What the key of a report says of it."""

    sha256: Sha256
    """Of the report's bytes; promotions and decisions name the report by it."""


def parse(key: str) -> ReportKey:
    """Return what a report's key says; IntegrityError for a key that no trainer writes."""
    return record.from_name(named(key, REPORT), key, ReportKey)


def write_report(store: ObjectStore, study: str, report: Report) -> None:
    """Commit a report; the same one that is there already stays as it is."""
    data = record.encode(report.to_mapping())
    store.put_new(report.key(study, sha256=sha256(data).hexdigest()), data)


def read_report(store: ObjectStore, study: str, report: ReportKey) -> Report:
    """Return a report; IntegrityError where its bytes are not those that its key names."""
    key = report.key(study)
    data = store.get(key)
    digest = sha256(data).hexdigest()
    if digest != report.sha256:
        raise IntegrityError(
            f"'{key}' is damaged: its SHA-256 is {digest}, its key says {report.sha256}"
        )
    return record.decode(data, key, Report)
