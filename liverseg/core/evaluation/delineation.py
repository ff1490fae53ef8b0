"""What one rater or algorithm drew in one case, with all that is worked out once per mask.

Everything is cropped to the box of the mask: a few lesions in a volume of 512 x 512 x 80 need a
hundredth of its voxels. Lesions and surface are found when they are first asked for.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from liverseg.core.evaluation.surface import Surface, surface_of
from liverseg.core.volumes.volume import Box, Mask, Spacing, bounding_box

_NOWHERE: Box = (slice(0, 0), slice(0, 0), slice(0, 0))
_NEIGHBOURS_26 = np.ones((3, 3, 3))


@dataclass(frozen=True)
class Delineation:
    """A mask, cropped."""

    shape: tuple[int, ...]
    """Voxels (z, y, x) of the whole volume."""
    spacing_mm: Spacing
    box: Box
    """Where the mask is inside the volume; nowhere if it is empty."""
    inside: Mask
    """The mask inside its box."""
    voxels: int

    @classmethod
    def of(cls, mask: Mask, spacing_mm: Spacing) -> "Delineation":
        """Return a mask (z, y, x) cropped; nothing of the whole volume is kept."""
        box = bounding_box(mask) or _NOWHERE
        inside = mask[box].copy()
        return cls(mask.shape, spacing_mm, box, inside, int(np.count_nonzero(inside)))

    @cached_property
    def lesions(self) -> "Lesions":
        """Its 26-connected components."""
        labels, count = ndimage.label(self.inside, structure=_NEIGHBOURS_26)
        return Lesions(
            self.box,
            labels.astype(np.int32, copy=False),
            np.bincount(labels.ravel(), minlength=count + 1)[1:],
        )

    @cached_property
    def surface(self) -> Surface:
        """Its border voxels, in mm."""
        start = (self.box[0].start, self.box[1].start, self.box[2].start)
        return surface_of(self.inside, start, self.spacing_mm)

    def shared_with(self, other: "Delineation") -> int:
        """Return how many voxels both masks have; ValueError where the volumes differ."""
        check_same_shape(self.shape, other.shape)
        box = intersection(self.box, other.box)
        if box is None:
            return 0
        return int(np.count_nonzero(_at(self, box) & _at(other, box)))

    def within(self, mask: Mask) -> "Delineation":
        """Return what of it lies within another mask (z, y, x) of the whole volume."""
        whole = np.zeros(self.shape, bool)
        whole[self.box] = self.inside & mask[self.box]
        return Delineation.of(whole, self.spacing_mm)


@dataclass(frozen=True)
class Lesions:
    """26-connected components, numbered in scan order from 1."""

    box: Box
    labels: npt.NDArray[np.int32]
    """(z, y, x) inside the box, 0 between lesions."""
    voxels: npt.NDArray[np.int64]
    """Voxels of each, in order."""

    def __len__(self) -> int:
        return len(self.voxels)

    def overlap(self, other: "Lesions") -> "sparse.csr_array":
        """Return shared voxels (own lesion, other's lesion); only pairs that share any are stored.

        Indices are sorted and every pair is there once. The memory is that of the shared voxels,
        not of all pairs: two noisy masks may have 100,000 lesions each.
        """
        size = len(self), len(other)
        box = intersection(self.box, other.box)
        if box is None:
            return sparse.csr_array(size, dtype=np.int64)
        first, second = _labels_at(self, box), _labels_at(other, box)
        both = np.flatnonzero((first > 0) & (second > 0))
        own, others = first.ravel()[both] - 1, second.ravel()[both] - 1
        # Along x neighbours mostly belong to the same pair: one entry per run of them.
        changes = (np.diff(own) != 0) | (np.diff(others) != 0)
        starts = np.flatnonzero(np.concatenate((np.ones(min(len(both), 1), bool), changes)))
        lengths = np.diff(starts, append=len(both))
        runs = sparse.coo_array((lengths, (own[starts], others[starts])), shape=size)
        overlap = runs.tocsr()
        overlap.sort_indices()
        return overlap

    def diameters_mm(self, spacing_mm: Spacing) -> list[float]:
        """Return of each lesion the diameter of the sphere of its volume."""
        volumes = self.voxels * math.prod(spacing_mm)
        return [float(d) for d in np.cbrt(6 * volumes / math.pi)]


def check_same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Raise ValueError where two volumes have different voxels (z, y, x)."""
    if first != second:
        raise ValueError(f"masks have different shapes: {first} and {second}")


def intersection(first: Box, second: Box) -> Box | None:
    """Return the box that two boxes share, None if it has no voxel."""
    z, y, x = (
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return (z, y, x) if all(s.start < s.stop for s in (z, y, x)) else None


def _moved(box: Box, origin: Box) -> Box:
    z, y, x = (slice(a.start - o.start, a.stop - o.start) for a, o in zip(box, origin, strict=True))
    return z, y, x


def _at(delineation: Delineation, box: Box) -> Mask:
    return delineation.inside[_moved(box, delineation.box)]


def _labels_at(lesions: Lesions, box: Box) -> npt.NDArray[np.int32]:
    return lesions.labels[_moved(box, lesions.box)]
