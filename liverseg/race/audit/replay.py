"""Replays a race from its facts: every conclusion must follow from what was reported.

Facts are decoded strictly, promotions and decisions are made once more from the inputs that they
name, and every hash is compared with the bytes. Nothing is written. Only what differs twice is a
finding, since the trainers of a running race write, and delete old checkpoints, meanwhile.
"""

from dataclasses import dataclass
from typing import Any

from liverseg.race.audit.decisions import check
from liverseg.race.audit.recorded import Audit, Entry, Finding, RungFacts
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm, ControllerStart, CurvePoint, Heartbeat, Result, Stop
from liverseg.race.records.lineage import ids
from liverseg.race.records.result import describe, result_of
from liverseg.race.records.study import Spec, Study, load_study, recorded_id
from liverseg.settings import TRAINING_VERSION
from liverseg.storage.bundle import MANIFEST
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


def _once(store: ObjectStore, id_: str) -> Replay:
    audit = Audit(store)
    study = _study(audit, id_)
    if study is not None:
        audit.read(facts.heartbeat_key(id_), Heartbeat)
        audit.read_all("stops", store.keys(facts.stops_prefix(id_)), Stop)
        audit.read_all("controllers", store.keys(facts.controllers_prefix(id_)), ControllerStart)
        # Results are read before what they rest on, which is written before them.
        keys = store.keys(facts.study_prefix(id_) + "results/")
        results = audit.read_all("results", keys, Result)
        rung_facts = RungFacts(audit, study)
        for conclusion in rung_facts.conclusions:
            check(rung_facts, conclusion)
        _check_checkpoints(rung_facts)
        for result in results:
            _check_result(rung_facts, result)
        audit.read_all("validations", store.keys(facts.curves_prefix(id_)), CurvePoint)
    return Replay(dict(audit.checked), tuple(dict.fromkeys(audit.findings)))


def _study(audit: Audit, id_: str) -> Study | None:
    """Compare a study's spec.json with its id; return the study that can be read."""
    spec = audit.read(facts.spec_key(id_), Spec)
    if spec is None:
        return None
    made = recorded_id(spec.fact.settings, spec.fact.dataset.digest)
    audit.compare(spec, {"study": id_}, "its key")
    if spec.fact.training_version == TRAINING_VERSION:
        audit.compare(spec, {"study": made}, "its settings, data set and training version")
    elif made == id_:
        audit.compare(spec, {"training_version": TRAINING_VERSION}, "its id")
    with audit.noting(spec.key):
        return load_study(audit.store, id_)
    return None


def _check_checkpoints(rung_facts: RungFacts) -> None:
    """Compare checkpoints with their manifests, and reports with those; some may be deleted."""
    audit = rung_facts.audit
    # Reports of an extended study may name checkpoints of the study that it extends.
    studies = ids(audit.store, rung_facts.study.id)
    keys = [key for id_ in studies for key in audit.store.keys(facts.checkpoints_prefix(id_))]
    prefixes = [key.removesuffix(MANIFEST) for key in keys if key.endswith("/" + MANIFEST)]
    checkpoints = {prefix: audit.bundle(prefix) for prefix in prefixes}
    audit.checked["checkpoints"] = len(checkpoints)
    for report in rung_facts.reports.values():
        if (manifest := checkpoints.get(report.fact.checkpoint)) is not None:
            best = manifest.fact.files.get("best.safetensors")
            hashes = {"weights_sha256": best and best.sha256, "checkpoint_sha256": manifest.sha256}
            audit.compare(report, hashes, f"'{manifest.key}'")
        elif report.fact.checkpoint not in checkpoints:
            audit.checked["collected"] += 1


def _check_result(rung_facts: RungFacts, entry: Entry[Result]) -> None:
    """Note what keeps a result and its model from following from its arm's last report."""
    audit, study = rung_facts.audit, rung_facts.study
    arm: Arm = "baseline" if entry.key == facts.result_key(study.id, "baseline") else "multi"
    end = rung_facts.decisions.get(len(study.rungs) - 1)
    won = {i.sha256 for i in end.fact.inputs if i.seed in end.fact.promoted} if end else set()
    reports = [
        report
        for report in rung_facts.reports.values()
        if (report.sha256 in won if arm == "multi" else report.fact.rung == "baseline")
    ]
    expected = [result_of(study.id, arm, report.fact) for report in reports]
    if not reports:
        audit.note(entry.key, "there is no report that it rests on")
    elif entry.fact not in expected:
        audit.compare(entry, vars(expected[0]), f"'{reports[0].key}'")
    prefix = facts.model_prefix(study.id, arm)
    manifest = audit.bundle(prefix)
    weights = manifest.fact.files.get("model.safetensors") if manifest else None
    audit.compare(entry, {"weights_sha256": weights and weights.sha256}, f"'{prefix}{MANIFEST}'")
    model = audit.read(prefix + "model.json", dict[str, Any])
    if model is not None:
        audit.checked["models"] += 1
        audit.compare(model, describe(entry.fact, study), f"'{entry.key}' and spec.json")
