"""Replays a race from its facts: whatever was concluded must follow from what was reported.

Nothing is written and nothing is trusted. Only what differs twice is a finding, since the trainers
of a running race write, and remove old checkpoints, while these are being looked at.
"""

from dataclasses import dataclass
from typing import Any

from liverseg.core.race.halving import schedule
from liverseg.errors import SettingsError
from liverseg.race.audit.checkpoints import check_evidence
from liverseg.race.audit.decisions import check_claims
from liverseg.race.audit.findings import Audit, Finding
from liverseg.race.audit.recorded import Testimony
from liverseg.race.audit.results import check_delivery
from liverseg.race.records import facts
from liverseg.race.records.study import Spec, recorded_id
from liverseg.settings import RaceSettings, from_mapping
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import shown


@dataclass(frozen=True)
class Replay:
    """What was looked at, and every difference."""

    checked: dict[str, int]
    """How many, by kind: reports, promotions, decisions, files, ..."""
    findings: tuple[Finding, ...]


def replay(store: ObjectStore, study: str) -> Replay:
    """Check every fact of a study whose spec.json is there; a text of any kind raises nothing."""
    first = _once(store, study)
    if not first.findings:
        return first
    again = _once(store, study)
    lasting = tuple(finding for finding in first.findings if finding in again.findings)
    return Replay(again.checked, lasting)


def _once(store: ObjectStore, study: str) -> Replay:
    audit = Audit(store)
    spec = _spec(audit, study)
    if spec is not None:
        race, settings = spec
        rungs = schedule(race.seeds, race.minimum_iterations, race.maximum_iterations, race.eta)
        told = Testimony(audit, study, race, rungs)
        check_claims(told)
        check_evidence(told)
        check_delivery(told, settings)
    return Replay(dict(audit.checked), tuple(audit.findings))


def _spec(audit: Audit, study: str) -> tuple[RaceSettings, dict[str, Any]] | None:
    """Return the race's settings, and all as they are stored; None where they cannot be read."""
    key = facts.spec_key(study)
    entry = audit.fact(key, Spec)
    if entry is None or entry.fact is None:
        return None
    spec = entry.fact
    try:
        race = from_mapping(spec.settings).race
    except SettingsError as error:
        audit.note(key, str(error))
        return None
    dataset = spec.dataset.digest
    if spec.dataset_sha256 != dataset:
        audit.note(key, f"says data set {shown(spec.dataset_sha256)}, its cases make {dataset}")
    made = recorded_id(spec.settings, dataset, spec.training_version)
    if made != study or spec.study != study:
        says = shown(spec.study)
        audit.note(key, f"says study {says}, its settings, data and training version make '{made}'")
    return race, spec.settings
