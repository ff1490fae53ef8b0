"""Which lesions of two masks share voxels, and which of them are not yet matched or rejected."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scipy import sparse

from liverseg.core.evaluation.delineation import Lesions


@dataclass(frozen=True)
class Neighbours:
    """For each lesion of one side, the lesions of the other that share voxels with it."""

    starts: list[int]
    """Where the neighbours of each lesion begin; one more entry than there are lesions."""
    lesions: list[int]
    """Numbers of the neighbours, ascending for each lesion."""
    voxels: list[int]
    """How many voxels each shares."""

    @classmethod
    def of(cls, overlap: sparse.csr_array) -> "Neighbours":
        """Take the rows of shared voxels (own lesion, other's lesion)."""
        return cls(overlap.indptr.tolist(), overlap.indices.tolist(), overlap.data.tolist())

    def of_lesion(self, lesion: int) -> Sequence[int]:
        """Return the numbers of its neighbours."""
        return self.lesions[self.starts[lesion] : self.starts[lesion + 1]]

    def with_voxels(self, lesion: int) -> Iterator[tuple[int, int]]:
        """Return its neighbours, each with the voxels that both have."""
        part = slice(self.starts[lesion], self.starts[lesion + 1])
        return zip(self.lesions[part], self.voxels[part], strict=True)


@dataclass(frozen=True)
class Left:
    """The lesions of both masks, their neighbours, and which of them are not yet removed."""

    references_of: Neighbours
    """By predicted lesion."""
    predictions_of: Neighbours
    """By reference lesion."""
    predicted_voxels: list[int]
    reference_voxels: list[int]
    predictions: bytearray
    """1 at those that are left."""
    references: bytearray

    @classmethod
    def of(cls, predicted: Lesions, reference: Lesions) -> "Left":
        """Return all lesions of two masks of one volume."""
        overlap = predicted.overlap(reference)
        return cls(
            Neighbours.of(overlap),
            Neighbours.of(overlap.T.tocsr()),
            predicted.voxels.tolist(),
            reference.voxels.tolist(),
            bytearray(b"\1" * len(predicted)),
            bytearray(b"\1" * len(reference)),
        )

    def remove(self, predictions: Iterable[int], references: Iterable[int]) -> None:
        """Remove lesions by number."""
        for number in predictions:
            self.predictions[number] = 0
        for number in references:
            self.references[number] = 0
