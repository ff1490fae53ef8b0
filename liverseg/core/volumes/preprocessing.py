"""Grey values and masks as the network wants them (paper, Methods; docs/method.md section 3)."""

import numpy as np
from scipy import ndimage

from liverseg.core.volumes.volume import FloatArray, Mask, Spacing
from liverseg.errors import CaseError


def normalise(image: FloatArray, liver: Mask, lower: float, upper: float) -> FloatArray:
    """Map the lower and upper percentile inside the liver linearly to 0 and 1.

    Args:
        image: Grey values (z, y, x).
        liver: Where the percentiles are taken (numpy's linear method), same shape.
        lower: Percentile that becomes 0, such as 2.
        upper: Percentile that becomes 1, such as 98.

    Returns:
        float32 of the same shape; values beyond 0 and 1 are not clipped.

    Raises:
        CaseError: The liver is empty, or both percentiles are equal.
    """
    if not liver.any():
        raise CaseError("the liver mask is empty")
    # In float64: grey values of 30,000 with a narrow range would lose digits otherwise.
    values = np.percentile(image[liver].astype(np.float64), [lower, upper])
    low, high = float(values[0]), float(values[1])
    if not low < high:
        raise CaseError(
            f"the image is constant inside the liver: its percentiles {lower:g} and {upper:g} "
            f"are both {low:g}"
        )
    return ((image - low) / (high - low)).astype(np.float32)


def dilate_in_plane(mask: Mask, spacing_mm: Spacing, radius_mm: float) -> Mask:
    """Return the mask grown by `radius_mm` within each slice: every voxel at most that far away.

    `mask` is (z, y, x); distances are between voxel centres, so unequal y and x spacing is right.
    """
    grown = mask.copy()
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        distance = ndimage.distance_transform_edt(~mask[z], sampling=spacing_mm[1:])
        grown[z] = distance <= radius_mm
    return grown
