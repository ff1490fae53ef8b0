"""Reports of trainers: what a decision needs of one is in its key, so that a LIST reads them all.

`rungs/<rung>/reports/<seed>-a<attempt>_<best>_<best iteration>_<last>_<sha256>.json`
"""

import math
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from liverseg.core.race.ledger import RungName
from liverseg.errors import IntegrityError
from liverseg.race.records import facts
from liverseg.race.records.facts import AnyRung, Jaccard, Report, Seed
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Sha256

_NONE = "none"


@dataclass(frozen=True)
class ReportKey:
    """What the key of a report says of it."""

    rung: AnyRung
    seed: Seed
    attempt: Count
    best_jaccard: Jaccard | None
    """Highest mean validation Jaccard so far, 0 to 1; None: there is none, ranks last."""
    best_iteration: Count
    last_jaccard: Jaccard | None
    """Mean validation Jaccard at the rung."""
    sha256: Sha256
    """Of the report's bytes; promotions and decisions name the report by it."""

    def score(self, metric: Literal["best", "last"]) -> float | None:
        """Return the value that ranks the seed."""
        return self.best_jaccard if metric == "best" else self.last_jaccard


def key_of(study: str, report: Report, digest: str) -> str:
    """Return the key of a report whose bytes have the SHA-256 `digest`."""
    values = (
        f"{report.seed:04d}-a{report.attempt}",
        _shown(report.score("best")),
        str(report.best_iteration),
        _shown(report.score("last")),
        digest,
    )
    return f"{reports_prefix(study, report.rung)}{'_'.join(values)}.json"


def reports_prefix(study: str, rung: RungName) -> str:
    """Return where the reports of a rung are stored."""
    return facts.rung_prefix(study, rung) + "reports/"


def attempt_prefix(study: str, rung: RungName, seed: int, attempt: int) -> str:
    """Return what the key of an attempt's report begins with."""
    return f"{reports_prefix(study, rung)}{seed:04d}-a{attempt}_"


def parse(key: str) -> ReportKey:
    """Return what a report's key says; IntegrityError for a key that no trainer writes."""
    rung, _, name = key.split("/")[-3:]
    try:
        attempt, best, best_iteration, last, digest = name.removesuffix(".json").split("_")
        seed, number = attempt.split("-a")
    except ValueError as error:
        raise IntegrityError(
            f"'{key}' is not the key of a report: expected .../<rung>/reports/"
            "<seed>-a<attempt>_<best>_<best iteration>_<last>_<sha256>.json; delete it"
        ) from error
    values = {
        "rung": rung,
        "seed": seed.lstrip("0") or "0",
        "attempt": number,
        "best_jaccard": _value(best),
        "best_iteration": best_iteration,
        "last_jaccard": _value(last),
        "sha256": digest,
    }
    return record.from_name(values, key, ReportKey)


def write_report(store: ObjectStore, study: str, report: Report) -> None:
    """Commit a report; the same one that is there already stays as it is."""
    data = record.encode(report.to_mapping())
    store.put_new(key_of(study, report, sha256(data).hexdigest()), data)


def read_report(store: ObjectStore, study: str, report: ReportKey) -> Report:
    """Return a report; IntegrityError where its bytes are not those that its key names."""
    (key,) = (
        key
        for key in store.keys(attempt_prefix(study, report.rung, report.seed, report.attempt))
        if key.endswith(f"_{report.sha256}.json")
    )
    data = store.get(key)
    digest = sha256(data).hexdigest()
    if digest != report.sha256:
        raise IntegrityError(
            f"'{key}' is damaged: its SHA-256 is {digest}, its key says {report.sha256}"
        )
    return record.decode(data, key, Report)


def _shown(jaccard: float | None) -> str:
    # What is not finite is null in the report, too.
    return repr(jaccard) if jaccard is not None and math.isfinite(jaccard) else _NONE


def _value(text: str) -> str | None:
    return None if text == _NONE else text
