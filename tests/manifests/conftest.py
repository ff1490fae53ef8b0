import shutil
from pathlib import Path

import pytest

from tests.manifests.overlays import MANIFESTS


@pytest.fixture
def manifests_copy(tmp_path: Path) -> Path:
    """Return a copy of manifests/ that a test may change as a person would."""
    return Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))
