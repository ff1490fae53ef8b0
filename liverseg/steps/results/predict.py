"""Predict lesion probabilities: the test cases of a study, or one image on its own."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from liverseg.core.data.measurements import measure
from liverseg.core.data.plausibility import (
    SpacingRange,
    judge,
    judge_slice_axis,
    judge_spacing,
)
from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, IntegrityError, NotFound, SettingsError, StudyError
from liverseg.imaging import files
from liverseg.imaging.masks import read_mask
from liverseg.imaging.resampling import probability_to_original
from liverseg.imaging.suffixes import WRITABLE_SUFFIXES
from liverseg.network.checkpoint import load_network
from liverseg.network.device import best_device, use_available_cores
from liverseg.network.prediction import DEFAULT_MEMORY_MB, Predictor
from liverseg.race.decide.checkpoint_retention import LAST_RUNGS
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm
from liverseg.race.records.result import reported_weights
from liverseg.race.records.study import Study
from liverseg.settings import Settings, SliceAxis, from_mapping
from liverseg.steps.data.cases import PROBABILITY_FILE, load_case, prediction_prefix
from liverseg.steps.data.preparation import prepare
from liverseg.steps.data.transfer import local_bundle, local_file
from liverseg.steps.outputs import Output, check_outputs
from liverseg.steps.results import disagreement
from liverseg.steps.results.case_errors import CaseErrors, as_error_of
from liverseg.steps.results.postprocess import segment
from liverseg.storage import bundle
from liverseg.storage.files import write_files
from liverseg.storage.open import FILE_URL
from liverseg.storage.port import ObjectStore

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
Progress = Callable[[str, int, int], None]


def _no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


def run(
    store: ObjectStore,
    study: Study,
    arm: Arm,
    *,
    memory_mb: int = DEFAULT_MEMORY_MB,
    progress: Progress = _no_progress,
) -> list[str]:
    """Predict the test cases with an arm's model; return the names that were not there yet.

    Raises StudyError where that arm has not ended, and CaseError where a case cannot be predicted,
    after all others.
    """
    result = facts.read_result(store, study.id, arm)
    if result is None:
        raise StudyError(f"study {study.id} has no {arm} model yet; run the race to its end first")

    def weights() -> bytes:
        return bundle.load(store, result.model)[WEIGHTS]

    return _predicted(store, study, result.weights_sha256, weights, memory_mb, progress)


def ensemble(
    store: ObjectStore,
    study: Study,
    *,
    memory_mb: int = DEFAULT_MEMORY_MB,
    progress: Progress = _no_progress,
) -> list[str]:
    """Predict the test cases with the seeds of the third-last rung; return what was in the way.

    Nothing is done where disagreement.py has its numbers. A network that has predicted all
    cases before is not needed any more; of one that is needed and was deleted a line says so.
    """
    if disagreement.load_current(store, study) is not None:
        return []
    missing = []
    for report in disagreement.networks(store, study):
        weights = partial(reported_weights, store, report)
        try:
            _predicted(store, study, report.weights_sha256, weights, memory_mb, progress)
        except NotFound:
            missing.append(
                f"seed {report.seed} cannot predict: its checkpoint '{report.checkpoint}' was "
                f"deleted; pruning keeps those of the last {LAST_RUNGS} rungs"
            )
    return missing


def _predicted(
    store: ObjectStore,
    study: Study,
    weights_sha256: str,
    weights: Callable[[], bytes],
    memory_mb: int,
    progress: Progress,
) -> list[str]:
    """Predict the test cases that the network with this SHA-256 has not predicted; return them.

    `weights` is called where there are any.
    """
    cases = [
        c
        for c in study.dataset.role("test")
        if not bundle.exists(store, prediction_prefix(weights_sha256, c.key))
    ]
    if not cases:
        return []
    predictor = _predictor(study.settings, weights(), memory_mb)
    errors = CaseErrors("predicted")
    for number, record in enumerate(cases):
        progress("predict", number, len(cases))
        with errors.of(record.name):
            case = load_case(store, record.key)
            target = io.BytesIO()
            np.save(target, predictor.probabilities(case.image, case.liver), allow_pickle=False)
            prefix = prediction_prefix(weights_sha256, record.key)
            bundle.commit(store, prefix, {PROBABILITY_FILE: target.getvalue()})
    progress("predict", len(cases), len(cases))
    errors.check()
    return [c.name for c in cases]


def one(
    image: Path | str,
    liver: Path | str,
    model: Path | str,
    out: Path,
    probabilities: Path | None = None,
    *,
    liver_labels: Sequence[int] = (),
    slice_axis: SliceAxis | None = None,
    memory_mb: int = DEFAULT_MEMORY_MB,
    progress: Progress = _no_progress,
) -> dict[str, Any]:
    """Segment one image on its own and write the result in the image's grid and orientation.

    Args:
        image: NIfTI, NRRD or MHA; a file, or a URL that is fetched.
        liver: Its liver mask, same grid; file or URL.
        model: A folder with model.safetensors and model.json, such as a study's `model`, or its
            URL.
        out: Lesion mask, 0 or 1.
        probabilities: If given, P(lesion) before post-processing, linear on the image's grid. Both
            are written, or neither.
        liver_labels: Which labels of its file are the liver; none: as in the training.
        slice_axis: Along which axis of the patient the image's slices lie; None: as in the
            training.
        memory_mb: Budget for one tile; smaller means more tiles and the same result.
        progress: Called with ("tiles", done, total).

    Returns:
        The model's seed and weights, lesion voxels and millilitres, and `warnings` of what is
        unlikely about the input.

    Raises:
        CaseError: An input cannot be used, or a library fails at it.
        PlatformError: Memory does not suffice for it.
        SettingsError, IntegrityError: The folder is no model, or its weights were changed.
        SettingsError, StoreError: An output is an input or the other one, has an unknown suffix,
            or cannot be written; before anything is read.
    """
    _check_outputs(out, probabilities, image, liver, model)
    image, liver, model = local_file(str(image)), local_file(str(liver)), local_bundle(str(model))
    settings, weights, described = _read_model(model)
    if slice_axis is not None:
        preparation = replace(settings.preparation, slice_axis=slice_axis)
        settings = replace(settings, preparation=preparation)
    axis, labels = settings.preparation.slice_axis, liver_labels or settings.data.liver_labels
    volume = files.read(image, axis)
    labelled = read_mask(liver, labels, "liver", axis)
    mask = files.check_same_grid(volume, labelled, liver.name)
    try:
        if not mask.voxels.any():
            raise CaseError(f"the liver mask is empty: {labelled.why_empty(labels)}")
        case = prepare(volume, mask, {}, settings)
    except CaseError as error:
        raise CaseError(f"'{image}' with '{liver}': {error}") from error
    except (MemoryError, RuntimeError) as error:
        raise as_error_of(f"'{image}'", error) from error
    warnings = _warnings(volume, mask, settings, _trained_spacing(described, model), image, liver)
    predictor = _predictor(settings, weights, memory_mb)
    try:
        probability = predictor.probabilities(case.image, case.liver, progress)
        lesion = segment(probability, case)
        written = {out: Volume(lesion, volume.geometry)}
        if probabilities is not None:
            soft = probability_to_original(probability, case.spacing_mm, volume.geometry)
            written[probabilities] = Volume(soft, volume.geometry)
    except (MemoryError, RuntimeError) as error:
        raise as_error_of(f"'{image}'", error) from error
    write_files({path: files.encoded(path, content) for path, content in written.items()})
    millilitres = float(np.prod(volume.spacing_mm)) * int(lesion.sum()) / 1000
    return {
        "segmentation": str(out),
        "lesion_voxels": int(lesion.sum()),
        "lesion_ml": millilitres,
        "seed": described["seed"],
        "weights_sha256": described["weights_sha256"],
        "warnings": warnings,
    }


def _check_outputs(
    out: Path, probabilities: Path | None, image: Path | str, liver: Path | str, model: Path | str
) -> None:
    outputs = [Output("--out", out, WRITABLE_SUFFIXES)]
    if probabilities is not None:
        outputs.append(Output("--probabilities", probabilities, WRITABLE_SUFFIXES))
    inputs = [image, liver, *(f"{model}/{name}" for name in (WEIGHTS, DESCRIPTION))]
    here = [path for path in map(str, inputs) if path.startswith(FILE_URL) or "://" not in path]
    check_outputs(outputs, [local_file(path) for path in here])


def _warnings(
    image: Volume,
    liver: Volume,
    settings: Settings,
    trained: SpacingRange | None,
    *paths: Path,
) -> list[str]:
    """Return what is unlikely about an image and its liver; it is the user's to know better.

    Raises CaseError where the slices seem to lie along another axis, which an option overrides.
    """
    spacing, bounds = image.spacing_mm, settings.plausibility
    names = dict(zip(("image", "liver"), paths, strict=True))
    of_slices = judge_slice_axis(spacing, settings.preparation.slice_axis)
    for wrong in of_slices:
        if wrong.severity == "error":
            raise CaseError(f"'{names[wrong.file]}': {wrong.text} (`predict --slice-axis`)")
    remarks = [
        *of_slices,
        *judge(measure(image, liver, {}), bounds),
        *judge_spacing(spacing, trained, bounds),
    ]
    return [f"'{names[remark.file]}': {remark.text}" for remark in remarks]


def _trained_spacing(described: Mapping[str, Any], model: Path) -> SpacingRange | None:
    """Return the spacing that a model was trained on; None where its description has none."""
    values = described.get("training_spacing_mm")
    if values is None:
        return None
    try:
        (low, high), (finest, coarsest) = values["between_slices"], values["in_plane"]
        return SpacingRange((float(low), float(high)), (float(finest), float(coarsest)))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"'{model / DESCRIPTION}' is damaged: training_spacing_mm is {values!r}"
        ) from error


def _predictor(settings: Settings, weights: bytes, memory_mb: int) -> Predictor:
    use_available_cores()
    return Predictor.build(load_network(settings.network, weights), best_device(), memory_mb)


def _read_model(folder: Path) -> tuple[Settings, bytes, dict[str, Any]]:
    """Return settings, weights and description of a model folder, its hash checked."""
    try:
        described = json.loads((folder / DESCRIPTION).read_bytes())
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"'{folder}' is no model: {error.strerror} ({error.filename}); give a folder with "
            f"{WEIGHTS} and {DESCRIPTION}, such as studies/<study>/model in a store"
        ) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"'{folder / DESCRIPTION}' is damaged: {error}") from error
    if not isinstance(described, dict) or not isinstance(described.get("settings", {}), dict):
        raise IntegrityError(
            f"'{folder / DESCRIPTION}' is damaged: it and its settings must be tables"
        )
    missing = {"seed", "settings", "weights_sha256"} - set(described)
    if missing:
        raise IntegrityError(f"'{folder / DESCRIPTION}' lacks {', '.join(sorted(missing))}")
    digest, promised = sha256(weights).hexdigest(), described["weights_sha256"]
    if digest != promised:
        raise IntegrityError(
            f"'{folder / WEIGHTS}' has SHA-256 {digest}, {DESCRIPTION} says {promised}; copy the "
            "model again"
        )
    return from_mapping(described["settings"]), weights, described
