"""What stands behind a report, checked: its checkpoint's bytes and its learning curve."""

import math
from collections.abc import Mapping
from statistics import fmean

from liverseg.race.audit.findings import Audit
from liverseg.race.audit.recorded import Testimony
from liverseg.race.records import facts
from liverseg.race.records.facts import CurvePoint, Report
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.record import shown

# A mean that is taken in another order differs in its last bits only.
_ROUNDING = 1e-9
_BEST = "best.safetensors"
_Curves = Mapping[int, Mapping[int, list[tuple[str, CurvePoint]]]]
"""By seed and iteration: key and validation of every attempt."""


def check_evidence(told: Testimony) -> None:
    """Compare every report with the validations and the checkpoint that it rests on."""
    curves = _read_curves(told.audit, told.study)
    checkpoints: dict[str, dict[str, str]] = {}
    for study in told.lineage:
        checkpoints |= _check_checkpoints(told.audit, study)
    for key, entry in told.reports.items():
        if entry.fact is not None:
            _check_against_curve(told.audit, key, entry.fact, curves)
            _check_reported_checkpoint(told.audit, told.lineage, key, entry.fact, checkpoints)


def _check_checkpoints(audit: Audit, study: str) -> dict[str, dict[str, str]]:
    """Compare every file of every committed checkpoint with its manifest.

    Returns, by the checkpoint's prefix, the SHA-256 that its manifest promises by file.
    """
    prefix = f"{facts.study_prefix(study)}checkpoints/"
    manifests = [key for key in audit.store.keys(prefix) if key.endswith("/" + MANIFEST)]
    found: dict[str, dict[str, str]] = {}
    for key in manifests:
        audit.checked["checkpoints"] += 1
        found[key.removesuffix(MANIFEST)] = audit.bundle(key.removesuffix(MANIFEST)) or {}
    return found


def _check_reported_checkpoint(
    audit: Audit,
    lineage: tuple[str, ...],
    key: str,
    report: Report,
    there: Mapping[str, Mapping[str, str]],
) -> None:
    """Compare a report with the checkpoint it names; one that was collected is only counted."""
    seed, iterations = report.seed, report.iterations
    below = [facts.checkpoint_prefix(s, seed, iterations, 0).removesuffix("0/") for s in lineage]
    if not report.checkpoint.startswith(tuple(below)):
        audit.note(
            key, f"names checkpoint {shown(report.checkpoint)}, which is not below '{below[0]}'"
        )
        return
    if report.checkpoint not in there:
        audit.checked["collected"] += 1
        return
    manifest = report.checkpoint + MANIFEST
    found = audit.sha256(manifest)
    if found not in (None, report.checkpoint_sha256):
        audit.note(
            manifest, f"its SHA-256 is {found}, '{key}' says {shown(report.checkpoint_sha256)}"
        )
    weights = there[report.checkpoint].get(_BEST, report.weights_sha256)
    if weights != report.weights_sha256:
        audit.note(
            key,
            f"says weights {shown(report.weights_sha256)}, '{manifest}' says {shown(weights)}",
        )


def _read_curves(audit: Audit, study: str) -> _Curves:
    """Return every validation; one whose Jaccard is not the mean of its cases is noted."""

    def key_of(point: CurvePoint) -> str:
        return facts.curve_key(study, point.seed, point.iteration, point.attempt)

    prefix = f"{facts.study_prefix(study)}curves/"
    curves: dict[int, dict[int, list[tuple[str, CurvePoint]]]] = {}
    for key, entry in audit.facts(prefix, CurvePoint, key_of).items():
        audit.checked["validations"] += 1
        point = entry.fact
        if point is not None:
            _check_mean(audit, key, point.jaccard, point.cases)
            curves.setdefault(point.seed, {}).setdefault(point.iteration, []).append((key, point))
    return curves


def _check_against_curve(audit: Audit, key: str, report: Report, curves: _Curves) -> None:
    """Compare a report's values with the validations up to it, as far as these are there.

    Attempts may have validated one iteration twice, to different values where a GPU computed
    them. The report rests on one of each, so a value is in its way only if every attempt's is.
    """
    best = report.best_jaccard
    if report.cases and best is not None and best >= 0:
        _check_mean(audit, key, best, report.cases)
    for iteration, attempts in sorted(curves.get(report.seed, {}).items()):
        if iteration > report.iterations:
            continue
        where, lowest = min(attempts, key=lambda a: _value(a[1].jaccard))
        said = f"{shown(lowest.jaccard)} at iteration {iteration}"
        if iteration == report.best_iteration:
            if not any(_same(point.jaccard, best) for _, point in attempts):
                audit.note(key, f"says best Jaccard {shown(best)}, '{where}' says {said}")
            elif not any(point.cases == report.cases for _, point in attempts) and report.cases:
                audit.note(key, f"says other Jaccards by case than '{where}'")
        elif _value(lowest.jaccard) > _value(best) or (
            iteration < report.best_iteration and _value(lowest.jaccard) == _value(best)
        ):
            audit.note(
                key,
                f"says best Jaccard {shown(best)} at iteration {report.best_iteration}, "
                f"'{where}' says {said}",
            )
        if iteration == report.iterations and not any(
            _same(point.jaccard, report.last_jaccard) for _, point in attempts
        ):
            audit.note(
                key, f"says last Jaccard {shown(report.last_jaccard)}, '{where}' says {said}"
            )


def _check_mean(
    audit: Audit, key: str, jaccard: float | None, cases: Mapping[str, float | None]
) -> None:
    values = list(cases.values())
    if not values:
        return
    mean = None if None in values else fmean(v for v in values if v is not None)
    if not _same(jaccard, mean):
        audit.note(key, f"says Jaccard {shown(jaccard)}, the mean of its cases is {shown(mean)}")


def _value(jaccard: float | None) -> float:
    """Return what compares; no value is below every value, as a training's start is."""
    return -1.0 if jaccard is None or not math.isfinite(jaccard) else jaccard


def _same(one: float | None, other: float | None) -> bool:
    return math.isclose(_value(one), _value(other), rel_tol=_ROUNDING)
