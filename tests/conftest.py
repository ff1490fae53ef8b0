import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from liverseg.core.volumes.volume import Geometry, Volume
from tests.volume_files import write

pytest_plugins = ["pytester", "tests.command_line", "tests.fast_lane"]

SHAPE = (6, 24, 20)
# So far apart that the tiny liver has 24 ml: below plausibility.smallest_liver_ml it is refused.
SPACING_MM = (16.0, 1.25, 1.5)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

CaseWriter = Callable[..., Path]

# The same examples every time, and no deadline: a busy machine is no broken rule.
settings.register_profile("liverseg", deadline=None, derandomize=True, database=None)
settings.load_profile("liverseg")


def grid(**changes: Any) -> Geometry:
    values: dict[str, Any] = {
        "shape": SHAPE,
        "spacing_mm": SPACING_MM,
        "origin_mm": (-10.0, 5.0, 30.0),
        "direction": IDENTITY,
        "file_axes": (1, 2, 3),
    }
    return Geometry(**(values | changes))


def tiny_volumes(seed: int = 0) -> dict[str, Volume]:
    """Image, liver and two raters with one lesion, on a small grid of unequal spacing."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    liver = (z > 0) & (z < 5) & ((y - 11) ** 2 + (x - 9) ** 2 < 64)
    lesion = (z > 1) & (z < 4) & ((y - 10) ** 2 + (x - 8) ** 2 < 12)
    image = rng.normal(100, 5, SHAPE) - 40 * lesion
    return {
        "image": Volume(image.astype(np.float32), grid()),
        "liver": Volume(liver, grid()),
        "tumor_R1": Volume(lesion, grid()),
        "tumor_R2": Volume(lesion & (x > 5), grid()),
    }


@pytest.fixture
def write_case() -> CaseWriter:
    """Return a function that writes a case folder and takes out or replaces some of its files."""

    def write_one(
        folder: Path,
        seed: int = 0,
        replace: Mapping[str, Volume | None] | None = None,
        suffix: str = ".nii.gz",
        description: Mapping[str, Any] | None = None,
    ) -> Path:
        folder.mkdir(parents=True)
        for name, volume in (tiny_volumes(seed) | dict(replace or {})).items():
            if volume is not None:
                write(folder / f"{name}{suffix}", volume)
        if description is not None:
            (folder / "case.json").write_text(json.dumps(description), encoding="utf-8")
        return folder

    return write_one


@pytest.fixture
def tiny_case() -> dict[str, Volume]:
    return tiny_volumes()


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty disk with as much room as the module's SMALL_DISK_KIB says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={request.module.SMALL_DISK_KIB}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def real_data() -> Path:
    """The folder of real MR cases that TEST_DATA names; the test is skipped without."""
    folder = Path(os.environ.get("TEST_DATA", "no-such-folder"))
    if not folder.is_dir():
        pytest.skip("TEST_DATA names no folder of real MR")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster")
    group.addoption("--cluster", action="store_true", help="run tests/cluster: make test-cluster")
    group.addoption("--faults", choices=("one", "all"), default="one", help="which faults to make")
    parser.addoption("--cuda", action="store_true", help="run the tests that need a GPU")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave tests/cluster to `make test-cluster`, which brings the images and the cluster."""
    if collection_path.name == "cluster" and not config.getoption("--cluster"):
        return True
    return None
