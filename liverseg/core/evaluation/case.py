"""All measures of one case: every algorithm and every rater against every rater.

What comes out is plain JSON, one entry of `cases` in schemas/evaluation-1.json; null is what is
not defined (docs/method.md section 13).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from liverseg.core.evaluation.agreement import mean, pairs, raters_identical
from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.evaluation.detection import Counts, Detection, match
from liverseg.core.evaluation.measures import (
    DICE,
    MEAN,
    MEASURES,
    SCORES,
    UNITS,
    Pair,
    RaterMeasure,
)
from liverseg.core.evaluation.overlap import dice_of_counts
from liverseg.core.volumes.volume import Mask

Values = dict[str, Any]


def evaluate_case(
    name: str, raters: Mapping[str, Delineation], algorithms: Mapping[str, Delineation]
) -> Values:
    """Return the entry of one case: one rater or more, any number of algorithms, one volume.

    With one rater `rater_dice` and `rater_detection` are empty and phi is null.
    """
    between = {f"{a}-{b}": _dice(Pair(raters[a], raters[b])) for a, b in pairs(list(raters))}
    first = next(iter(raters.values()))
    return {
        "case": name,
        "shape": list(first.shape),
        "spacing_mm": list(first.spacing_mm),
        "rater_dice": between,
        "raters_identical": raters_identical(list(between.values())),
        "lesion_diameters_mm": {
            rater: drawn.lesions.diameters_mm(drawn.spacing_mm) for rater, drawn in raters.items()
        },
        "rater_detection": {
            rater: _detection(drawn, {r: d for r, d in raters.items() if r != rater})
            for rater, drawn in raters.items()
            if len(raters) > 1
        },
        "algorithms": {
            algorithm: _compared(drawn, raters, list(between.values()))
            for algorithm, drawn in algorithms.items()
        },
    }


def outside_liver(drawn: Mapping[str, Delineation], raters: Collection[str], liver: Mask) -> Values:
    """Return what of the masks lies outside the liver, and what that costs at most.

    Predictions are restricted to the liver, so that the highest Dice with a rater who drew R is
    2 |R in the liver| / (|R in the liver| + |R|). Of an empty mask nothing is lost.

    Args:
        drawn: Masks by rater and algorithm, as they were drawn.
        raters: Which of the names are raters.
        liver: (z, y, x) of the same volume.

    Returns:
        `outside_liver_voxels` by name, and `outside_liver_dice_loss` by rater, from 0 to 1.
    """
    outside = {name: d.voxels - d.within(liver).voxels for name, d in drawn.items()}
    loss = {
        name: 1 - dice_of_counts(d.voxels - outside[name], d.voxels - outside[name], d.voxels)
        for name, d in drawn.items()
        if name in raters
    }
    return {"outside_liver_voxels": outside, "outside_liver_dice_loss": loss}


def measures(case: Values, algorithm: str) -> dict[str, float | None]:
    """Return every figure of one algorithm in one case under one name, such as "dice.R1".

    Detection is named by its unit: "lesion.recall.R1", "correspondence.fp.mean".
    """
    if algorithm not in case["algorithms"]:
        return {}
    values = case["algorithms"][algorithm]
    named: dict[str, float | None] = {}
    for measure in MEASURES:
        value = values[measure.name]
        if isinstance(measure, RaterMeasure):
            named |= {f"{measure.name}.{rater}": of_rater for rater, of_rater in value.items()}
        else:
            named[measure.name] = value
    return named | _detection_measures(values["detection"])


def rater_measures(case: Values) -> dict[str, float | None]:
    """Return the raters' figures in one case; "lesion.recall.R1-R2" takes R1 as the prediction."""
    named: dict[str, float | None] = {f"dice.{p}": v for p, v in case["rater_dice"].items()}
    named[f"dice.{MEAN}"] = mean(list(case["rater_dice"].values()))
    means: dict[str, list[float | None]] = {}
    for rater, detection in case["rater_detection"].items():
        for measure, value in _detection_measures(detection).items():
            kind, _, other = measure.rpartition(".")
            if other != MEAN:
                named[f"{kind}.{rater}-{other}"] = value
                means.setdefault(f"{kind}.{MEAN}", []).append(value)
    return named | {measure: mean(values) for measure, values in means.items()}


def _compared(
    drawn: Delineation, raters: Mapping[str, Delineation], between: Sequence[float]
) -> Values:
    pair_of = {rater: Pair(drawn, theirs) for rater, theirs in raters.items()}
    dice = [_dice(pair) for pair in pair_of.values()]
    return {
        measure.name: _with_mean({rater: measure.value(pair) for rater, pair in pair_of.items()})
        if isinstance(measure, RaterMeasure)
        else measure.value(dice, between)
        for measure in MEASURES
    } | {"detection": _detection(drawn, raters)}


def _detection(drawn: Delineation, raters: Mapping[str, Delineation]) -> Values:
    """Return both units' counts by rater, which of its lesions were found, and the caps."""
    detections = {rater: match(drawn.lesions, theirs.lesions) for rater, theirs in raters.items()}
    return {
        "lesion": _scores({rater: d.lesion for rater, d in detections.items()}),
        "correspondence": _scores({rater: d.correspondence for rater, d in detections.items()}),
        "found": {rater: list(d.matched) for rater, d in detections.items()},
        "capped": _capped(detections),
    }


def _scores(counts: Mapping[str, Counts]) -> Values:
    by_rater: Values = {
        rater: asdict(c) | {score.name: score.value(c) for score in SCORES}
        for rater, c in counts.items()
    }
    means = {s.name: mean([c[s.name] for c in by_rater.values()]) for s in SCORES}
    return by_rater | {MEAN: means}


def _capped(detections: Mapping[str, Detection]) -> list[str]:
    """Return the raters against whom not every subset was tried."""
    return [rater for rater, detection in detections.items() if detection.capped]


def _detection_measures(detection: Values) -> dict[str, float | None]:
    return {
        f"{unit}.{score.name}.{rater}": values[score.name]
        for unit in UNITS
        for rater, values in detection[unit].items()
        for score in SCORES
    }


def _with_mean(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {**values, MEAN: mean(list(values.values()))}


def _dice(pair: Pair) -> float:
    value = DICE.value(pair)
    assert value is not None  # it is defined for empty masks too
    return value
