"""Checkpoints: every file's hash, and what reports say of the checkpoints that they name."""

from liverseg.race.audit.findings import Audit, Entry
from liverseg.race.audit.recorded import RecordedFacts
from liverseg.race.records import facts
from liverseg.race.records.facts import Report
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.record import shown

_BEST = "best.safetensors"
Checkpoints = dict[str, dict[str, str]]
"""By prefix, the SHA-256 of every file that the manifest lists; empty where it cannot be read."""


def check_checkpoints(recorded: RecordedFacts) -> Checkpoints:
    """Compare every committed checkpoint of the study and its ancestors with its manifest."""
    return {
        prefix: recorded.audit.bundle(prefix) or {}
        for study in recorded.lineage
        for prefix in _committed(recorded.audit, study)
    }


def _committed(audit: Audit, study: str) -> list[str]:
    keys = audit.store.keys(facts.checkpoints_prefix(study))
    prefixes = [key.removesuffix(MANIFEST) for key in keys if key.endswith("/" + MANIFEST)]
    audit.checked["checkpoints"] += len(prefixes)
    return prefixes


def check_reported(recorded: RecordedFacts, entry: Entry[Report], checkpoints: Checkpoints) -> None:
    """Compare a report with the checkpoint it names; one that was deleted is only counted."""
    audit, report = recorded.audit, entry.fact
    below = [
        facts.checkpoint_prefix(study, report.seed, report.iterations, 0).removesuffix("0/")
        for study in recorded.lineage
    ]
    if not report.checkpoint.startswith(tuple(below)):
        prefix = shown(report.checkpoint)
        audit.note(entry.key, f"field 'checkpoint' is {prefix}, expected '{below[0]}<attempt>/'")
    elif report.checkpoint not in checkpoints:
        audit.checked["collected"] += 1
    else:
        manifest = report.checkpoint + MANIFEST
        stored, expected = audit.sha256(manifest), report.checkpoint_sha256
        if stored not in (None, expected):
            audit.note(manifest, f"its SHA-256 is {stored}, expected {expected} by '{entry.key}'")
        weights = checkpoints[report.checkpoint].get(_BEST, report.weights_sha256)
        audit.compare(entry.key, report, {"weights_sha256": weights}, f"'{manifest}'")
