"""How far apart the surfaces of two masks are, in mm (science.md section 7).

A surface is the voxels with a face neighbour outside the mask; outside the volume is outside.
MONAI and medpy take it so as well. One search tree a mask serves every comparison: lesions have
few border voxels, and a distance transform would fill the volume between them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from liverseg.core.volume import Mask, Spacing

PERCENTILE = 95
_LEAF = 32  # one tree is built for a few searches of as many points: large leaves are faster

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """Centres of border voxels."""

    points_mm: Floats
    """(voxels, 3) as (z, y, x) from the centre of voxel (0, 0, 0)."""

    @cached_property
    def tree(self) -> KDTree:
        """Finds the nearest of the points."""
        return KDTree(self.points_mm, leafsize=_LEAF)

    def distances_mm(self, other: "Surface") -> Floats:
        """Return from each of its points the distance to the nearest of the other's."""
        return np.asarray(other.tree.query(self.points_mm)[0], np.float64)


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
        return Surface(np.zeros((0, 3)))
    padded = np.pad(mask, 1)
    core = (slice(1, -1),) * 3
    buried = padded[core].copy()
    for axis in range(3):
        for neighbour in (slice(0, -2), slice(2, None)):
            buried &= padded[(*core[:axis], neighbour, *core[axis + 1 :])]
    found = np.unravel_index(np.flatnonzero(mask & ~buried), mask.shape)
    points = np.stack(found, axis=1).astype(np.float64)
    return Surface((points + start) * spacing_mm)


def surface_distances(first: Surface, second: Surface) -> SurfaceDistances:
    """Compare two surfaces of one volume."""
    if not len(first.points_mm) or not len(second.points_mm):
        return SurfaceDistances(None, None, None)
    there, back = first.distances_mm(second), second.distances_mm(first)
    return SurfaceDistances(
        float(max(there.max(), back.max())),
        float(max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))),
        float(np.concatenate((there, back)).mean()),
    )
