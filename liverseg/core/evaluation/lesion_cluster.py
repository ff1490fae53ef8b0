"""A cluster: a predicted lesion and all lesions that are connected to it, as the matching grows it.

docs/method.md section 13, 'Lesion detection'. A step costs what it adds to the cluster; masks of
noise have 100,000 lesions.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from liverseg.core.evaluation.lesion_neighbours import Left

SUBSET_CAP = 12
"""Subsets of more references than this are not tried one by one: there are 2^n of them."""


@dataclass(frozen=True)
class Candidate:
    """Some of a cluster as it grew; small, since a cluster has two at every step."""

    score: float
    """Dice of the two unions."""
    predictions: int
    """How many, the first of the cluster's."""
    references: int
    without: int | None = None
    """A reference that is left out of the first ones."""
    chosen: tuple[int, ...] | None = None
    """The references where they are not the first ones."""


class Cluster:
    """A prediction and what is connected to it, as it grows, and the best candidate so far.

    Candidates pair every subset of the references with the predictions; then both grow.
    """

    def __init__(self, left: Left, prediction: int) -> None:
        self._left = left
        self.capped = False
        self.predictions: list[int] = []
        """In the order in which they were added."""
        self.references: list[int] = []
        self._known: set[int] = set()
        self._inside: set[int] = set()
        """The predictions and the references of the cluster."""
        self._shared: dict[int, int] = {}
        """By reference, voxels that it shares with the predictions."""
        self._touched: list[int] = []
        """References that the predictions touch and that are not yet in the cluster."""
        self._predicted_voxels = self._reference_voxels = self._both_voxels = 0
        self._leave_one_out = _LeaveOneOut()
        self._add_predictions([prediction])
        self._add_references()

    def grown(self) -> Candidate:
        """Grow to all that is connected; return the first candidate with the highest score."""
        best = self._better(Candidate(-1.0, 0, 0))
        new = self.references
        while True:
            before = len(self.predictions)
            self._add_predictions(self._predictions_of(new))
            if len(self.predictions) > before:
                best = self._better(best)
            if not self._touched:
                return best
            new = self._add_references()
            best = self._better(best)

    def members(self, candidate: Candidate) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the predictions and the references of a candidate, ascending."""
        predictions = tuple(sorted(self.predictions[: candidate.predictions]))
        if candidate.chosen is not None:
            return predictions, candidate.chosen
        first = self.references[: candidate.references]
        return predictions, tuple(sorted(r for r in first if r != candidate.without))

    def _predictions_of(self, references: Iterable[int]) -> list[int]:
        """Return those that are left, touch one of the references and are not in the cluster."""
        remaining, of_lesion = self._left.predictions, self._left.predictions_of.of_lesion
        touching = {p for reference in references for p in of_lesion(reference) if remaining[p]}
        return list(touching - self._known)

    def _add_predictions(self, predictions: Iterable[int]) -> None:
        left, shared, inside = self._left, self._shared, self._inside
        for prediction in predictions:
            self.predictions.append(prediction)
            self._known.add(prediction)
            self._predicted_voxels += left.predicted_voxels[prediction]
            for reference, voxels in left.references_of.with_voxels(prediction):
                if not left.references[reference]:
                    continue
                if reference in shared:
                    shared[reference] += voxels
                else:
                    shared[reference] = voxels
                    self._touched.append(reference)
                if reference in inside:
                    self._both_voxels += voxels

    def _add_references(self) -> list[int]:
        """Add the references that were touched; return them."""
        new, self._touched = self._touched, []
        self.references += new
        self._inside.update(new)
        self._reference_voxels += sum(self._left.reference_voxels[r] for r in new)
        self._both_voxels += sum(self._shared[r] for r in new)
        return new

    def _better(self, best: Candidate) -> Candidate:
        """Return the first of this step's candidates with the highest score, or a better `best`."""
        size = len(self.predictions), len(self.references)
        if 1 < size[1] <= SUBSET_CAP:
            return self._best_subset(best)
        voxels = self._predicted_voxels + self._reference_voxels
        score = 2 * self._both_voxels / voxels
        if score > best.score:
            best = Candidate(score, *size)
        if size[1] == 1:
            return best
        self.capped = True
        self._leave_one_out.add(self.references, self._left.reference_voxels, self._shared)
        score, without = self._leave_one_out.best(self._shared, self._both_voxels, voxels)
        return Candidate(score, *size, without) if score > best.score else best

    def _best_subset(self, best: Candidate) -> Candidate:
        """Score every subset of the references at once; an earlier candidate wins ties."""
        numbers = sorted(self.references)
        both = np.array([self._shared[r] for r in numbers])
        sizes = np.array([self._left.reference_voxels[r] for r in numbers])
        subsets = _all_subsets(len(numbers))
        scores = 2 * (subsets @ both) / (self._predicted_voxels + subsets @ sizes)
        first = int(scores.argmax())
        if scores[first] <= best.score:
            return best
        chosen = tuple(r for r, taken in zip(numbers, subsets[first], strict=True) if taken)
        return Candidate(
            float(scores[first]), len(self.predictions), len(self.references), chosen=chosen
        )


class _LeaveOneOut:
    """Finds the reference without which the Dice of a cluster is highest.

    Of references of one size it is the one that shares least, and of those the first. What is
    shared only grows, so that a heap whose entries are brought up to date at its top has it.
    """

    def __init__(self) -> None:
        self._by_size: dict[int, list[tuple[int, int]]] = {}
        """Heaps of (shared voxels, perhaps of an earlier step; reference)."""
        self._added = 0

    def add(
        self, references: Sequence[int], sizes: Sequence[int], shared: Mapping[int, int]
    ) -> None:
        """Add those of a list that grows which were not added before."""
        for reference in references[self._added :]:
            heap = self._by_size.setdefault(sizes[reference], [])
            heapq.heappush(heap, (shared[reference], reference))
        self._added = len(references)

    def best(self, shared: Mapping[int, int], both: int, voxels: int) -> tuple[float, int]:
        """Return the highest Dice without one reference, and the first that gives it.

        `both`: shared voxels of the cluster; `voxels`: of its predictions and its references.
        """
        best, first = -1.0, -1
        for size, heap in self._by_size.items():
            while shared[heap[0][1]] != heap[0][0]:
                reference = heap[0][1]
                heapq.heapreplace(heap, (shared[reference], reference))
            least, reference = heap[0]
            score = 2 * (both - least) / (voxels - size)
            if score > best or (score == best and reference < first):
                best, first = score, reference
        return best, first


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
