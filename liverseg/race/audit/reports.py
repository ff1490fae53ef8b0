"""Reports, failures and validations of trainers, compared with the schedule and with each other."""

import math
from collections.abc import Mapping
from statistics import fmean

from liverseg.exit_codes import ExitCode
from liverseg.race.audit.findings import Audit, Entry
from liverseg.race.audit.recorded import RecordedFacts
from liverseg.race.records import facts
from liverseg.race.records.decisions import Failure
from liverseg.race.records.facts import CurvePoint, Report
from liverseg.settings import BASELINE_SEED
from liverseg.storage.record import shown

# A mean that is taken in another order differs in its last bits only.
_ROUNDING = 1e-9


def check_report(recorded: RecordedFacts, entry: Entry[Report]) -> None:
    """Note where a report does not fit its rung, or the validations up to it."""
    audit, key, report = recorded.audit, entry.key, entry.fact
    last = len(recorded.rungs) - 1
    rung = last if report.rung == "baseline" else report.rung
    if rung > last or (report.rung == "baseline") != (report.seed == BASELINE_SEED):
        audit.note(key, f"there is no rung {report.rung} of seed {report.seed}")
        return
    target = recorded.rungs[rung].iterations
    audit.compare(key, report, {"iterations": target}, "the schedule")
    if report.best_iteration > report.iterations:
        best = report.best_iteration
        audit.note(key, f"field 'best_iteration' is {best}, expected at most {report.iterations}")
    entrants = recorded.entrants(rung) if report.rung != "baseline" else None
    # A report of the study that this one extends was taken over: its checkpoint is there.
    inherited = tuple(facts.study_prefix(study) for study in recorded.lineage[1:])
    if (
        entrants is not None
        and report.seed not in entrants
        and not report.checkpoint.startswith(inherited)
    ):
        audit.note(key, f"seed {report.seed} is at rung {rung}, expected only {sorted(entrants)}")
    _check_mean(audit, key, "best_jaccard", report.best_jaccard, report.cases)
    _check_against_validations(recorded, entry)


def check_failure(audit: Audit, entry: Entry[Failure]) -> None:
    """Note a failure whose kind does not follow from its exit code."""
    failure = entry.fact
    kind = "model" if failure.exit_code == ExitCode.NOT_FINITE else "infrastructure"
    # A straggler is ended while it runs: it has no exit code yet.
    if not (failure.kind == "straggler" and failure.exit_code is None):
        source = f"exit code {failure.exit_code}"
        audit.compare(entry.key, failure, {"kind": kind}, source)


def check_validation(audit: Audit, entry: Entry[CurvePoint]) -> None:
    """Note a validation whose Jaccard is not the mean of its cases."""
    _check_mean(audit, entry.key, "jaccard", entry.fact.jaccard, entry.fact.cases)


def _check_mean(
    audit: Audit, key: str, name: str, jaccard: float | None, cases: Mapping[str, float | None]
) -> None:
    values = [value for value in cases.values() if value is not None]
    mean = fmean(values) if len(values) == len(cases) > 0 else None
    if cases and not _same(jaccard, mean):
        audit.note(key, f"field '{name}' is {shown(jaccard)}, expected {shown(mean)} by its cases")


def _check_against_validations(recorded: RecordedFacts, entry: Entry[Report]) -> None:
    """Compare the best and the last Jaccard of a report with the validations up to it.

    Attempts may have validated one iteration twice, to different values where a GPU computed
    them. The report rests on one of each, so a value contradicts it only if every attempt's does.
    """
    report = entry.fact
    by_iteration: dict[int, list[Entry[CurvePoint]]] = {}
    for validation in recorded.validations_of[report.seed]:
        if validation.fact.iteration <= report.iterations:
            by_iteration.setdefault(validation.fact.iteration, []).append(validation)
    for iteration, attempts in by_iteration.items():
        lowest = min(attempts, key=lambda attempt: _value(attempt.fact.jaccard))
        points, jaccard, source = [a.fact for a in attempts], lowest.fact.jaccard, f"'{lowest.key}'"
        if iteration == report.best_iteration:
            if not any(_same(point.jaccard, report.best_jaccard) for point in points):
                recorded.audit.compare(entry.key, report, {"best_jaccard": jaccard}, source)
            elif report.cases not in [point.cases for point in points]:
                recorded.audit.compare(entry.key, report, {"cases": lowest.fact.cases}, source)
        elif (_value(jaccard), -iteration) > (_value(report.best_jaccard), -report.best_iteration):
            better = {"best_jaccard": jaccard, "best_iteration": iteration}
            recorded.audit.compare(entry.key, report, better, source)
        if iteration == report.iterations and not any(
            _same(point.jaccard, report.last_jaccard) for point in points
        ):
            recorded.audit.compare(entry.key, report, {"last_jaccard": jaccard}, source)


def _value(jaccard: float | None) -> float:
    """Return what compares; no value is below every value."""
    return -1.0 if jaccard is None else jaccard


def _same(one: float | None, other: float | None) -> bool:
    return math.isclose(_value(one), _value(other), rel_tol=_ROUNDING)
