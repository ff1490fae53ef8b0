"""The baseline that a network has to beat: the best single grey-value threshold in the liver.

Of either sign, on the normalised image, with the network's own post-processing, fitted on the
training cases. Lesions are darker than late-phase liver, and so are vessels.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from liverseg.core.evaluation.overlap import dice_of_counts
from liverseg.core.volumes.grey_values import quantiles
from liverseg.core.volumes.postprocessing import border_of, opened_in_border
from liverseg.core.volumes.volume import FloatArray, Mask, bounding_box

CANDIDATES = 64
SIGNS = (-1, 1)

Scores = npt.NDArray[np.float64]
Result = TypeVar("Result")
Case = tuple[FloatArray, Mask, Mask]
"""Image, liver and lesion, each (z, y, x)."""


@dataclass(frozen=True)
class Threshold:
    """Lesion is what lies below `value` (sign -1) or above it (sign 1)."""

    value: float
    sign: int
    training_dice: float
    """Mean over the training cases, on the network's grid, after post-processing."""

    def probability(self, image: FloatArray, liver: Mask) -> FloatArray:
        """Return 1 where it sees lesion and 0 elsewhere, as float32 (z, y, x)."""
        seen = image < self.value if self.sign < 0 else image > self.value
        return seen.astype(np.float32) * liver


def fit(cases: Sequence[Callable[[], Case]], at_a_time: int = 1) -> Threshold:
    """Return the threshold with the highest mean Dice over cases of (image, liver, lesion).

    Every case is cut to its liver's box first; outside it nothing can be lesion. Candidates are
    quantiles of the grey values inside all livers; ties go to the first.

    Args:
        cases: Each reads a case; called three times, so that no case has to stay in memory.
        at_a_time: Cases that are read and scored in parallel, and are in memory.
    """
    with ThreadPoolExecutor(at_a_time) as pool:

        def each(function: Callable[[Case], Result]) -> Iterable[Result]:
            return pool.map(lambda read: function(_boxed(*read())), cases)

        def grey_values(function: Callable[[FloatArray], Result]) -> Iterable[Result]:
            return each(lambda case: function(case[0][case[1]]))

        shares = np.linspace(0, 1, CANDIDATES)
        values = np.unique(quantiles(grey_values, shares))
        scores = np.array(list(each(partial(_scores, values=values))))
    best = Threshold(float("nan"), -1, -1.0)
    for number, value in enumerate(values):
        for sign in SIGNS:
            mean = float(np.mean(np.ascontiguousarray(scores[:, SIGNS.index(sign), number])))
            if mean > best.training_dice:
                best = Threshold(float(value), sign, mean)
    return best


def _boxed(image: FloatArray, liver: Mask, lesion: Mask) -> Case:
    box = bounding_box(liver)
    assert box is not None, "a case without liver is refused when it is prepared"
    return image[box], liver[box], lesion[box]


def _scores(case: Case, values: npt.NDArray[np.float64]) -> Scores:
    """Return the Dice of every sign and value (signs, values)."""
    image, liver, lesion = case
    total = int(lesion.sum())
    # The image is compared in its own precision.
    limits = values.astype(np.float32)
    border = border_of(liver)
    rows = []
    for sign in SIGNS:
        # Lesion is what is below a limit, for either sign.
        darkness = opened_in_border(-sign * image, liver, border)[liver]
        ascending = np.sort(-sign * limits)
        counted = _below(darkness, ascending)
        shared = _below(darkness[lesion[liver]], ascending)
        row = [
            dice_of_counts(both, count, total)
            for both, count in zip(shared.tolist(), counted.tolist(), strict=True)
        ]
        rows.append(row if sign < 0 else row[::-1])
    return np.array(rows)


def _below(values: FloatArray, limits: FloatArray) -> npt.NDArray[np.int64]:
    """Return for each of the ascending limits how many values are below it."""
    first = np.searchsorted(limits, values, side="right")
    return np.cumsum(np.bincount(first, minlength=len(limits) + 1))[:-1]
