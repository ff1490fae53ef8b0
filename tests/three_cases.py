"""Three synthetic cases on which a wrong program cannot look right.

All three spacings differ, two raters differ, one lesion crosses the liver's edge, vessels are as
dark as lesions, and a bright streak runs along the liver's border. One case trains, one validates,
one tests.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from liverseg.core.volumes.volume import Geometry, Volume
from tests.volume_files import write

SHAPE = (20, 84, 72)
SPACING_MM = (3.5, 1.25, 1.6)
ROLES = {"training": ["one"], "validation": ["two"], "test": ["three"]}
_CENTRE_MM = np.array([35.0, 52.0, 57.0])
_RADII_MM = np.array([27.0, 40.0, 44.0])
_VESSELS = 10


def volumes(number: int) -> dict[str, Volume]:
    """Return image, liver and both raters' masks of the case with this number."""
    rng = np.random.default_rng(number)
    mm = np.moveaxis(np.indices(SHAPE), 0, -1) * np.array(SPACING_MM)
    depth = np.sqrt((((mm - _CENTRE_MM) / _RADII_MM) ** 2).sum(axis=-1))
    liver = depth < 1
    inside = _CENTRE_MM + np.array([0, -16, -10]) + rng.uniform(-4, 4, 3)
    other = _CENTRE_MM + np.array([0, 16, -6]) + rng.uniform(-4, 4, 3)
    # Its last millimetres lie outside the liver.
    crossing = _CENTRE_MM + np.array([0, 0, _RADII_MM[2] - 4])
    first = _ball(mm, inside, 9) | _ball(mm, other, 8) | _ball(mm, crossing, 8)
    second = _ball(mm, inside + np.array([0, 2, 0]), 8) | _ball(mm, crossing, 7)
    image = np.where(liver, 100.0, 60.0)
    for centre in _CENTRE_MM[1:] + rng.uniform(-28, 28, (_VESSELS, 2)):
        across = ((mm[..., 1:] - centre) ** 2).sum(axis=-1)
        image[liver & (across < 3.5**2)] = 70
    image[first] = 70
    image[(depth > 0.97) & (depth < 1.03) & (mm[..., 1] < _CENTRE_MM[1])] = 180
    image += rng.normal(0, 4, SHAPE)
    geometry = Geometry(
        SHAPE, SPACING_MM, (-40.0, 12.5, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (1, 2, 3)
    )
    return {
        "image": Volume(image.astype(np.float32), geometry),
        "liver": Volume(liver, geometry),
        "tumor_R1": Volume(first, geometry),
        "tumor_R2": Volume(second, geometry),
    }


def write_cases(folder: Path) -> Path:
    """Write the three cases and their split into a new folder."""
    for number, names in enumerate(ROLES.values()):
        case = folder / names[0]
        case.mkdir(parents=True)
        _write(case, volumes(number))
        (case / "case.json").write_text(json.dumps({"synthetic": True}), encoding="utf-8")
    (folder / "split.json").write_text(json.dumps(ROLES), encoding="utf-8")
    return folder


def _write(folder: Path, files: Mapping[str, Volume]) -> None:
    for name, volume in files.items():
        write(folder / f"{name}.nii.gz", volume)


def _ball(mm: np.ndarray, centre: np.ndarray, radius_mm: float) -> np.ndarray:
    return np.asarray(((mm - centre) ** 2).sum(axis=-1) < radius_mm**2)
