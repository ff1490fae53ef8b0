"""What a sampler keeps of a training case as long as a trainer runs.

Images are mapped from a temporary file, masks are kept as bits in their boxes, and voxels to draw
from as runs: of a case of 400 x 400 x 80 voxels 51 MB on disk and 1 MB in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from liverseg.core.volumes.grid import Size
from liverseg.core.volumes.volume import Box, Mask, bounding_box
from liverseg.network.image_file import StoredImage

Indices = npt.NDArray[np.intp]
"""Voxel indices on one axis."""
_NOWHERE: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class Voxels:
    """The voxels of a mask in scan order, as runs of neighbours."""

    stops: npt.NDArray[np.integer]
    """Flat index after the last voxel of each run."""
    counts: npt.NDArray[np.integer]
    """Voxels up to the end of each run."""

    @classmethod
    def of(cls, mask: Mask) -> "Voxels":
        """Take the voxels of a mask (z, y, x)."""
        changes = np.flatnonzero(np.diff(mask.ravel(), prepend=False, append=False))
        starts, stops = changes[::2], changes[1::2]
        kind = np.int32 if mask.size < 2**31 else np.int64
        return cls(stops.astype(kind), np.cumsum(stops - starts).astype(kind))

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.counts[-1]) if self.counts.size else 0

    def flat_index(self, number: int) -> int:
        """Return the flat index of a voxel, numbered from 0 in scan order."""
        run = int(np.searchsorted(self.counts, number, side="right"))
        return int(self.stops[run]) - (int(self.counts[run]) - number)


@dataclass(frozen=True)
class PackedMask:
    """A mask in its box, a bit per voxel."""

    box: Box
    bits: npt.NDArray[np.uint8]
    """(z, y, bytes of 8 voxels along x)."""

    @classmethod
    def of(cls, mask: Mask) -> "PackedMask":
        """Pack a mask (z, y, x)."""
        box = bounding_box(mask) or _NOWHERE
        return cls(box, np.packbits(mask[box], axis=2))

    def gather(self, indices: Sequence[Indices]) -> Mask:
        """Return mask[z, y, x] for index vectors per axis, False outside of the box."""
        result = np.zeros([len(i) for i in indices], bool)
        inside = [
            np.flatnonzero((i >= b.start) & (i < b.stop))
            for i, b in zip(indices, self.box, strict=True)
        ]
        if all(len(i) for i in inside):
            z, y, x = (
                i[taken] - b.start for i, taken, b in zip(indices, inside, self.box, strict=True)
            )
            first, last = int(x.min()) // 8, int(x.max()) // 8
            rows = self.bits[z[:, np.newaxis], y[np.newaxis, :], first : last + 1]
            result[np.ix_(*inside)] = np.unpackbits(rows, axis=2)[:, :, x - 8 * first]
        return result


@dataclass(frozen=True)
class SampledCase:
    """A training case, as small as patches of one size need it."""

    shape: Size
    """Of the whole volume."""
    image: StoredImage
    """What patches can reach."""
    start: Size
    """Where `image` begins in the volume."""
    lesion: PackedMask
    loss_mask: PackedMask
    lesion_voxels: Voxels
    """Lesion voxels inside the loss mask; empty for a case without lesions."""
    liver_voxels: Voxels
