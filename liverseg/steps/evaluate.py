"""Compare the test cases' segmentations with every rater, beside the threshold baseline.

The complete evaluation of science.md section 7 is a later release; this one has Dice, Jaccard and
lesion counts. How often test cases were looked at is counted: settings are chosen on validation.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from liverseg.core.case import PreparedCase
from liverseg.core.detection import Counts, detect
from liverseg.core.overlap import dice, jaccard
from liverseg.core.threshold import Threshold, fit
from liverseg.core.volume import Mask
from liverseg.errors import NotFound, StudyError
from liverseg.imaging.files import read_mask
from liverseg.race import facts
from liverseg.race.facts import Arm
from liverseg.race.study import Study
from liverseg.settings import RESULT_VERSION
from liverseg.steps.cases import SEGMENTATION_FILE, load_case, segmentation_prefix
from liverseg.steps.postprocess import segment
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]


def run(
    store: ObjectStore,
    study: Study,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Evaluate every arm that has ended and the threshold; return what `load_evaluation` reads.

    An evaluation of the same weights is read back, not repeated, and not counted again.
    """
    arms = facts.ended_arms(store, study.id)
    known = _known(store, study.id)
    if not arms:
        raise StudyError(f"study {study.id} has no model yet; run the race to its end first")
    if known is not None and _is_of(known, arms):
        return known
    threshold = _fit(store, study)
    found: dict[str, Any] = {arm: {"weights_sha256": sha256} for arm, sha256 in arms.items()}
    found["threshold"] = {"weights_sha256": None}
    tests = study.dataset.role("test")
    for number, test in enumerate(tests):
        progress(f"evaluate {test.name}", number, len(tests))
        case = load_case(store, test.key)
        masks: dict[str, Mask] = {
            "threshold": segment(threshold.probability(case.image, case.liver), case)
        }
        for arm, sha256 in arms.items():
            masks[arm] = load_segmentation(store, sha256, test.key)
        for name, mask in masks.items():
            found[name].setdefault("cases", {})[test.name] = _compared(mask, case)
    for values in found.values():
        values["mean_dice"] = _mean(
            _mean(list(c["dice"].values())) for c in values["cases"].values()
        )
    evaluation = {
        "study": study.id,
        "synthetic": any(c.synthetic for c in study.dataset.cases),
        "test_evaluations": 1 + (known["test_evaluations"] if known else 0),
        "weights": arms,
        "result_version": RESULT_VERSION,
        "threshold": asdict(threshold),
        "arms": found,
    }
    record.write(store, facts.evaluation_key(study.id), evaluation)
    return load_evaluation(store, study.id)


def load_evaluation(store: ObjectStore, study: str) -> dict[str, Any]:
    """Return a study's evaluation; raises StudyError where there is none.

    Keys: `study`; `synthetic`; `test_evaluations`, how often this study looked at the test cases;
    `result_version`, see settings.py;
    `weights` by arm; `threshold`; `arms`, each with `mean_dice` (over cases of the mean over
    raters) and `cases` with `dice`, `jaccard` and `detection` by rater.
    """
    found = _known(store, study)
    if found is None:
        raise StudyError(f"study {study} has not been evaluated; run `liverseg evaluate` first")
    return found


def capped(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (arm, case, rater) where the matcher did not try every subset (science.md 7)."""
    return [
        (arm, case, rater)
        for arm, values in evaluation["arms"].items()
        for case, compared in values["cases"].items()
        for rater, counts in compared["detection"].items()
        if counts["capped"]
    ]


def load_segmentation(store: ObjectStore, weights_sha256: str, key: str) -> Mask:
    """Return the segmentation (z, y, x), nearest to LPS; StudyError where there is none."""
    try:
        data = bundle.load(store, segmentation_prefix(weights_sha256, key))[SEGMENTATION_FILE]
    except NotFound as error:
        raise StudyError(
            f"case {key[:12]} is not segmented yet; run `liverseg postprocess` first"
        ) from error
    with TemporaryDirectory() as folder:
        path = Path(folder) / SEGMENTATION_FILE
        path.write_bytes(data)
        mask: Mask = read_mask(path).voxels
    return mask


def _known(store: ObjectStore, study: str) -> dict[str, Any] | None:
    try:
        return record.read(store, facts.evaluation_key(study))
    except NotFound:
        return None


def _is_of(known: dict[str, Any], arms: dict[Arm, str]) -> bool:
    return (known["weights"], known.get("result_version")) == (arms, RESULT_VERSION)


def _fit(store: ObjectStore, study: Study) -> Threshold:
    rater = study.settings.data.training_rater
    cases = (load_case(store, c.key) for c in study.dataset.role("training"))
    return fit([(c.image, c.liver, c.raters[rater]) for c in cases])


def _compared(mask: Mask, case: PreparedCase) -> dict[str, Any]:
    raters = case.original_raters
    detections = {name: detect(mask, rater) for name, rater in raters.items()}
    return {
        "dice": {name: dice(mask, rater) for name, rater in raters.items()},
        "jaccard": {name: jaccard(mask, rater) for name, rater in raters.items()},
        "detection": {
            name: _counts(d.lesion)
            | {"correspondence": _counts(d.correspondence), "capped": d.capped}
            for name, d in detections.items()
        },
    }


def _counts(counts: Counts) -> dict[str, Any]:
    scores = {"recall": counts.recall, "precision": counts.precision, "f1": counts.f1}
    return asdict(counts) | scores


def _mean(values: Any) -> float:
    numbers = list(values)
    return float(sum(numbers) / len(numbers))
