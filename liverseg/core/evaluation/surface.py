"""How far apart the surfaces of two masks are, in mm (docs/method.md section 13).

A surface is the voxels with a face neighbour outside the mask; outside the volume is outside.
MONAI and medpy take it so as well. One search tree a mask serves every comparison: lesions have
few border voxels, and a distance transform would fill the volume between them. Only where masks
are large and far apart is it the cheaper way, and taken.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from liverseg.core.volumes.volume import Mask, Spacing

PERCENTILE = 95
_LEAF = 32  # one tree is built for a few searches of as many points: large leaves are faster
_SAMPLE = 256
_TRANSFORM_COSTS = 4
"""What a voxel costs in a distance transform, in points that a search looks at."""

Floats = npt.NDArray[np.float64]
Voxels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Surface:
    """Border voxels."""

    voxels: Voxels
    """(voxels, 3) as (z, y, x) in the whole volume."""
    spacing_mm: Spacing

    @cached_property
    def points_mm(self) -> Floats:
        """Their centres (voxels, 3) as (z, y, x), from the centre of voxel (0, 0, 0)."""
        return np.multiply(self.voxels, self.spacing_mm, dtype=np.float64)

    @cached_property
    def tree(self) -> KDTree:
        """Finds the nearest of the points."""
        return KDTree(self.points_mm, leafsize=_LEAF)

    def distances_mm(self, other: "Surface") -> Floats:
        """Return from each of its points the distance to the nearest of the other's."""
        return self.transformed(other) if self.far_from(other) else self.searched(other)

    def far_from(self, other: "Surface") -> bool:
        """Say whether a distance transform is cheaper than a search.

        It is for large masks far apart, such as a prediction of noise: a search looks at about as
        many points as fit onto a disc of the distance, here that of a sample.
        """
        sample = self.points_mm[:: len(self.points_mm) // _SAMPLE + 1]
        squares = np.square(other.tree.query(sample)[0])
        near = min(len(other.voxels), float(squares.mean()) / min(self.spacing_mm) ** 2)
        _, extent = _box(self, other)
        return len(self.voxels) * near > _TRANSFORM_COSTS * float(np.prod(extent, dtype=float))

    def searched(self, other: "Surface") -> Floats:
        """Return the distances by searching: fast where surfaces are near or small."""
        return np.asarray(other.tree.query(self.points_mm)[0], np.float64)

    def transformed(self, other: "Surface") -> Floats:
        """Return the distances by a transform of the box of both: 13 bytes a voxel of it."""
        start, extent = _box(self, other)
        empty = np.ones(extent, bool)
        empty[tuple((other.voxels - start).T)] = False
        nearest = ndimage.distance_transform_edt(
            empty, sampling=self.spacing_mm, return_distances=False, return_indices=True
        )
        own = (self.voxels - start).T
        apart = (nearest[(slice(None), *own)] - own).T * np.asarray(self.spacing_mm)
        return np.asarray(np.sqrt(np.square(apart).sum(axis=1)), np.float64)


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces; None if either mask is empty."""

    hd_mm: float | None
    """Hausdorff distance: the largest."""
    hd95_mm: float | None
    """The larger of the two directed 95th percentiles, as MONAI defines it."""
    assd_mm: float | None
    """Mean of both directions' distances pooled."""


def surface_of(mask: Mask, start: tuple[int, int, int], spacing_mm: Spacing) -> Surface:
    """Return the surface of a mask (z, y, x) whose voxel (0, 0, 0) lies at `start`."""
    if not mask.size:
        return Surface(np.zeros((0, 3), np.int64), spacing_mm)
    padded = np.pad(mask, 1)
    core = (slice(1, -1),) * 3
    buried = padded[core].copy()
    for axis in range(3):
        for neighbour in (slice(0, -2), slice(2, None)):
            buried &= padded[(*core[:axis], neighbour, *core[axis + 1 :])]
    voxels = np.unravel_index(np.flatnonzero(mask & ~buried), mask.shape)
    return Surface(np.stack(voxels, axis=1) + np.asarray(start), spacing_mm)


def _box(first: Surface, second: Surface) -> tuple[Voxels, tuple[int, ...]]:
    """Return the first voxel (z, y, x) and the size of the box around both."""
    start = np.minimum(first.voxels.min(axis=0), second.voxels.min(axis=0))
    stop = np.maximum(first.voxels.max(axis=0), second.voxels.max(axis=0))
    return start, tuple((stop - start + 1).tolist())


def surface_distances(first: Surface, second: Surface) -> SurfaceDistances:
    """Compare two surfaces of one volume."""
    if not len(first.voxels) or not len(second.voxels):
        return SurfaceDistances(None, None, None)
    forth, back = first.distances_mm(second), second.distances_mm(first)
    return SurfaceDistances(
        float(max(forth.max(), back.max())),
        float(max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))),
        float(np.concatenate((forth, back)).mean()),
    )
