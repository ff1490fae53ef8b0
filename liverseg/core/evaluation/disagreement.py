"""What several networks say of each other: where, in which case, on which lesion they differ.

The networks are treated as the raters are (docs/method.md section 13): each gives a mask, and the
masks are compared. All numbers go from 0, where they agree, to 1. Nothing here knows the truth; how
well a number predicts the Dice is what `rank_correlation` says.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.volume import FloatArray, Mask

Votes = npt.NDArray[np.uint8]

MOST_NETWORKS = 255
"""More votes do not fit a voxel."""
FEWEST_PAIRS = 3
"""With two cases every rank correlation is 1 or -1."""


@dataclass(frozen=True)
class Lesion:
    """A 26-connected component of a segmentation and how far the networks confirm it."""

    number: int
    """From 1, in scan order."""
    voxels: int
    slice: int
    """The slice (axis 0) with most of it, counted from 0."""
    uncertainty: float
    """Mean over its voxels of the share of the networks that do not call the voxel a lesion; 1: no
    network sees any of it."""


def votes(masks: Sequence[Mask]) -> Votes:
    """Return how many of the masks hold each voxel; at most MOST_NETWORKS masks of one shape."""
    if not 0 < len(masks) <= MOST_NETWORKS:
        raise ValueError(f"{len(masks)} masks; there must be from 1 to {MOST_NETWORKS}")
    counts = np.zeros(masks[0].shape, np.uint8)
    for mask in masks:
        if mask.shape != counts.shape:
            raise ValueError(f"masks have different shapes: {counts.shape} and {mask.shape}")
        counts += mask
    return counts


def disagreement(counted: Votes, networks: int) -> FloatArray:
    """Return by voxel how evenly the networks are split: 4 p (1 - p), p the share of the votes.

    0 where all say the same, 1 where one half says lesion and the other does not.
    """
    share = counted.astype(np.float32) / np.float32(networks)
    split: FloatArray = 4 * share * (1 - share)
    return split


def case_uncertainty(masks: Sequence[Mask]) -> float:
    """Return 1 minus the mean Dice over all pairs of at least two masks of one shape.

    The same number as e(R) of the uncertainty-aware score, with networks in place of raters. Two
    empty masks agree.
    """
    pairs = list(itertools.combinations(masks, 2))
    return 1 - sum(dice(first, second) for first, second in pairs) / len(pairs)


def lesions(segmentation: Mask, counted: Votes, networks: int) -> list[Lesion]:
    """Return the lesions of a segmentation in scan order; both arrays (z, y, x) of one shape."""
    if segmentation.shape != counted.shape:
        raise ValueError(f"shapes differ: {segmentation.shape} and {counted.shape}")
    labels, _ = ndimage.label(segmentation, structure=np.ones((3, 3, 3)))
    rows = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == number
        against = 1 - float(counted[box][inside].mean()) / networks
        most = int(inside.sum(axis=(1, 2)).argmax()) + box[0].start
        rows.append(Lesion(number, int(inside.sum()), most, against))
    return rows


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation (ties share their mean rank), -1 to 1.

    None where it is not defined: fewer than FEWEST_PAIRS pairs, or all values of a side equal.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values and {len(second)}")
    if len(first) < FEWEST_PAIRS or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    ranks = stats.rankdata(first), stats.rankdata(second)
    return float(np.corrcoef(*ranks)[0, 1])
