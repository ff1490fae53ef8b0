"""Synthetic cases of 400 x 400 x 80 voxels and studies of them, for the benchmarks."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from liverseg.core.data.case import PreparedCase, encode
from liverseg.core.data.dataset import CaseRecord, Dataset, Role
from liverseg.core.volumes.volume import Geometry
from liverseg.race.records.study import Study, open_study
from liverseg.settings import PRESETS, Settings
from liverseg.steps.data.cases import CASE_FILE, case_prefix
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

SHAPE, SPACING_MM = (80, 400, 400), (3.0, 1.0, 1.0)
RATERS = ("R1", "R2", "R3")
DISTINCT = 3
"""So many cases are made; the others have the same arrays under other keys."""
Roles = tuple[tuple[Role, int], ...]


def prepared(seed: int, shape: tuple[int, int, int] = SHAPE) -> PreparedCase:
    """A liver of 18 % of the volume with a lesion, noise everywhere, three raters who differ."""
    rng = np.random.default_rng(seed)
    liver = ellipsoid(shape, 0.35)
    masks = {rater: ellipsoid(shape, 0.1 - 0.01 * n) for n, rater in enumerate(RATERS)}
    image = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.2) + np.float32(0.5)
    image -= np.float32(0.4) * masks["R1"]
    geometry = Geometry(shape, SPACING_MM, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), "LPS")
    return PreparedCase(image, liver, liver, masks, SPACING_MM, liver, masks, geometry)


def ellipsoid(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    """In the middle; `radius` in shares of the volume's extent."""
    z, y, x = (((np.arange(n) - n / 2) / (radius * n)) ** 2 for n in shape)
    return z[:, None, None] + y[:, None] + x < 1


def study(store: ObjectStore, roles: Roles, settings: Settings = PRESETS["paper"]) -> Study:
    """Open a study of so many cases by role, prepared in the store."""
    files = [encode(prepared(seed)) for seed in range(DISTINCT)]
    records = []
    for role, count in roles:
        for number in range(count):
            name = f"{role}-{number:02d}"
            bundle.commit(store, case_prefix(name), {CASE_FILE: files[number % DISTINCT]})
            paths = {name: name for name in ("image", "liver", *RATERS)}
            records.append(
                CaseRecord(name, name, role, name, RATERS, paths, SHAPE, SPACING_MM, True)
            )
    return open_study(store, settings, Dataset(tuple(records)))


def measured(work: Callable[[], object]) -> dict[str, Any]:
    """Return what `work` takes: wall and CPU seconds, and the process's peak memory in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": status_mb("VmHWM"),
    }


def status_mb(field: str) -> float:
    """Return a field of this process's status in MB (2^20 bytes)."""
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024
