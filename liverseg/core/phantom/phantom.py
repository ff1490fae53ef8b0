"""Synthetic miniatures of a late-phase liver MR, so that everything can be tried without data.

They are abdomens scaled down to 134 mm, not simulations of a scanner: a bright liver with dark
lesions among vessels of the same grey, a bias field and noise. Grey alone cannot tell a lesion
from a vessel or from liver in a dark corner; size and shape can.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from liverseg.core.phantom.anatomy import (
    BODY_RADII,
    ORGANS,
    Field,
    Grid,
    Lesion,
    lesions,
    liver_surface,
    vessel_walls,
)
from liverseg.core.volumes.volume import Geometry, Mask, Volume

PHANTOM_VERSION = 1
"""Raised when the same seed would give other voxels."""

# LPS, RAS and LAS.
_FILE_AXES = ((1, 2, 3), (-1, -2, 3), (1, -2, 3))
_WITHOUT_LESION, _WITHOUT_R3, _PERIOD = 3, 2, 16
_SIGNAL = 500.0
_SOFT_EDGE_MM = 1.2
_RIM_MM = 2.0
# Chosen so that the best single threshold inside the liver reaches a Dice of about 0.3 to 0.4,
# while a small network that sees shapes still learns within minutes.
_NOISE = 0.08
_BIAS = 0.35


@dataclass(frozen=True)
class Rater:
    """How one rater contours: systematically wide or tight, with an unsteady hand."""

    name: str
    offset_mm: float
    """Contour outside (positive) or inside the true border."""
    unsteadiness_mm: float
    """Standard deviation of the contour within a slice."""
    smallest_mm: float
    """Lesions of a smaller radius are missed."""


RATERS = (Rater("R1", 0.0, 0.5, 0.0), Rater("R2", 0.5, 0.8, 0.0), Rater("R3", -0.4, 0.8, 5.0))


@dataclass(frozen=True)
class PhantomCase:
    """Image (int16), liver and the raters' contours (bool), all on one grid."""

    image: Volume
    liver: Volume
    raters: dict[str, Volume]


def phantom(seed: int, index: int) -> PhantomCase:
    """Return case `index` (from 0) of the phantom with this seed; no other case changes it.

    About 18 x 112 x 112 voxels of 4 x 1.2 x 1.2 mm (z, y, x). Of every 16 cases, one has no
    lesion (its contours are empty) and one has no R3.
    """
    rng = np.random.default_rng([PHANTOM_VERSION, seed, index])
    in_plane = float(rng.uniform(1.15, 1.25))
    grid = Grid((int(rng.integers(16, 21)), 112, 112), (4.0, in_plane, in_plane))
    surface = liver_surface(rng, grid)
    liver: Mask = surface < 0
    walls = vessel_walls(rng, grid, liver)
    placed = [] if index % _PERIOD == _WITHOUT_LESION else lesions(rng, grid, liver)
    image = _abdomen(rng, grid)
    _paint(image, surface, 1 + 0.04 * grid.smooth(rng, (2.0, 2.0, 2.0)))
    _paint(image, np.maximum(walls, surface), float(rng.uniform(0.5, 0.7)))
    for lesion in placed:
        _paint_lesion(image, lesion, surface, 0.04 * grid.smooth(rng, (3.0, 2.0, 2.0)))
    geometry = _geometry(rng, grid, _FILE_AXES[index % len(_FILE_AXES)])
    # R3 is drawn and left out, so that a case differs from its neighbour in nothing else.
    contours = {r.name: _contour(rng, grid, placed, liver, r) for r in RATERS}
    return PhantomCase(
        image=Volume(_acquired(rng, grid, image), geometry),
        liver=Volume(liver, geometry),
        raters={name: Volume(contours[name], geometry) for name in raters_of(index)},
    )


def raters_of(index: int) -> tuple[str, ...]:
    """Return who has contoured case `index`."""
    return tuple(r.name for r in RATERS if r.name != "R3" or index % _PERIOD != _WITHOUT_R3)


def _geometry(rng: np.random.Generator, grid: Grid, file_axes: tuple[int, int, int]) -> Geometry:
    """Tilt every case a little, as patients lie, about the middle of the image."""
    tilt = Rotation.from_euler("xz", rng.uniform(-10, 10, 2), degrees=True).as_matrix()
    z, y, x = (grid.positions(axis)[0] for axis in range(3))
    origin = tilt @ np.array([x, y, z])
    return Geometry(
        grid.shape,
        grid.spacing_mm,
        (float(origin[0]), float(origin[1]), float(origin[2])),
        tuple(float(v) for v in tilt.ravel()),
        file_axes,
    )


def _abdomen(rng: np.random.Generator, grid: Grid) -> Field:
    """Return the grey of everything but the liver."""
    image = np.zeros(grid.shape)
    body = grid.ellipsoid((0.0, 0.0, 0.0), BODY_RADII)
    _paint(image, body, 0.45 + 0.08 * grid.smooth(rng, (6.0, 4.0, 4.0)))
    for centre, radii, grey in ORGANS:
        _paint(image, grid.ellipsoid(centre, radii), grey)
    return image


def _paint(image: Field, surface: Field, grey: Field | float) -> None:
    """Mix `grey` into the image inside the surface, with the soft edge of real voxels."""
    share = np.clip(0.5 - surface / _SOFT_EDGE_MM, 0, 1)
    image += share * (grey - image)


def _paint_lesion(image: Field, lesion: Lesion, liver: Field, texture: Field) -> None:
    inside = np.maximum(lesion.surface, liver)
    _paint(image, inside, lesion.rim_grey + texture)
    _paint(image, inside + _RIM_MM, lesion.grey + texture)


def _contour(
    rng: np.random.Generator, grid: Grid, placed: Sequence[Lesion], liver: Mask, rater: Rater
) -> Mask:
    """Return what the rater draws: slice by slice, hence uneven from one slice to the next."""
    hand = rater.offset_mm + rater.unsteadiness_mm * grid.smooth(rng, (2.0, 4.0, 4.0))
    drawn: Mask = np.zeros(grid.shape, bool)
    for lesion in placed:
        if lesion.radius_mm >= rater.smallest_mm:
            drawn |= lesion.surface < hand
    return drawn & liver


def _acquired(rng: np.random.Generator, grid: Grid, image: Field) -> npt.NDArray[np.int16]:
    """Return the image with the coil's shading and the noise of a magnitude image."""
    z, y, x = (np.broadcast_to(a / np.abs(a).max(), grid.shape) for a in grid.axes)
    terms = np.stack([z, y, x, x * y, x * x - y * y])
    shading = np.tensordot(rng.normal(size=len(terms)), terms, axes=1)
    shaded = image * np.exp(_BIAS * (shading - shading.mean()) / shading.std())
    noise = _NOISE * rng.standard_normal((2, *grid.shape))
    gain = _SIGNAL * float(rng.uniform(0.7, 1.4))
    magnitude: Field = np.hypot(shaded + noise[0], noise[1]) * gain
    return np.rint(magnitude).clip(0, 32_000).astype(np.int16)
