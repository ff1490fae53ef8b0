"""The matcher as it was first written, with an array of all pairs of lesions: the reference.

Plain, and usable for some thousand lesions. Tests compare `liverseg.core.evaluation.detection`
with it.
"""

import itertools
from functools import cache

import numpy as np

from liverseg.core.evaluation.delineation import Lesions
from liverseg.core.evaluation.detection import MINIMUM_DICE, Counts, Detection
from liverseg.core.evaluation.lesion_cluster import SUBSET_CAP

Group = np.ndarray
"""Which lesions: True at those that belong to it."""


def match(predicted: Lesions, reference: Lesions) -> Detection:
    return _Matcher(predicted, reference).run()


class _Matcher:
    """Lesion sizes and overlaps, and what is left of them."""

    def __init__(self, predicted: Lesions, reference: Lesions) -> None:
        self.overlap = predicted.overlap(reference).toarray()
        self.touch = self.overlap > 0
        self.predicted_size, self.reference_size = predicted.voxels, reference.voxels
        self.predictions = np.ones(len(predicted), bool)
        self.references = np.ones(len(reference), bool)
        self.capped = False

    def run(self) -> Detection:
        """Visit predicted lesions in descending number, as the published code does."""
        total = len(self.references)
        false = rejected = rejected_with_reference = 0
        clusters = []
        seen = np.zeros(total, bool)
        for prediction in reversed(range(len(self.predictions))):
            if not self.predictions[prediction]:
                continue
            start = np.zeros(len(self.predictions), bool)
            start[prediction] = True
            touching = self._references_of(start)
            if not touching.any():
                self.predictions[prediction] = False
                false, rejected = false + 1, rejected + 1
                continue
            predictions, references, score = self._best(start, touching)
            if score > MINIMUM_DICE:
                clusters.append((_numbers(predictions), _numbers(references)))
                self.references &= ~references
            else:
                predictions, references = self._closure(start, touching)
                false, rejected = false + int(predictions.sum()), rejected + 1
                rejected_with_reference += 1
                seen |= references
            self.predictions &= ~predictions
        detected = total - int(self.references.sum())
        # References of rejected clusters stay for later predictions, so only the rest is alone.
        unmatched = int((self.references & ~seen).sum())
        return Detection(
            Counts(detected, false, total - detected),
            Counts(len(clusters), rejected, rejected_with_reference + unmatched),
            self.capped,
            tuple((~self.references).tolist()),
            tuple(clusters),
        )

    def _best(self, predictions: Group, references: Group) -> tuple[Group, Group, float]:
        """Return the candidate with the highest Dice of the two unions, the first on ties.

        Candidates pair every subset of the references with the predictions; then both grow.
        """
        best = predictions, references, -1.0
        while True:
            best = self._better(best, predictions, references)
            grown = predictions | self._predictions_of(references)
            if grown.sum() > predictions.sum():
                predictions = grown
                best = self._better(best, predictions, references)
            wider = references | self._references_of(predictions)
            if wider.sum() == references.sum():
                return best
            references = wider

    def _better(
        self, best: tuple[Group, Group, float], predictions: Group, references: Group
    ) -> tuple[Group, Group, float]:
        """Score every subset of the references at once; an earlier candidate wins ties."""
        numbers = np.flatnonzero(references)
        both = self.overlap[predictions].sum(axis=0)[numbers]
        sizes = self.reference_size[numbers]
        subsets = self._subsets(len(numbers))
        predicted = self.predicted_size[predictions].sum()
        scores = 2 * (subsets @ both) / (predicted + subsets @ sizes)
        first = int(scores.argmax())
        if scores[first] <= best[2]:
            return best
        chosen = np.zeros_like(references)
        chosen[numbers[subsets[first] > 0]] = True
        return predictions, chosen, float(scores[first])

    def _subsets(self, count: int) -> np.ndarray:
        """Return the subsets to try of so many references; above the cap a few."""
        if count <= SUBSET_CAP:
            return _all_subsets(count)
        self.capped = True
        return np.vstack((np.ones(count, np.int64), 1 - np.eye(count, dtype=np.int64)))

    def _closure(self, predictions: Group, references: Group) -> tuple[Group, Group]:
        while True:
            wider = predictions | self._predictions_of(references)
            touched = references | self._references_of(wider)
            if wider.sum() == predictions.sum() and touched.sum() == references.sum():
                return predictions, references
            predictions, references = wider, touched

    def _references_of(self, predictions: Group) -> Group:
        touched: Group = self.touch[predictions].any(axis=0) & self.references
        return touched

    def _predictions_of(self, references: Group) -> Group:
        touched: Group = self.touch[:, references].any(axis=1) & self.predictions
        return touched


@cache
def _all_subsets(count: int) -> np.ndarray:
    """Return every non-empty subset as a row of 0 and 1, by size, then lexicographically."""
    rows = np.zeros((2**count - 1, count), np.int64)
    subsets = (
        chosen
        for size in range(1, count + 1)
        for chosen in itertools.combinations(range(count), size)
    )
    for row, chosen in zip(rows, subsets, strict=True):
        row[list(chosen)] = 1
    return rows


def _numbers(group: Group) -> tuple[int, ...]:
    return tuple(np.flatnonzero(group).tolist())
