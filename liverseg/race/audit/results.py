"""What a race delivers, checked: its results and their models."""

from collections.abc import Mapping
from typing import Any

from liverseg.race.audit.recorded import Testimony
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm, Report, Result
from liverseg.settings import BASELINE_SEED
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.record import shown

_WEIGHTS, _DESCRIPTION = "model.safetensors", "model.json"


def check_delivery(told: Testimony, settings: Mapping[str, Any]) -> None:
    """Compare each arm's result with its report, and its model's files with the result.

    `settings` are those of spec.json as they are stored.
    """
    arms: tuple[Arm, Arm] = ("multi", "baseline")
    for arm in arms:
        entry = told.results.get(arm)
        result = entry.fact if entry is not None else None
        if result is not None:
            _check_result(told, arm, result)
        promised = told.audit.bundle(facts.model_prefix(told.study, arm))
        if result is not None:
            _check_model(told, settings, arm, result, promised)


def _check_result(told: Testimony, arm: Arm, result: Result) -> None:
    key, last = facts.result_key(told.study, arm), len(told.rungs) - 1
    if arm == "baseline":
        prefix = f"{facts.study_prefix(told.study)}reports/baseline/{BASELINE_SEED:04d}-"
        _compare(told, key, result, [k for k in told.reports if k.startswith(prefix)])
        return
    where = facts.decision_key(told.study, last)
    if where not in told.decisions:
        told.audit.note(where, f"is missing, though '{key}' is there")
    decision = told.decision(last)
    promoted = decision.promoted[:1] if decision is not None else ()
    for entry in decision.inputs if decision is not None else ():
        if entry.seed in promoted and entry.attempt is not None:
            if result.seed != entry.seed:
                problem = f"says seed {result.seed}, '{where}' makes seed {entry.seed} win"
                told.audit.note(key, problem)
            else:
                report = facts.report_key(told.study, last, entry.seed, entry.attempt)
                _compare(told, key, result, [report] if report in told.reports else [])


def _compare(told: Testimony, key: str, result: Result, keys: list[str]) -> None:
    """Note in what a result differs from every one of these reports."""
    if not keys:
        told.audit.note(key, f"says seed {result.seed}, which has no report of its end")
    problems = []
    for where in keys:
        report = told.reports[where].fact
        if report is None:
            return
        problem = "; ".join(
            f"says {name} {shown(said)}, '{where}' says {shown(follows)}"
            for name, said, follows in _pairs(result, report)
            if said != follows
        )
        if not problem:
            return
        problems.append(problem)
    for problem in problems:
        told.audit.note(key, problem)


def _pairs(result: Result, report: Report) -> tuple[tuple[str, object, object], ...]:
    return (
        ("seed", result.seed, report.seed),
        ("Jaccard", result.jaccard, report.best_jaccard),
        ("weights", result.weights_sha256, report.weights_sha256),
        ("iterations", result.iterations, report.iterations),
        ("best iteration", result.best_iteration, report.best_iteration),
    )


def _check_model(
    told: Testimony,
    settings: Mapping[str, Any],
    arm: Arm,
    result: Result,
    promised: Mapping[str, str] | None,
) -> None:
    key, prefix = facts.result_key(told.study, arm), facts.model_prefix(told.study, arm)
    if result.model != prefix:
        told.audit.note(key, f"says model {shown(result.model)}, it belongs under '{prefix}'")
    if promised is None:
        if not told.audit.store.keys(prefix + MANIFEST):
            told.audit.note(prefix + MANIFEST, f"is missing, though '{key}' is there")
        return
    told.audit.checked["models"] += 1
    weights = promised.get(_WEIGHTS)
    if weights != result.weights_sha256:
        said = shown(result.weights_sha256)
        told.audit.note(key, f"says weights {said}, '{prefix}{MANIFEST}' says {shown(weights)}")
    described = told.audit.values(prefix + _DESCRIPTION)
    expected = result.to_mapping() | {"study": told.study, "settings": dict(settings)}
    del expected["model"]
    for name, value in expected.items() if described is not None else ():
        if (found := (described or {}).get(name)) != value:
            problem = f"says {name} {shown(found)}, '{key}' and spec.json say {shown(value)}"
            told.audit.note(prefix + _DESCRIPTION, problem)
