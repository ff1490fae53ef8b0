"""From probabilities to segmentations that lie on the images as they came.

Source: docs/method.md section 12.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from liverseg.core.data.case import PreparedCase
from liverseg.core.volumes.postprocessing import binarise, clean
from liverseg.core.volumes.volume import FloatArray, Mask, Volume
from liverseg.errors import CaseError
from liverseg.imaging.files import nifti_bytes
from liverseg.imaging.resampling import probability_to_original
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import (
    SEGMENTATION_FILE,
    load_case,
    load_probability,
    segmentation_prefix,
)
from liverseg.steps.results.case_errors import CaseErrors
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]


@dataclass
class PostprocessResult:
    """Names of the test cases."""

    done: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)


def run(
    store: ObjectStore,
    study: Study,
    weights_sha256: str,
    progress: Progress = lambda _what, _done, _total: None,
) -> PostprocessResult:
    """Write a segmentation of every test case for the network with these weights.

    Raises StudyError if a test case has no prediction yet, and CaseError where one cannot be
    segmented, after all others.
    """
    errors = CaseErrors("segmented")
    records, result = study.dataset.role("test"), PostprocessResult()
    for number, record in enumerate(records):
        progress(f"segment {record.name}", number, len(records))
        prefix = segmentation_prefix(weights_sha256, record.key)
        if bundle.exists(store, prefix):
            result.reused.append(record.name)
            continue
        with errors.of(record.name):
            probability = load_probability(store, weights_sha256, record.key)
            case = load_case(store, record.key)
            volume = Volume(segment(probability, case), case.original_geometry)
            bundle.commit(store, prefix, {SEGMENTATION_FILE: nifti_bytes(volume)})
            result.done.append(record.name)
    progress("segment", len(records), len(records))
    errors.check()
    return result


def segment(probability: FloatArray, case: PreparedCase) -> Mask:
    """Return the lesions on the grid of the case's files (z, y, x), nearest to LPS.

    `probability` lies on the network's grid. Masks are never resampled: the cleaned probability
    is, in-plane, and then cut (docs/method.md section 12). Raises CaseError if the shapes differ.
    """
    if probability.shape != case.image.shape:
        raise CaseError(
            f"the probability has {probability.shape} voxels (z, y, x), the prepared case "
            f"{case.image.shape}"
        )
    cleaned = clean(probability, case.liver)
    original = probability_to_original(cleaned, case.spacing_mm, case.original_geometry)
    return binarise(original, case.original_liver)
