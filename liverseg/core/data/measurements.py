"""What is measured of a case's volumes, so that it can be judged without reading them again."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from liverseg.core.volumes.volume import Mask, Volume


@dataclass(frozen=True)
class Measurements:
    """Of the volumes of one case, by the names of its files: "image", "liver", "R1", ..."""

    liver_ml: float | None
    """None where there is no liver mask that can be read; so are the counts in the liver."""
    liver_voxels: int | None
    lesion_voxels: dict[str, int]
    """By rater."""
    outside_voxels: dict[str, int]
    """By rater, lesion voxels outside the liver."""
    identical: tuple[tuple[str, str], ...]
    """Pairs of volumes with the same voxels, empty masks left out; an image with two values is the
    same as the mask of the larger one."""
    apart: tuple[tuple[str, str], ...]
    """Pairs of raters who have both drawn, and share no voxel."""
    other_labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """All labels of each file that has labels, none of which counts."""


def measure(
    image: Volume | None,
    liver: Volume | None,
    raters: Mapping[str, Volume],
    other_labels: Mapping[str, tuple[int, ...]] | None = None,
) -> Measurements:
    """Measure a case; all volumes share one grid. What is None could not be read."""
    drawn = {name: volume.voxels for name, volume in raters.items() if volume.voxels.any()}
    masks = drawn if liver is None or not liver.voxels.any() else {"liver": liver.voxels} | drawn
    voxels = {name: int(np.count_nonzero(volume.voxels)) for name, volume in raters.items()}
    identical = [
        pair for pair in itertools.combinations(masks, 2) if _same(masks[pair[0]], masks[pair[1]])
    ]
    if image is not None:
        identical += [("image", name) for name, mask in masks.items() if _is_of(image, mask)]
    apart = [
        pair
        for pair in itertools.combinations(drawn, 2)
        if not (drawn[pair[0]] & drawn[pair[1]]).any()
    ]
    return Measurements(
        liver_ml=None if liver is None else volume_ml(liver),
        liver_voxels=None if liver is None else int(np.count_nonzero(liver.voxels)),
        lesion_voxels=voxels,
        outside_voxels={}
        if liver is None
        else {n: int(np.count_nonzero(v.voxels & ~liver.voxels)) for n, v in raters.items()},
        identical=tuple(identical),
        apart=tuple(apart),
        other_labels=dict(other_labels or {}),
    )


def volume_ml(mask: Volume) -> float:
    """Return the volume of a mask in ml."""
    z, y, x = mask.spacing_mm
    return float(mask.voxels.sum()) * z * y * x / 1000


def _same(first: Mask, second: Mask) -> bool:
    return bool(np.array_equal(first, second))


def _is_of(image: Volume, mask: Mask) -> bool:
    """Say whether an image has one value inside the mask, and a lower one everywhere else."""
    inside = image.voxels[mask]
    if inside.min() != inside.max() or inside.size == mask.size:
        return False
    outside = image.voxels[~mask]
    return bool(outside.min() == outside.max() < inside.min())
