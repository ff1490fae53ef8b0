"""The threshold as it was first fitted, one mask for every candidate: the reference of the tests.

128 times slower than `liverseg.core.volumes.threshold`, and every case is in memory.
"""

from collections.abc import Sequence

import numpy as np

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.postprocessing import clean
from liverseg.core.volumes.threshold import CANDIDATES, Case, Threshold
from liverseg.core.volumes.volume import bounding_box


def fit(cases: Sequence[Case]) -> Threshold:
    boxed = [_boxed(*case) for case in cases]
    values = np.concatenate([image[liver] for image, liver, _ in boxed])
    best = Threshold(float("nan"), -1, -1.0)
    for value in np.unique(np.quantile(values, np.linspace(0, 1, CANDIDATES))):
        for sign in (-1, 1):
            mean = float(np.mean([_score(*case, float(value), sign) for case in boxed]))
            if mean > best.training_dice:
                best = Threshold(float(value), sign, mean)
    return best


def _boxed(image: np.ndarray, liver: np.ndarray, lesion: np.ndarray) -> Case:
    box = bounding_box(liver)
    assert box is not None
    return image[box], liver[box], lesion[box]


def _score(
    image: np.ndarray, liver: np.ndarray, lesion: np.ndarray, value: float, sign: int
) -> float:
    cut = (image < value if sign < 0 else image > value).astype(np.float32)
    return dice(clean(cut, liver) > 0.5, lesion)
