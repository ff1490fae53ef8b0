"""Which lesions were found: N:M matching of predicted and reference lesions.

Chlebus et al. 2018, as in the authors' published code (docs/method.md section 13). Lesions are
26-connected components, numbered in scan order.
"""

from dataclasses import dataclass

from liverseg.core.evaluation.delineation import Lesions
from liverseg.core.evaluation.lesion_cluster import Cluster
from liverseg.core.evaluation.lesion_neighbours import Left

MINIMUM_DICE = 0.2
"""A match has to be better than this."""


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
    """Match the lesions of two masks of one volume.

    Predicted lesions are visited in descending number, as the published code does. The work of a
    visit is that of its cluster, never that of all lesions.
    """
    left = Left.of(predicted, reference)
    total = len(reference)
    false = rejected = rejected_with_reference = 0
    capped = False
    clusters = []
    seen = bytearray(total)
    for prediction in reversed(range(len(predicted))):
        if not left.predictions[prediction]:
            continue
        cluster = Cluster(left, prediction)
        if not cluster.references:
            left.predictions[prediction] = 0
            false, rejected = false + 1, rejected + 1
            continue
        best = cluster.grown()
        capped |= cluster.capped
        if best.score > MINIMUM_DICE:
            members = cluster.members(best)
            clusters.append(members)
            left.remove(*members)
        else:
            # It has grown to all that is connected.
            false, rejected = false + len(cluster.predictions), rejected + 1
            rejected_with_reference += 1
            for number in cluster.references:
                seen[number] = 1
            left.remove(cluster.predictions, ())
    detected = left.references.count(0)
    # References of rejected clusters stay for later predictions, so only the rest is alone.
    unmatched = sum(remaining > was for remaining, was in zip(left.references, seen, strict=True))
    return Detection(
        Counts(detected, false, total - detected),
        Counts(len(clusters), rejected, rejected_with_reference + unmatched),
        capped,
        tuple(not remaining for remaining in left.references),
        tuple(clusters),
    )
