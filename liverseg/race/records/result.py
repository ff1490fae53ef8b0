"""An arm's end: its model, copied from the checkpoint that was reported, and its result."""

from typing import Any

from liverseg.errors import IntegrityError
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm, Report, Result
from liverseg.race.records.study import Study
from liverseg.settings import to_mapping
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore

_BEST = "best.safetensors"


def write_result(store: ObjectStore, study: Study, arm: Arm, report: Report) -> Result:
    """Write the model bundle, with the checkpoint's best weights, and then the result.

    Returns the result. Raises IntegrityError where the checkpoint is not the one reported.
    """
    weights = reported_weights(store, report)
    result = result_of(study.id, arm, report)
    description = describe(result, study)
    files = {"model.safetensors": weights, "model.json": record.encode(description)}
    bundle.commit(store, result.model, files)
    record.write_new(store, facts.result_key(study.id, arm), result.to_mapping())
    return result


def result_of(study: str, arm: Arm, report: Report) -> Result:
    """Return the result that the last report of an arm makes."""
    return Result(
        seed=report.seed,
        jaccard=report.best_jaccard,
        weights_sha256=report.weights_sha256,
        iterations=report.iterations,
        best_iteration=report.best_iteration,
        model=facts.model_prefix(study, arm),
    )


def describe(result: Result, study: Study) -> dict[str, Any]:
    """Return what model.json holds: the result, and what the model was trained with."""
    values, trained = result.to_mapping(), study.dataset.training_spacing_mm
    del values["model"]
    values |= {"training_spacing_mm": trained and trained.to_mapping()}
    settings, synthetic = to_mapping(study.settings), study.dataset.synthetic
    return values | {"study": study.id, "settings": settings, "synthetic": synthetic}


def reported_weights(store: ObjectStore, report: Report) -> bytes:
    """Return the best weights that a report names.

    Raises NotFound where its checkpoint was deleted, IntegrityError where it is another one.
    """
    digest = bundle.manifest_sha256(store, report.checkpoint)
    if digest != report.checkpoint_sha256:
        raise IntegrityError(
            f"'{report.checkpoint}{bundle.MANIFEST}' is damaged: its SHA-256 is {digest}, seed "
            f"{report.seed} reported {report.checkpoint_sha256}"
        )
    file = bundle.manifest(store, report.checkpoint).files.get(_BEST)
    promised = file.sha256 if file else None
    if promised != report.weights_sha256:
        raise IntegrityError(
            f"'{report.checkpoint}{_BEST}': the manifest promises SHA-256 {promised}, seed "
            f"{report.seed} reported {report.weights_sha256}"
        )
    return bundle.load(store, report.checkpoint, [_BEST])[_BEST]
