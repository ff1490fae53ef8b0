"""Which lesions were found: N:M matching of predicted and reference lesions.

Chlebus et al. 2018, as in the authors' published code (docs/method.md section 13). Lesions are
26-connected components, numbered in scan order.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from liverseg.core.evaluation.delineation import Lesions

MINIMUM_DICE = 0.2
"""A match has to be better than this."""
SUBSET_CAP = 12
"""Subsets of more references than this are not tried one by one: there are 2^n of them."""

Group = npt.NDArray[np.bool_]
"""Which lesions: True at those that belong to it."""


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives."""

    tp: int
    fp: int
    fn: int

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN); None where there is no reference."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP); 0 where nothing is predicted but there are references; else None."""
        if self.tp + self.fp:
            return self.tp / (self.tp + self.fp)
        return 0.0 if self.fn else None

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None where there is neither."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else None


@dataclass(frozen=True)
class Detection:
    """Both counts of one case against one rater."""

    lesion: Counts
    """TP counts matched reference lesions, FP predicted ones, FN = references - TP."""
    correspondence: Counts
    """TP counts matched clusters, FP and FN clusters and lesions without a match."""
    capped: bool
    """Some cluster had more references than SUBSET_CAP: not every subset was tried."""
    matched: tuple[bool, ...]
    """Of each reference lesion, in scan order, whether it was matched."""
    clusters: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Accepted matches: numbers from 0 of the predicted and of the reference lesions."""


def match(predicted: Lesions, reference: Lesions) -> Detection:
    """Match the lesions of two masks of one volume."""
    return _Matcher(predicted, reference).run()


class _Matcher:
    """Lesion sizes and overlaps, and what is left of them."""

    def __init__(self, predicted: Lesions, reference: Lesions) -> None:
        self.overlap = predicted.overlap(reference)
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

    def _subsets(self, count: int) -> npt.NDArray[np.int64]:
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
def _all_subsets(count: int) -> npt.NDArray[np.int64]:
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
