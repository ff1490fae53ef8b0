"""A volume: voxels with their spacing and position in the patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Geometry:
    """Where a voxel grid lies; kept only to check that grids agree and to write files back."""

    shape: tuple[int, int, int]
    """Voxels (z, y, x)."""
    spacing_mm: Spacing
    """Distance of voxel centres (z, y, x)."""
    origin_mm: tuple[float, float, float]
    """Centre of voxel (0, 0, 0) as (x, y, z) in LPS, DICOM (0020,0032)."""
    direction: tuple[float, ...]
    """Row-major 3 x 3 direction matrix, columns are the x, y and z axis of the grid in LPS."""
    file_axes: tuple[int, int, int]
    """The axes (x, y, z) of the file that was read, each by the array's axis that it is: 1, 2 or 3
    for x, y or z, negative where it runs the other way. Writing goes back to them."""

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> "Geometry":
        """Return the geometry that `dataclasses.asdict` wrote (lists become tuples again)."""
        fixed: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fixed)


@dataclass(frozen=True)
class Volume:
    """Voxels (z, y, x), nearest to LPS: x grows to the left, y to the back, z to the head.

    Coronal and sagittal slices (`preparation.slice_axis`) are stacked along z here as well; rows
    then go downwards, and columns to the left or to the back.
    """

    voxels: npt.NDArray[Any]
    geometry: Geometry

    @property
    def spacing_mm(self) -> Spacing:
        """Distance of voxel centres (z, y, x)."""
        return self.geometry.spacing_mm


def bounding_box(mask: Mask) -> Box | None:
    """Return the smallest box (z, y, x) around a mask, None if it is empty."""
    slices = _reach(mask.any(axis=(1, 2)))
    if slices is None:
        return None
    plane: Mask = np.logical_or.reduce(mask[slices], axis=0)
    rows, columns = _reach(plane.any(axis=1)), _reach(plane.any(axis=0))
    assert rows is not None
    assert columns is not None
    return slices, rows, columns


def _reach(line: npt.ArrayLike) -> slice | None:
    """Return from the first True of a line to its last."""
    inside = np.flatnonzero(line)
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else None
