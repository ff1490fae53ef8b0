"""Compare the test cases' segmentations with every rater, beside the threshold baseline.

How often test cases were looked at is counted: settings are chosen on validation.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from liverseg.core.data.case import PreparedCase
from liverseg.core.evaluation.case import evaluate_case, outside_liver
from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.evaluation.measures import EVALUATION_VERSION, MEAN
from liverseg.core.volumes.volume import Mask
from liverseg.errors import NotFound, StudyError
from liverseg.imaging.masks import decode_mask
from liverseg.imaging.stored_file import StoredFile
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm
from liverseg.race.records.study import Study
from liverseg.settings import PREDICTION_VERSION, SliceAxis
from liverseg.steps.data.cases import SEGMENTATION_FILE, load_case, segmentation_prefix
from liverseg.steps.results import result_keys, threshold_baseline
from liverseg.steps.results.evaluation_document import SCHEMA, document
from liverseg.steps.results.postprocess import segment
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Sha256

NAMES = {"multi": "A1", "baseline": "A2", "threshold": "threshold"}
"""How the arms are called in the paper and in `document`."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What has to be in every evaluation that is read back, also in one of an earlier version.

    Strict, since a damaged one no longer tells how often the test cases were looked at.
    """

    study: str
    test_evaluations: Count
    weights: dict[Arm, Sha256]
    arms: dict[str, dict[str, Any]]
    prediction_version: int | None = None
    evaluation_version: int | None = None
    document: dict[str, Any] = field(default_factory=dict)


def run(
    store: ObjectStore,
    study: Study,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Evaluate every arm that has ended and the threshold; return what `load_evaluation` reads.

    An evaluation of the same weights is read back, not repeated, and not counted again.
    """
    arms = facts.ended_arms(store, study.id)
    recorded = _known(store, study.id)
    if not arms:
        raise StudyError(f"study {study.id} has no model yet; run the race to its end first")
    if recorded is not None and _is_of(recorded, arms):
        return recorded
    threshold = threshold_baseline.of_dataset(
        store, study.dataset, study.settings.data.training_rater
    )
    by_arm: dict[str, Any] = {arm: {"weights_sha256": sha256} for arm, sha256 in arms.items()}
    by_arm["threshold"] = {"weights_sha256": None}
    tests, slice_axis = study.dataset.role("test"), study.settings.preparation.slice_axis
    entries = []
    for number, test in enumerate(tests):
        progress(f"evaluate {test.name}", number, len(tests))
        case = load_case(store, test.key)
        masks: dict[str, Mask] = {
            "threshold": segment(threshold.probability(case.image, case.liver), case)
        }
        for arm, sha256 in arms.items():
            masks[arm] = load_segmentation(store, sha256, test.key, slice_axis)
        entry = _entry(test.name, masks, case)
        entries.append(entry)
        for name in masks:
            compared = _compared(entry["algorithms"][NAMES[name]])
            by_arm[name].setdefault("cases", {})[test.name] = compared
    for values in by_arm.values():
        values["mean_dice"] = _mean(
            _mean(list(c["dice"].values())) for c in values["cases"].values()
        )
    evaluation = {
        "study": study.id,
        "synthetic": any(c.synthetic for c in study.dataset.cases),
        "test_evaluations": 1 + (recorded["test_evaluations"] if recorded else 0),
        "weights": arms,
        "prediction_version": PREDICTION_VERSION,
        "evaluation_version": EVALUATION_VERSION,
        "threshold": asdict(threshold),
        "arms": by_arm,
        "document": document(
            entries,
            sorted({rater for entry in entries for rater in entry["lesion_diameters_mm"]}),
            [NAMES[name] for name in NAMES if name in by_arm],
            liver=True,
            labels=study.settings.data.lesion_labels,
            liver_labels=study.settings.data.liver_labels,
        ),
    }
    record.write(store, result_keys.evaluation_key(study.id), evaluation)
    return load_evaluation(store, study.id)


def load_evaluation(store: ObjectStore, study: str) -> dict[str, Any]:
    """Return a study's evaluation; raises StudyError where there is none.

    Keys: `study`; `synthetic`; `test_evaluations`, how often this study looked at the test cases;
    `prediction_version`, see settings/identity.py; `evaluation_version`, see
    core/evaluation/measures.py; `weights` by arm; `threshold`; `arms`, each with `mean_dice` (over
    cases of the mean over raters) and `cases` with `dice`, `jaccard` and `detection` by rater;
    `document`, all measures and tests as schemas/evaluation-1.json describes them, with the
    arms by their NAMES.
    """
    recorded = _known(store, study)
    if recorded is None:
        raise StudyError(f"study {study} has not been evaluated; run `liverseg evaluate` first")
    return recorded


def capped(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (arm, case, rater) where the matcher did not try every subset."""
    return [
        (arm, case, rater)
        for arm, values in evaluation["arms"].items()
        for case, compared in values["cases"].items()
        for rater, counts in compared["detection"].items()
        if counts["capped"]
    ]


def load_segmentation(
    store: ObjectStore, weights_sha256: str, key: str, slice_axis: SliceAxis
) -> Mask:
    """Return the segmentation (z, y, x) as the study's slices lie; StudyError if there is none."""
    try:
        data = bundle.load(store, segmentation_prefix(weights_sha256, key))[SEGMENTATION_FILE]
    except NotFound as error:
        raise StudyError(
            f"case {key[:12]} is not segmented yet; run `liverseg postprocess` first"
        ) from error
    mask: Mask = decode_mask(
        StoredFile(Path(SEGMENTATION_FILE), data), slice_axis=slice_axis
    ).voxels
    return mask


def _known(store: ObjectStore, study: str) -> dict[str, Any] | None:
    key = result_keys.evaluation_key(study)
    try:
        data = store.get(key)
    except NotFound:
        return None
    record.decode(data, key, Evaluation)
    return record.decode(data, key)


def _is_of(recorded: dict[str, Any], arms: dict[Arm, str]) -> bool:
    versions = recorded.get("prediction_version"), recorded.get("evaluation_version")
    same = (recorded["weights"], *versions) == (arms, PREDICTION_VERSION, EVALUATION_VERSION)
    return same and recorded.get("document", {}).get("schema") == SCHEMA


def _entry(name: str, masks: Mapping[str, Mask], case: PreparedCase) -> dict[str, Any]:
    """Return all measures of a case, on its original grid."""
    spacing = case.original_geometry.spacing_mm
    raters = {r: Delineation.of(m, spacing) for r, m in sorted(case.original_raters.items())}
    drawn = {NAMES[arm]: Delineation.of(mask, spacing) for arm, mask in masks.items()}
    outside = outside_liver({**raters, **drawn}, raters, case.original_liver)
    return evaluate_case(name, raters, drawn) | outside


def _compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report shows of one arm in one case, by rater and without their mean."""
    detection = values["detection"]
    raters = [rater for rater in values["dice"] if rater != MEAN]
    return {
        "dice": {rater: values["dice"][rater] for rater in raters},
        "jaccard": {rater: values["jaccard"][rater] for rater in raters},
        "detection": {
            rater: detection["lesion"][rater]
            | {
                "correspondence": detection["correspondence"][rater],
                "capped": rater in detection["capped"],
            }
            for rater in raters
        },
    }


def _mean(values: Any) -> float:
    numbers = list(values)
    return float(sum(numbers) / len(numbers))
