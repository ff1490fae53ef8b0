"""The grey-value threshold of a data set: fitted once, then read by every study of these cases."""

from dataclasses import asdict
from functools import partial

from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.core.evaluation.measures import EVALUATION_VERSION
from liverseg.core.volumes.threshold import Case, Threshold, fit
from liverseg.errors import IntegrityError
from liverseg.settings import PREDICTION_VERSION
from liverseg.steps.data.cases import load_labelled
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

AT_A_TIME = 2
"""Cases in memory: while one is decompressed another is scored."""


def threshold_key(digest: str, rater: str) -> str:
    """Return where the threshold of a data set's training cases and one rater is stored."""
    return f"thresholds/{digest}/{rater}-v{PREDICTION_VERSION}.{EVALUATION_VERSION}.json"


def of_dataset(store: ObjectStore, dataset: Dataset, rater: str) -> Threshold:
    """Return the best threshold on the training cases against the rater; fit it where none is.

    Raises StudyError where a case is not prepared.
    """
    key = threshold_key(dataset.digest, rater)
    try:
        known = record.find(store, key, Threshold)
    except IntegrityError:
        # A damaged one is fitted anew.
        known = None
    if known is not None:
        return known
    training = dataset.role("training")
    threshold = fit([partial(_read, store, case, rater) for case in training], AT_A_TIME)
    record.write(store, key, asdict(threshold))
    return threshold


def _read(store: ObjectStore, case: CaseRecord, rater: str) -> Case:
    labelled = load_labelled(store, case.key, rater)
    return labelled.image, labelled.liver, labelled.lesion
