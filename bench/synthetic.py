"""Synthetic cases of 400 x 400 x 80 voxels and studies of them, for the benchmarks."""

import numpy as np

from liverseg.core.data.case import PreparedCase, encode
from liverseg.core.data.dataset import CaseRecord, Dataset, Role
from liverseg.core.volumes.volume import Geometry
from liverseg.race.records.study import Study, open_study
from liverseg.settings import PRESETS
from liverseg.steps.data.cases import CASE_FILE, case_prefix
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

SHAPE, SPACING_MM = (80, 400, 400), (3.0, 1.0, 1.0)
RATERS = ("R1", "R2", "R3")
DISTINCT = 3
"""So many cases are made; all others are the same ones under other names."""


def prepared(
    seed: int, shape: tuple[int, int, int] = SHAPE, lesion_radius: float = 0.1
) -> PreparedCase:
    """Return a liver of 18 % of the volume with a lesion, noise, and three raters who differ."""
    rng = np.random.default_rng(seed)
    liver = ellipsoid(shape, 0.35)
    masks = {rater: ellipsoid(shape, lesion_radius - 0.01 * n) for n, rater in enumerate(RATERS)}
    image = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.2) + np.float32(0.5)
    image -= np.float32(0.4) * masks["R1"]
    geometry = Geometry(shape, SPACING_MM, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (1, 2, 3))
    return PreparedCase(image, liver, liver, masks, SPACING_MM, liver, masks, geometry)


def ellipsoid(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return a mask in the middle; `radius` in shares of the volume's extent."""
    z, y, x = (((np.arange(n) - n / 2) / (radius * n)) ** 2 for n in shape)
    mask: np.ndarray = z[:, None, None] + y[:, None] + x < 1
    return mask


def study(store: ObjectStore, cases: dict[Role, int], lesion_radius: float = 0.1) -> Study:
    """Open a study of so many cases by role, prepared in the store."""
    for seed in range(DISTINCT):
        case = prepared(seed, lesion_radius=lesion_radius)
        bundle.commit(store, case_prefix(f"case{seed}"), {CASE_FILE: encode(case)})
    files = {name: name for name in ("image", "liver", *RATERS)}
    records = [
        CaseRecord(
            name, name, role, f"case{number % DISTINCT}", RATERS, files, SHAPE, SPACING_MM, True
        )
        for role, count in cases.items()
        for number in range(count)
        for name in [f"{role}-{number:02d}"]
    ]
    return open_study(store, PRESETS["paper"], Dataset(tuple(records)))
