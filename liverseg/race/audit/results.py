"""The result of each arm, compared with the report that it rests on, and its model."""

from typing import Any

from liverseg.race.audit.findings import Entry
from liverseg.race.audit.recorded import ARMS, RecordedFacts
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm, Result
from liverseg.race.records.result import describe, result_of
from liverseg.settings import BASELINE_SEED
from liverseg.storage.bundle import MANIFEST

_WEIGHTS, _DESCRIPTION = "model.safetensors", "model.json"


def check_results(recorded: RecordedFacts) -> None:
    """Note what keeps a result or model from following from its arm's last report."""
    for arm in ARMS:
        listed = recorded.audit.bundle(facts.model_prefix(recorded.study, arm))
        if arm in recorded.results:
            _check_result(recorded, arm, recorded.results[arm])
            _check_model(recorded, arm, recorded.results[arm], listed)


def _check_result(recorded: RecordedFacts, arm: Arm, entry: Entry[Result]) -> None:
    audit, last = recorded.audit, len(recorded.rungs) - 1
    reports = recorded.reports_of["baseline", BASELINE_SEED]
    if arm == "multi":
        decision = recorded.decision(last)
        if decision is None:
            audit.missing(facts.decision_key(recorded.study, last), entry.key)
            return
        promoted, inputs = decision.fact.promoted, decision.fact.inputs
        winner = next((entry for entry in inputs if entry.seed in promoted), None)
        if winner is None:
            # What the decision lacks is a finding of its own.
            return
        audit.compare(entry.key, entry.fact, {"seed": winner.seed}, f"'{decision.key}'")
        at_the_end = recorded.reports_of[last, winner.seed]
        reports = [report for report in at_the_end if report.sha256 == winner.sha256]
    expected = [result_of(recorded.study, arm, report.fact) for report in reports]
    if entry.fact not in expected:
        for report, result in zip(reports, expected, strict=True):
            audit.compare(entry.key, entry.fact, vars(result), f"'{report.key}'")
        if not reports:
            audit.note(entry.key, f"there is no report of seed {entry.fact.seed} that it rests on")


def _check_model(
    recorded: RecordedFacts, arm: Arm, entry: Entry[Result], listed: dict[str, str] | None
) -> None:
    prefix, audit = facts.model_prefix(recorded.study, arm), recorded.audit
    if listed is None:
        audit.missing(prefix + MANIFEST, entry.key)
        return
    audit.checked["models"] += 1
    weights = {"weights_sha256": listed.get(_WEIGHTS)}
    audit.compare(entry.key, entry.fact, weights, f"'{prefix}{MANIFEST}'")
    description = audit.read(prefix + _DESCRIPTION, dict[str, Any])
    if description is not None:
        spec = recorded.spec
        expected = describe(entry.fact, recorded.study, spec.settings, spec.dataset)
        audit.compare(description.key, description.fact, expected, f"'{entry.key}' and spec.json")
