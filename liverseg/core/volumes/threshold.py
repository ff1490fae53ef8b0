"""The baseline that a network has to beat: the best single grey-value threshold in the liver.

Of either sign, on the normalised image, with the network's own post-processing, fitted on the
training cases. Lesions are darker than late-phase liver, and so are vessels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.postprocessing import clean
from liverseg.core.volumes.volume import FloatArray, Mask, bounding_box

CANDIDATES = 64


@dataclass(frozen=True)
class Threshold:
    """Lesion is what lies below `value` (sign -1) or above it (sign 1)."""

    value: float
    sign: int
    training_dice: float
    """Mean over the training cases, on the network's grid, after post-processing."""

    def probability(self, image: FloatArray, liver: Mask) -> FloatArray:
        """Return 1 where it sees lesion and 0 elsewhere, as float32 (z, y, x)."""
        return _cut(image, self.value, self.sign) * liver


def fit(cases: Sequence[tuple[FloatArray, Mask, Mask]]) -> Threshold:
    """Return the threshold with the highest mean Dice over cases of (image, liver, lesion).

    Every case is cut to its liver's box first; outside it nothing can be lesion. Candidates are
    quantiles of the grey values inside all livers; ties go to the first.
    """
    boxed = [_boxed(*case) for case in cases]
    values = np.concatenate([image[liver] for image, liver, _ in boxed])
    best = Threshold(float("nan"), -1, -1.0)
    for value in np.unique(np.quantile(values, np.linspace(0, 1, CANDIDATES))):
        for sign in (-1, 1):
            mean = float(np.mean([_score(*case, float(value), sign) for case in boxed]))
            if mean > best.training_dice:
                best = Threshold(float(value), sign, mean)
    return best


def _boxed(image: FloatArray, liver: Mask, lesion: Mask) -> tuple[FloatArray, Mask, Mask]:
    box = bounding_box(liver)
    assert box is not None, "a case without liver is refused when it is prepared"
    return image[box], liver[box], lesion[box]


def _score(image: FloatArray, liver: Mask, lesion: Mask, value: float, sign: int) -> float:
    segmentation = clean(_cut(image, value, sign), liver) > 0.5
    return dice(segmentation, lesion)


def _cut(image: FloatArray, value: float, sign: int) -> FloatArray:
    return (image < value if sign < 0 else image > value).astype(np.float32)
