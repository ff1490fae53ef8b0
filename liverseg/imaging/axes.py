"""Whether a file's axes are a grid: finite, at right angles, and said once.

Steps are the columns of a 3 x 3 matrix: millimetres from one voxel to the next along x, y and z.
"""

import numpy as np
import numpy.typing as npt

from liverseg.errors import CaseError

SHEAR_TOLERANCE = 1e-4
"""Cosine of the angle between two axes."""
SPACING_TOLERANCE = 1e-3
"""Relative: what two fields may say about one spacing."""
CORNER_TOLERANCE_MM = 0.01
"""Where two fields may put one corner of the volume, or one end of an axis."""
_FARTHEST_MM = 1e6

Matrix = npt.NDArray[np.float64]


def lengths_mm(steps: Matrix) -> Matrix:
    """Return the length of each step; summed one by one, since libraries differ in the last bit."""
    x, y, z = steps * steps
    lengths: Matrix = np.sqrt(x + y + z)
    return lengths


def check_axes(name: str, steps: Matrix, origin_mm: Matrix) -> None:
    """Raise CaseError unless steps and origin are finite and the axes are at right angles."""
    values = np.concatenate([steps.ravel(), origin_mm])
    if not (np.abs(values) < _FARTHEST_MM).all():  # true of no NaN
        raise CaseError(
            f"'{name}' is damaged: its axes are {_shown(steps.T)} mm, its origin is "
            f"{_shown(origin_mm)} mm"
        )
    lengths = lengths_mm(steps)
    if lengths.min() < 1 / _FARTHEST_MM:
        raise CaseError(f"'{name}' has a spacing (x, y, z) of {_shown(lengths)} mm; it must be > 0")
    unit = steps / lengths
    for one, other in ((0, 1), (0, 2), (1, 2)):
        cosine = float(unit[:, one] @ unit[:, other])
        if abs(cosine) > SHEAR_TOLERANCE:
            degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            raise CaseError(
                f"'{name}' is sheared: its axes {'xyz'[one]} and {'xyz'[other]} meet at "
                f"{degrees:.3f} degrees instead of 90, as with a tilted gantry; resample it to a "
                "grid with right angles, image and masks alike"
            )


def check_same_spacing(
    name: str,
    size: tuple[int, int, int],
    fields: tuple[str, str],
    spacings_mm: tuple[Matrix, Matrix],
) -> None:
    """Raise CaseError where two fields say another spacing (x, y, z), or end an axis elsewhere."""
    one, other = spacings_mm
    apart = np.abs(one - other)
    over_axis = apart * (np.array(size) - 1)
    if not ((apart <= SPACING_TOLERANCE * other) & (over_axis <= CORNER_TOLERANCE_MM)).all():
        by_one, by_other = (", ".join(f"{v:.7g}" for v in values) for values in spacings_mm)
        raise CaseError(
            f"'{name}' contradicts itself: its spacing (x, y, z) is ({by_one}) mm by {fields[0]} "
            f"and ({by_other}) mm by {fields[1]}, which is {over_axis.max():.3g} mm over the "
            "volume; set both to the one that is right"
        )


def check_same_corners(
    name: str, size: tuple[int, int, int], fields: tuple[str, str], grids: tuple[Matrix, Matrix]
) -> None:
    """Raise CaseError where two fields put a corner of the volume at different places.

    `grids` are 3 x 4 matrices from voxels to millimetres, by what `fields` are called.
    """
    corner, distance = farthest_corner(size, *grids)
    if not distance <= CORNER_TOLERANCE_MM:
        one, other = (grid @ [*corner, 1] for grid in grids)
        raise CaseError(
            f"'{name}' contradicts itself: {fields[0]} and {fields[1]} disagree by "
            f"{distance:.3g} mm; they put voxel {corner} at {_shown(one)} and {_shown(other)} mm "
            "(x, y, z); set both to the one that is right"
        )


def farthest_corner(
    size: tuple[int, int, int], one: Matrix, other: Matrix
) -> tuple[tuple[int, int, int], float]:
    """Return the corner voxel (x, y, z) that two 3 x 4 matrices put farthest apart, and the mm."""
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(size)[:, None] - 1)
    apart = np.linalg.norm((one - other) @ np.vstack([corners, np.ones(8)]), axis=0)
    worst = int(np.argmax(apart))
    x, y, z = corners[:, worst].tolist()
    return (x, y, z), float(apart[worst])


def _shown(values: Matrix) -> str:
    return str(np.round(values, 4).tolist()).replace("[", "(").replace("]", ")")
