"""What a probability goes through before it is a segmentation.

Source: paper, Methods; docs/method.md section 12.

Partial volume darkens a ring of voxels along the liver's border; thin structures there are
removed by opening. Everything is two-dimensional, on the network's grid, and outside the image
is background.
"""

from functools import reduce

import numpy as np
from scipy import ndimage

from liverseg.core.volumes.volume import FloatArray, Mask, bounding_box

THRESHOLD = 0.5
BORDER_KERNEL = 7
OPENING_KERNEL = 3


def clean(probability: FloatArray, liver: Mask) -> FloatArray:
    """Return the probability with 0 wherever the post-processing takes a voxel away.

    A voxel is taken away outside the liver, and where it is tumour but the opening in the border
    removes it. All others keep their value, those below the threshold too, so that the way back
    to the file's grid interpolates between true probabilities.

    Both arrays are (z, y, x) on the network's grid.
    """
    result = np.zeros(probability.shape, np.float32)
    box = bounding_box(liver)
    if box is None:
        return result
    # Beyond the liver's box everything is background, as it is beyond the image: cropping there
    # changes nothing.
    inside, values = liver[box], probability[box]
    tumour = (values > THRESHOLD) & inside
    removed = tumour & ~open_in_border(tumour, inside)
    result[box] = np.where(inside & ~removed, values, 0)
    return result


def open_in_border(tumour: Mask, liver: Mask) -> Mask:
    """Return the tumour, opened with 3 x 3 where the liver eroded with 7 x 7 does not reach.

    The whole mask is opened and the result is used only in that ring: a lesion that crosses the
    ring's inner edge keeps its shape there.
    """
    border = border_of(liver)
    opened = ndimage.binary_opening(tumour, _square(OPENING_KERNEL))
    result: Mask = (tumour & ~border) | (opened & border)
    return result


def opened_in_border(darkness: FloatArray, liver: Mask, border: Mask) -> FloatArray:
    """Return grey values (z, y, x) of which any cut is what the post-processing leaves of that cut.

    For every limit, `result < limit` is `open_in_border((darkness < limit) & liver, liver)`: the
    opening of masks is here a maximum and a minimum of grey values. Infinite outside the liver.
    `border` is what `border_of` returns.
    """
    inside = np.where(liver, darkness, np.float32(np.inf))
    radius = OPENING_KERNEL // 2
    eroded = _filtered(inside, np.maximum, radius)
    opened = _filtered(eroded, np.minimum, radius)
    return np.where(border, opened, inside)


def border_of(liver: Mask) -> Mask:
    """Return the ring of the liver where the liver eroded with 7 x 7 does not reach."""
    eroded = liver
    for size in ((1, BORDER_KERNEL, 1), (1, 1, BORDER_KERNEL)):
        # A square is a line along y and then one along x, at a fraction of the work.
        eroded = ndimage.binary_erosion(eroded, np.ones(size, bool), border_value=0)
    border: Mask = liver & ~eroded
    return border


def binarise(probability: FloatArray, liver: Mask) -> Mask:
    """Return the voxels above the threshold inside the liver; both on the same grid."""
    return (probability > THRESHOLD) & liver


def _square(size: int) -> Mask:
    """A kernel within one slice."""
    return np.ones((1, size, size), bool)


def _filtered(values: FloatArray, extreme: np.ufunc, radius: int) -> FloatArray:
    """Return the maximum or minimum over a square within the slice; outside is infinity."""
    for axis in (1, 2):
        padding = [(0, 0)] * 3
        padding[axis] = (radius, radius)
        padded = np.moveaxis(np.pad(values, padding, constant_values=np.inf), axis, 0)
        size = values.shape[axis]
        parts = [padded[start : start + size] for start in range(2 * radius + 1)]
        values = np.moveaxis(reduce(extreme, parts), 0, axis)
    return values
