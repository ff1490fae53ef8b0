"""Masks are read as labels: whole numbers, of which one counts, or those that were chosen.

An image, a probability or several structures in the place of a mask would otherwise become a mask
without anybody noticing, by whatever rule cuts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from liverseg.core.volumes.volume import FloatArray, Mask, Volume
from liverseg.errors import CaseError
from liverseg.imaging.files import decode, named_if_too_large
from liverseg.imaging.stored_file import StoredFile, load
from liverseg.settings import SliceAxis

TOLERANCE = 1e-3
"""A value this far from a whole number is that number: scale factors and conversions round."""
MOST_LABELS = 20
"""A file with more different values than this is taken for an image."""
MOST_LABELS_TO_CHOOSE_FROM = 130
"""The same where labels were chosen: a segmentation of the whole body has about 120 structures."""

Kind = Literal["lesion", "liver"]


@dataclass(frozen=True)
class LabelMask(Volume):
    """A mask (bool) that was read from a file of labels."""

    labels: tuple[int, ...] = ()
    """All labels of the file, sorted; empty where it is 0 everywhere."""
    labelled_ml: float = 0.0
    """Volume of all labels of the file together."""

    def why_empty(self, chosen: Sequence[int]) -> str:
        """Return why no voxel is inside, `chosen` being the labels that count."""
        if not self.labels:
            return "all its voxels are 0"
        have, count = (", ".join(map(str, labels)) for labels in (self.labels, chosen))
        return f"it has the labels {have}, and only {count} count"


def read_mask(
    path: Path,
    labels: Sequence[int] = (),
    kind: Kind = "lesion",
    slice_axis: SliceAxis = "auto",
) -> LabelMask:
    """Return the mask in a file: `decode_mask` of its bytes."""
    return decode_mask(load(path), labels, kind, slice_axis)


@named_if_too_large
def decode_mask(
    file: StoredFile,
    labels: Sequence[int] = (),
    kind: Kind = "lesion",
    slice_axis: SliceAxis = "auto",
) -> LabelMask:
    """Return where a file has one of the labels or, without labels, its only one.

    Args:
        file: A volume of whole numbers, 0 being outside; each may be off by `TOLERANCE`.
        labels: Which count. A file that has none of them gives an empty mask.
        kind: What the mask is of, for messages.
        slice_axis: As in `decode`.

    Raises:
        CaseError: As `decode`; for probabilities, images and negative labels; and without `labels`
            for a file with more than one.
    """
    volume, name = decode(file, slice_axis), file.path.name
    most = MOST_LABELS_TO_CHOOSE_FROM if labels else MOST_LABELS
    inside: Mask = volume.voxels != 0
    whole = _whole(volume.voxels[inside], name)
    inside[inside] = whole != 0
    present = np.unique(whole[whole != 0])
    labelled_ml = np.count_nonzero(inside) * float(np.prod(volume.spacing_mm)) / 1000
    if present.size > most:
        raise CaseError(
            f"'{name}' has {present.size} different values from {present[0]:.0f} to "
            f"{present[-1]:.0f}: it looks like an image, where a mask is needed (at most {most} "
            "labels)"
        )
    if present.size and present[0] < 0:
        raise CaseError(
            f"'{name}' has the label {present[0]:.0f}, and labels are not negative: 255 saved with "
            "8 bits and a sign becomes -1; save the mask with the labels 0 and 1"
        )
    if labels:
        inside[inside] = np.isin(whole[whole != 0], list(labels))
    elif present.size > 1:
        shown = ", ".join(f"{v:.0f}" for v in present[:5]) + (", ..." if present.size > 5 else "")
        raise CaseError(
            f"'{name}' has the labels {shown}; say which of them are {kind} with --{kind}-label or "
            f"data.{kind}_labels"
        )
    return LabelMask(inside, volume.geometry, tuple(int(v) for v in present), labelled_ml)


def _whole(values: FloatArray, name: str) -> FloatArray:
    """Return values rounded to whole numbers; raise CaseError where one is too far from it."""
    whole: FloatArray = np.rint(values)
    off: npt.NDArray[np.bool_] = np.abs(values - whole) > TOLERANCE
    if off.any():
        low, high = float(values.min()), float(values.max())
        what = (
            "a probability map, where a mask of whole numbers is needed; cut it first, such as at "
            "0.5"
            if low >= 0 and high <= 1
            else "the grey values of an image, or labels that were interpolated, where a mask of "
            "whole numbers is needed; labels are resampled to the nearest neighbour"
        )
        raise CaseError(f"'{name}' has voxels such as {float(values[off][0]):.7g}: {what}")
    return whole
