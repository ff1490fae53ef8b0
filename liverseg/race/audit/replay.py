"""Replays a race from its facts: every conclusion must follow from what was reported.

Facts are decoded strictly, promotions and decisions are made once more from the inputs that they
name, and every hash is compared with the bytes. Nothing is written. Only what differs twice is a
finding, since the trainers of a running race write, and delete old checkpoints, meanwhile.
"""

from dataclasses import dataclass

from liverseg.core.race.halving import schedule
from liverseg.errors import SettingsError
from liverseg.race.audit.checkpoints import check_checkpoints, check_reported
from liverseg.race.audit.decisions import check_decision, check_promotion
from liverseg.race.audit.findings import Audit, Entry, Finding
from liverseg.race.audit.recorded import RecordedFacts
from liverseg.race.audit.reports import check_failure, check_report, check_validation
from liverseg.race.audit.results import check_results
from liverseg.race.records import facts
from liverseg.race.records.study import Spec, recorded_id
from liverseg.settings import RaceSettings, from_mapping
from liverseg.storage.port import ObjectStore


@dataclass(frozen=True)
class Replay:
    """What was read, and every difference."""

    checked: dict[str, int]
    """How many, by kind: reports, promotions, decisions, files, ..."""
    findings: tuple[Finding, ...]


def replay(store: ObjectStore, study: str) -> Replay:
    """Check every fact of a study; whatever its keys hold, nothing is raised."""
    first = _once(store, study)
    if not first.findings:
        return first
    again = _once(store, study)
    lasting = tuple(finding for finding in first.findings if finding in again.findings)
    return Replay(again.checked, lasting)


def _once(store: ObjectStore, study: str) -> Replay:
    audit = Audit(store)
    spec = audit.read(facts.spec_key(study), Spec)
    race = _race(audit, study, spec) if spec is not None else None
    if spec is not None and race is not None:
        rungs = schedule(race.seeds, race.minimum_iterations, race.maximum_iterations, race.eta)
        _check(RecordedFacts(audit, study, spec.fact, race, rungs))
    return Replay(dict(audit.checked), tuple(audit.findings))


def _race(audit: Audit, study: str, spec: Entry[Spec]) -> RaceSettings | None:
    """Compare a study's spec.json with its id; return the race's settings if these are valid."""
    digest = spec.fact.dataset.digest
    made = recorded_id(spec.fact.settings, digest, spec.fact.training_version)
    stored = vars(spec.fact) | {"id": study}
    source = "its settings, data set and training version"
    audit.compare(spec.key, stored, {"dataset_sha256": digest}, "its cases")
    audit.compare(spec.key, stored, {"study": made, "id": made}, source)
    try:
        return from_mapping(spec.fact.settings).race
    except SettingsError as error:
        audit.note(spec.key, str(error))
        return None


def _check(recorded: RecordedFacts) -> None:
    for promotion in recorded.promotions:
        check_promotion(recorded, promotion)
    for decision in recorded.decisions:
        check_decision(recorded, decision)
    for failure in recorded.failures:
        check_failure(recorded.audit, failure)
    for validation in recorded.validations:
        check_validation(recorded.audit, validation)
    checkpoints = check_checkpoints(recorded)
    for report in recorded.reports:
        check_report(recorded, report)
        check_reported(recorded, report, checkpoints)
    check_results(recorded)
