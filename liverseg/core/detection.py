"""Which lesions were found: N:M matching of predicted and reference lesions.

Chlebus et al. 2018, as in the authors' published code (science.md section 7). Lesions are
26-connected components, numbered in scan order.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from liverseg.core.volume import Mask

MINIMUM_DICE = 0.2
"""A match has to be better than this."""
SUBSET_CAP = 12
"""Subsets of more references than this are not tried one by one: there are 2^n of them."""

Group = frozenset[int]


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


def detect(predicted: Mask, reference: Mask) -> Detection:
    """Match the lesions of two masks of one shape."""
    return _Matcher(predicted, reference).run()


class _Matcher:
    """Lesion sizes and overlaps, and what is left of them."""

    def __init__(self, predicted: Mask, reference: Mask) -> None:
        if predicted.shape != reference.shape:
            raise ValueError(
                f"masks have different shapes: {predicted.shape} and {reference.shape}"
            )
        first, predictions = _components(predicted)
        second, references = _components(reference)
        width = references + 1
        pairs = np.bincount(
            first.ravel() * width + second.ravel(), minlength=(predictions + 1) * width
        ).reshape(predictions + 1, width)
        self.overlap = pairs[1:, 1:]
        self.predicted_size, self.reference_size = pairs[1:].sum(1), pairs[:, 1:].sum(0)
        self.predictions, self.references = set(range(predictions)), set(range(references))
        self.capped = False

    def run(self) -> Detection:
        """Visit predicted lesions in descending number, as the published code does."""
        total = len(self.references)
        found = false = clusters = rejected = rejected_with_reference = 0
        seen: set[int] = set()
        for prediction in sorted(self.predictions, reverse=True):
            if prediction not in self.predictions:
                continue
            start: Group = frozenset({prediction})
            touching = self._references_of(start)
            if not touching:
                self.predictions.remove(prediction)
                false, rejected = false + 1, rejected + 1
                continue
            predictions, references, score = self._best(start, touching)
            if score > MINIMUM_DICE:
                found, clusters = found + len(references), clusters + 1
                self.references -= references
            else:
                predictions, references = self._closure(start, touching)
                false, rejected = false + len(predictions), rejected + 1
                rejected_with_reference += 1
                seen |= references
            self.predictions -= predictions
        # References of rejected clusters stay for later predictions, so only the rest is alone.
        alone = len(self.references - seen)
        return Detection(
            Counts(found, false, total - found),
            Counts(clusters, rejected, rejected_with_reference + alone),
            self.capped,
        )

    def _best(self, start: Group, touching: Group) -> tuple[Group, Group, float]:
        """Return the candidate with the highest Dice of the two unions, the first on ties."""
        best, best_score = (start, touching), -1.0
        for predictions, references in self._candidates(start, touching):
            score = self._dice(predictions, references)
            if score > best_score:
                best, best_score = (predictions, references), score
        return *best, best_score

    def _candidates(self, predictions: Group, references: Group) -> Iterator[tuple[Group, Group]]:
        """Pair every subset of the references with the predictions; grow both and repeat."""
        while True:
            yield from ((predictions, subset) for subset in self._subsets(references))
            grown = predictions | self._predictions_of(references)
            if grown != predictions:
                predictions = grown
                yield from ((predictions, subset) for subset in self._subsets(references))
            wider = references | self._references_of(predictions)
            if wider == references:
                return
            references = wider

    def _subsets(self, references: Group) -> Iterator[Group]:
        """Yield the non-empty subsets by size, then lexicographically; above the cap a few."""
        ordered = sorted(references)
        if len(ordered) > SUBSET_CAP:
            self.capped = True
            yield references
            yield from (references - {one} for one in ordered)
            return
        for size in range(1, len(ordered) + 1):
            yield from map(frozenset, itertools.combinations(ordered, size))

    def _closure(self, predictions: Group, references: Group) -> tuple[Group, Group]:
        while True:
            wider = predictions | self._predictions_of(references)
            touched = references | self._references_of(wider)
            if (wider, touched) == (predictions, references):
                return predictions, references
            predictions, references = wider, touched

    def _references_of(self, predictions: Group) -> Group:
        rows = self.overlap[sorted(predictions)]
        return frozenset(np.flatnonzero(rows.any(axis=0)).tolist()) & self.references

    def _predictions_of(self, references: Group) -> Group:
        columns = self.overlap[:, sorted(references)]
        return frozenset(np.flatnonzero(columns.any(axis=1)).tolist()) & self.predictions

    def _dice(self, predictions: Group, references: Group) -> float:
        p, r = sorted(predictions), sorted(references)
        both = int(self.overlap[np.ix_(p, r)].sum())
        return 2 * both / int(self.predicted_size[p].sum() + self.reference_size[r].sum())


def _components(mask: Mask) -> tuple[np.ndarray, int]:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return labels.astype(np.int64), int(count)
