"""Cases in the store: prepared, predicted, segmented; for every step after `preprocess`."""

import io
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from liverseg.core.data.case import (
    LabelledCase,
    PreparedCase,
    TrainingCase,
    decode,
    decode_labelled,
    decode_training,
)
from liverseg.core.data.dataset import Dataset
from liverseg.core.data.measurements import Measurements
from liverseg.core.volumes.volume import FloatArray
from liverseg.errors import IntegrityError, NotFound, StudyError
from liverseg.settings import PREDICTION_VERSION
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore

CASE_FILE = "case.npz"
PROBABILITY_FILE = "probability.npy"
SEGMENTATION_FILE = "segmentation.nii.gz"
VOTES_FILE = "votes.nii.gz"


@dataclass(frozen=True)
class CaseManifest(bundle.Manifest):
    """The manifest of a prepared case, with what is known of the files it was made from."""

    shape: tuple[int, int, int]
    """(z, y, x) in voxels."""
    spacing_mm: tuple[float, float, float]
    lesion_ml: dict[str, float]
    """By rater, the volume that was contoured."""
    measured: Measurements | None = None
    """None if the case was prepared by an earlier version, which did not measure it."""


def case_prefix(key: str) -> str:
    """Return where the bundle of a prepared case lies."""
    return f"cases/{key}/"


def prediction_prefix(weights_sha256: str, key: str) -> str:
    """Return where the bundle of what a network predicted for a case lies."""
    return f"predictions/{weights_sha256[:16]}-v{PREDICTION_VERSION}/{key}/"


def segmentation_prefix(weights_sha256: str, key: str) -> str:
    """Return where the bundle of the segmentation of a case by a network lies."""
    return f"segmentations/{weights_sha256[:16]}-v{PREDICTION_VERSION}/{key}/"


def votes_prefix(weights_sha256: Collection[str], key: str) -> str:
    """Return where the bundle of how many of these networks call each voxel a lesion lies."""
    ensemble = sha256("\n".join(sorted(weights_sha256)).encode()).hexdigest()
    return f"votes/{ensemble[:16]}-v{PREDICTION_VERSION}/{key}/"


def dataset_key(digest: str) -> str:
    """Return where the list of a data set's cases lies."""
    return f"datasets/{digest}.json"


def load_case(store: ObjectStore, key: str) -> PreparedCase:
    """Return a prepared case.

    Raises:
        StudyError: It has not been prepared.
        IntegrityError: Its bytes are not those that were written.
    """
    return decode(_case_bytes(store, key))


def load_labelled(store: ObjectStore, key: str, rater: str) -> LabelledCase:
    """As `load_case`, but only the arrays on the network's grid, with one rater's lesions."""
    return decode_labelled(_case_bytes(store, key), rater)


def load_training(store: ObjectStore, key: str, rater: str) -> TrainingCase:
    """As `load_labelled`, with where the loss is computed."""
    return decode_training(_case_bytes(store, key), rater)


def _case_bytes(store: ObjectStore, key: str) -> bytes:
    try:
        return bundle.load(store, case_prefix(key), (CASE_FILE,))[CASE_FILE]
    except NotFound as error:
        raise StudyError(
            f"case {key[:12]} is not prepared in this store; run `liverseg preprocess` first"
        ) from error


def require_prepared(store: ObjectStore, dataset: Dataset) -> None:
    """Raise StudyError unless all cases of the data set have been prepared."""
    stored = set(store.keys("cases/"))
    complete = {c.key for c in dataset.cases if case_prefix(c.key) + bundle.MANIFEST in stored}
    missing = [c.name for c in dataset.cases if c.key not in complete]
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(dataset.cases)} cases are not prepared in this store, such as "
            f"'{missing[0]}'; run `liverseg preprocess` first, with the study's preset and settings"
        )


def load_probability(store: ObjectStore, weights_sha256: str, key: str) -> FloatArray:
    """Return P(lesion) (z, y, x) on the network's grid, as the network predicted it for a case.

    Raises:
        StudyError: It has not been predicted.
        IntegrityError: Its bytes are not those that were written.
    """
    try:
        files = bundle.load(store, prediction_prefix(weights_sha256, key), (PROBABILITY_FILE,))
    except NotFound as error:
        raise StudyError(
            f"case {key[:12]} has no prediction by the network {weights_sha256[:16]}; run "
            "`liverseg predict` first"
        ) from error
    probability: FloatArray = np.load(io.BytesIO(files[PROBABILITY_FILE]), allow_pickle=False)
    return probability


def save_dataset(store: ObjectStore, dataset: Dataset) -> None:
    """Write the data set under its digest."""
    record.write(store, dataset_key(dataset.digest), asdict(dataset))


def load_dataset(store: ObjectStore, digest: str) -> Dataset:
    """Return a data set by its digest.

    Raises:
        StudyError: No scan has written it.
        IntegrityError: It is damaged.
    """
    key = dataset_key(digest)
    try:
        dataset = record.read(store, key, Dataset)
    except NotFound as error:
        raise StudyError(
            f"data set {digest[:12]} is not in this store; run `liverseg scan` first"
        ) from error
    if dataset.digest != digest:
        raise IntegrityError(f"'{key}' is damaged: its digest is {dataset.digest}")
    return dataset
