"""Between a file's grid and the network's: in-plane only, slices stay where they are.

Both grids share the centre of voxel (z, 0, 0). The network's has as many voxels as it takes to
reach the last centre of the file's grid, so that the way back only ever interpolates between
voxels and never beyond them.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from liverseg.core.volumes.volume import FloatArray, Geometry, Mask, Spacing, Volume
from liverseg.settings import PreparationSettings

Plane = tuple[float, float]

# Spacings are read from float32 fields; a grid must not gain a voxel from their rounding.
_ROUNDING = 1e-4
_INTERPOLATORS = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}


def to_network_grid(
    image: Volume, masks: Mapping[str, Volume], settings: PreparationSettings
) -> tuple[FloatArray, dict[str, Mask], Spacing]:
    """Return image, masks and spacing (z, y, x) on the network's grid.

    Masks are resampled linearly as probabilities; above 0.5 is inside. A voxel exactly half-way
    is outside, as it is when a probability becomes a segmentation (docs/method.md section 3).
    """
    _, height, width = image.geometry.shape
    z, y, x = image.spacing_mm
    mm = settings.in_plane_mm
    size = _extent(height, y, mm), _extent(width, x, mm)
    grey = in_plane(image.voxels, (y, x), size, (mm, mm), settings.interpolation)
    cut = {
        name: in_plane(mask.voxels, (y, x), size, (mm, mm), "linear") > 0.5
        for name, mask in masks.items()
    }
    return grey, cut, (z, mm, mm)


def probability_to_original(
    probability: FloatArray, spacing_mm: Spacing, original: Geometry
) -> FloatArray:
    """Return a probability (z, y, x) of the network's grid on the file's grid, linear in-plane."""
    _, height, width = original.shape
    return in_plane(probability, spacing_mm[1:], (height, width), original.spacing_mm[1:], "linear")


def nearest(mask: Volume, target: Geometry) -> Volume:
    """Return a mask on another grid, by position in the patient; what it does not reach is outside.

    Only for masks that come from elsewhere: small lesions may lose or gain a row of voxels.
    """
    image = sitk.GetImageFromArray(mask.voxels.astype(np.uint8))
    image.SetSpacing(mask.geometry.spacing_mm[::-1])
    image.SetOrigin(mask.geometry.origin_mm)
    image.SetDirection(mask.geometry.direction)
    resample = sitk.ResampleImageFilter()
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    resample.SetSize(target.shape[::-1])
    resample.SetOutputSpacing(target.spacing_mm[::-1])
    resample.SetOutputOrigin(target.origin_mm)
    resample.SetOutputDirection(target.direction)
    return Volume(sitk.GetArrayFromImage(resample.Execute(image)) > 0, target)


def voxels_outside(mask: Volume, target: Geometry) -> int:
    """Return how many voxels of a mask have their centre outside another grid's voxels.

    `nearest` leaves them out.
    """
    z, y, x = np.nonzero(mask.voxels)
    source = mask.geometry
    position = _axes(source) @ np.stack([x, y, z]) + np.array(source.origin_mm)[:, None]
    index = np.linalg.solve(_axes(target), position - np.array(target.origin_mm)[:, None])
    last = np.array(target.shape[::-1])[:, None] - 0.5
    within = (index >= -0.5 - _ROUNDING) & (index <= last + _ROUNDING)
    return int(np.count_nonzero(~within.all(axis=0)))


def _axes(grid: Geometry) -> npt.NDArray[np.float64]:
    """Return the steps (mm) from voxel to voxel along x, y and z, as columns."""
    axes: npt.NDArray[np.float64] = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm[::-1]
    return axes


def in_plane(
    voxels: npt.NDArray[np.generic],
    spacing_mm: Plane,
    size: tuple[int, int],
    new_spacing_mm: Plane,
    interpolation: str,
) -> FloatArray:
    """Resample every slice on its own to `size` (y, x) voxels of `new_spacing_mm` (y, x).

    Centres are compared in the slice's own millimetres, without the patient's direction matrix,
    so that an oblique acquisition gives the same numbers as a straight one. Beyond the outermost
    centres the nearest voxel counts.
    """
    if spacing_mm == new_spacing_mm and voxels.shape[1:] == size:
        return voxels.astype(np.float32)
    resample = sitk.ResampleImageFilter()
    resample.SetInterpolator(_INTERPOLATORS[interpolation])
    resample.SetUseNearestNeighborExtrapolator(True)
    resample.SetOutputPixelType(sitk.sitkFloat32)
    resample.SetSize(size[::-1])
    resample.SetOutputSpacing(new_spacing_mm[::-1])
    result = np.zeros((len(voxels), *size), np.float32)
    for z, plane in enumerate(voxels):
        if plane.any():
            slice_image = sitk.GetImageFromArray(plane.astype(np.float32))
            slice_image.SetSpacing(spacing_mm[::-1])
            result[z] = sitk.GetArrayFromImage(resample.Execute(slice_image))
    return result


def _extent(count: int, spacing_mm: float, new_spacing_mm: float) -> int:
    """Return how many new voxels reach from the first centre to the last."""
    return math.ceil((count - 1) * spacing_mm / new_spacing_mm - _ROUNDING) + 1
