"""The shapes of a synthetic abdomen: organs, liver, vessels and lesions, as distances in mm.

Everything is drawn from one generator in a fixed order, so a seed fixes every shape.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from liverseg.core.volumes.volume import Mask, Spacing

Field = npt.NDArray[np.float64]
Millimetres = tuple[float, float, float]
"""Along (z, y, x)."""

BODY_RADII: Millimetres = (200.0, 46.0, 58.0)
# Centre and radii in mm from the middle of the image, and grey; liver is 1.
ORGANS: tuple[tuple[Millimetres, Millimetres, float], ...] = (
    ((0.0, 32.0, 4.0), (200.0, 9.0, 9.0), 0.25),  # spine
    ((0.0, 19.0, 10.0), (200.0, 5.0, 5.0), 0.65),  # aorta
    ((6.0, 10.0, 42.0), (26.0, 15.0, 9.0), 0.75),  # spleen
    ((4.0, -16.0, 34.0), (22.0, 14.0, 13.0), 0.20),  # stomach
    ((-24.0, 24.0, -28.0), (18.0, 9.0, 8.0), 0.60),  # kidney
)
LOBES: tuple[tuple[Millimetres, Millimetres], ...] = (
    ((2.0, -1.0, -20.0), (33.0, 31.0, 31.0)),
    ((4.0, -17.0, 8.0), (22.0, 16.0, 25.0)),
)


@dataclass(frozen=True)
class Grid:
    """Millimetres from the middle of the image."""

    shape: tuple[int, int, int]
    spacing_mm: Spacing

    def positions(self, axis: int) -> Field:
        """Return the centres of the voxels along one axis."""
        count = self.shape[axis]
        return (np.arange(count, dtype=np.float64) - (count - 1) / 2) * self.spacing_mm[axis]

    @property
    def axes(self) -> tuple[Field, Field, Field]:
        """The positions along z, y and x, ready to broadcast."""
        z, y, x = (self.positions(axis) for axis in range(3))
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def ellipsoid(self, centre: Millimetres, radii: Millimetres) -> Field:
        """Return about the distance to an ellipsoid's surface, negative inside."""
        z, y, x = (((a - c) / r) ** 2 for a, c, r in zip(self.axes, centre, radii, strict=True))
        distance: Field = (np.sqrt(z + y + x) - 1) * min(radii)
        return distance

    def smooth(self, rng: np.random.Generator, length_mm: Millimetres) -> Field:
        """Return a random field of standard deviation 1 with this correlation length."""
        sigma = [a / s for a, s in zip(length_mm, self.spacing_mm, strict=True)]
        field: Field = ndimage.gaussian_filter(rng.standard_normal(self.shape), sigma)
        return field / float(field.std())


@dataclass(frozen=True)
class Lesion:
    """An uneven ellipsoid: dark, faint, or nearly as bright as liver with a dark rim."""

    radius_mm: float
    surface: Field
    """Distance to the border, negative inside."""
    grey: float
    rim_grey: float


def liver_surface(rng: np.random.Generator, grid: Grid) -> Field:
    """Return the distance to the surface of two lobes, a little different in every case."""
    lobes = []
    for (cz, cy, cx), (rz, ry, rx) in LOBES:
        z, y, x = rng.normal(0, 2, 3)
        a, b, c = rng.uniform(0.9, 1.08, 3)
        lobes.append(grid.ellipsoid((cz + z, cy + y, cx + x), (rz * a, ry * b, rx * c)))
    uneven = 2.0 * grid.smooth(rng, (10.0, 10.0, 10.0))
    inside_body = grid.ellipsoid((0.0, 0.0, 0.0), BODY_RADII) + 4.0
    return np.maximum(np.minimum(lobes[0], lobes[1]) + uneven, inside_body)


def vessel_walls(rng: np.random.Generator, grid: Grid, liver: Mask) -> Field:
    """Return the distance to the walls of branching tubes that fan out from the hilum."""
    points: list[Field] = []
    widths: list[Field] = []
    for _ in range(int(rng.integers(9, 13))):
        start = np.array([0.0, 8.0, -6.0]) + rng.normal(0, 4, 3)
        direction = np.array([0.0, -0.3, -0.5]) + rng.normal(0, 1, 3)
        trunk = _tube(rng, start, direction, 45)
        points.append(trunk)
        widths.append(_tapered(rng.uniform(1.8, 2.6), len(trunk)))
        for _ in range(3):
            fork = trunk[int(rng.integers(8, len(trunk)))]
            twig = _tube(rng, fork, direction + rng.normal(0, 1.2, 3), 25)
            points.append(twig)
            widths.append(_tapered(rng.uniform(1.2, 1.8), len(twig)))
    # A slice of 4 mm averages over its thickness: along z a tube is seen from further away.
    squeeze = np.array([0.5, 1.0, 1.0])
    voxels = np.nonzero(liver)
    positions = np.stack([grid.positions(axis)[voxels[axis]] for axis in range(3)], axis=1)
    nearest, which = KDTree(np.concatenate(points) * squeeze).query(positions * squeeze)
    distance = np.full(grid.shape, 1e3)
    distance[voxels] = nearest - np.concatenate(widths)[which]
    return distance


def lesions(rng: np.random.Generator, grid: Grid, liver: Mask) -> list[Lesion]:
    """Return one large, one medium and up to three small lesions, in that order."""
    radii = [rng.uniform(10, 13), rng.uniform(6.5, 9)]
    radii += [rng.uniform(4, 6) for _ in range(int(rng.integers(0, 4)))]
    depth = ndimage.distance_transform_edt(liver, sampling=grid.spacing_mm)
    placed: list[Lesion] = []
    for radius in (float(r) for r in radii):
        free = depth > 0.5 * radius
        for other in placed:
            free &= other.surface > radius + 2
        candidates = np.argwhere(free)
        if len(candidates):
            voxel = candidates[int(rng.integers(len(candidates)))]
            placed.append(_lesion(rng, grid, voxel, radius))
    return placed


def _lesion(
    rng: np.random.Generator, grid: Grid, voxel: npt.NDArray[np.int64], radius: float
) -> Lesion:
    z, y, x = (float(grid.positions(axis)[voxel[axis]]) for axis in range(3))
    a, b, c = radius * rng.uniform(0.85, 1.15, 3)
    uneven = 0.12 * radius * grid.smooth(rng, (6.0, 5.0, 5.0))
    surface = grid.ellipsoid((z, y, x), (a, b, c)) + uneven
    grey = float(rng.uniform(0.58, 0.82))
    if radius > 6 and rng.random() < 0.2:
        return Lesion(radius, surface, grey=0.88, rim_grey=0.65)
    return Lesion(radius, surface, grey=grey, rim_grey=grey)


def _tube(rng: np.random.Generator, start: Field, direction: Field, length_mm: int) -> Field:
    """Return points (n, 3), 1 mm apart, of a curve that bends at random."""
    steps = direction + np.cumsum(rng.normal(0, 0.12, (length_mm, 3)), axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    points: Field = start + np.cumsum(steps, axis=0)
    return points


def _tapered(radius_mm: float, count: int) -> Field:
    return np.linspace(radius_mm, 0.7 * radius_mm, count)
