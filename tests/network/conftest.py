import numpy as np
import pytest

from liverseg.core.data.case import TrainingCase
from liverseg.settings import Settings, from_mapping

TINY = {
    "network": {
        "features": [4, 6, 8],
        "z_convolutions": [False, False, True],
        "pooling": [[1, 2, 2], [2, 2, 2]],
        "batch_norm_momentum": 0.2,
    },
    "training": {"patch": [18, 60, 52], "validation_interval": 4},
    "race": {"seeds": 2, "minimum_iterations": 4, "maximum_iterations": 8},
}


@pytest.fixture
def tiny() -> Settings:
    return from_mapping(TINY)


def synthetic_case(seed: int, with_lesion: bool = True) -> TrainingCase:
    rng = np.random.default_rng(seed)
    shape = (12, 70, 64)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    liver = (np.abs(z - 6) < 5) & ((y - 34) ** 2 + (x - 30) ** 2 < 22**2)
    lesion = (np.abs(z - 6) < 3) & ((y - 30) ** 2 + (x - 34) ** 2 < 6**2) & liver
    lesion = lesion & with_lesion
    # Outside the liver nothing teaches and nothing is counted.
    outside = (np.abs(z - 6) < 2) & ((y - 60) ** 2 + (x - 8) ** 2 < 4**2)
    image = rng.normal(0.5, 0.1, shape) - 0.4 * lesion
    return TrainingCase(image.astype(np.float32), liver, lesion | outside, loss_mask=liver)


@pytest.fixture
def cases() -> dict[str, TrainingCase]:
    return {"one": synthetic_case(1), "two": synthetic_case(2), "none": synthetic_case(3, False)}
