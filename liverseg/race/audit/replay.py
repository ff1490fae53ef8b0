"""Replays a race from its facts: whatever was concluded must follow from what was reported.

Nothing is written and nothing is trusted. Only what differs twice is a finding, since the trainers
of a running race write, and remove old checkpoints, while these are being looked at.
"""

from dataclasses import dataclass
from typing import Any

from liverseg.core.data.dataset import Dataset
from liverseg.core.race.halving import schedule
from liverseg.errors import SettingsError
from liverseg.race.audit.checkpoints import check_evidence
from liverseg.race.audit.decisions import check_claims
from liverseg.race.audit.findings import Audit, Finding, shown
from liverseg.race.audit.recorded import Testimony
from liverseg.race.audit.results import check_delivery
from liverseg.race.records import facts
from liverseg.race.records.facts import Fact
from liverseg.race.records.study import recorded_id
from liverseg.settings import RaceSettings, from_mapping
from liverseg.storage.port import ObjectStore


@dataclass(frozen=True)
class Replay:
    """What was looked at, and every difference."""

    checked: dict[str, int]
    """How many, by kind: reports, promotions, decisions, files, ..."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Spec(Fact):
    study: str
    settings: dict[str, object]
    dataset: dict[str, object]
    training_version: int


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
    entry = audit.fact(key, _Spec)
    if entry is None or entry.fact is None:
        return None
    spec = entry.fact
    try:
        race = from_mapping(spec.settings).race
    except SettingsError as error:
        audit.note(key, str(error))
        return None
    try:
        dataset = Dataset.from_mapping(spec.dataset).digest
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        audit.note(key, f"its data set cannot be read: {shown(error)}")
    else:
        if spec.dataset.get("digest") != dataset:
            said = shown(spec.dataset.get("digest"))
            audit.note(key, f"says data set {said}, its cases make {dataset}")
        made = recorded_id(spec.settings, dataset, spec.training_version)
        if made != study or spec.study != study:
            audit.note(
                key,
                f"says study {shown(spec.study)}, its settings, data and training version make "
                f"'{made}'",
            )
    return race, spec.settings
