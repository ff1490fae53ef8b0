import io
import zipfile

import numpy as np
import pytest

from liverseg.core.data.case import PreparedCase, decode, decode_labelled, decode_training, encode
from liverseg.core.volumes.volume import Geometry

SHAPE = (3, 8, 7)


@pytest.fixture
def case() -> PreparedCase:
    """Every mask differs from every other."""
    rng = np.random.default_rng(0)
    masks = iter(rng.random((8, *SHAPE)) < 0.5)
    return PreparedCase(
        image=rng.standard_normal(SHAPE, dtype=np.float32),
        liver=next(masks),
        loss_mask=next(masks),
        raters={"R1": next(masks), "R2": next(masks)},
        spacing_mm=(3.0, 1.0, 1.0),
        original_liver=next(masks),
        original_raters={"R1": next(masks), "R2": next(masks)},
        original_geometry=Geometry(
            SHAPE, (3.0, 1.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (1, 2, 3)
        ),
    )


def only(data: bytes, names: set[str]) -> bytes:
    """An npz with these arrays; whoever reads another one fails."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as kept:
        for name in names:
            kept.writestr(f"{name}.npy", source.read(f"{name}.npy"))
    return target.getvalue()


@pytest.mark.parametrize("rater", ["R1", "R2"])
def test_a_training_reads_its_own_arrays_and_no_others(case: PreparedCase, rater: str) -> None:
    used = {"image", "liver", "loss_mask", f"rater/{rater}"}
    read = decode_training(only(encode(case), used), rater)
    np.testing.assert_array_equal(read.image, case.image)
    np.testing.assert_array_equal(read.liver, case.liver)
    np.testing.assert_array_equal(read.loss_mask, case.loss_mask)
    np.testing.assert_array_equal(read.lesion, case.raters[rater])


@pytest.mark.parametrize("rater", ["R1", "R2"])
def test_a_validation_needs_no_loss_mask(case: PreparedCase, rater: str) -> None:
    read = decode_labelled(only(encode(case), {"image", "liver", f"rater/{rater}"}), rater)
    np.testing.assert_array_equal(read.image, case.image)
    np.testing.assert_array_equal(read.liver, case.liver)
    np.testing.assert_array_equal(read.lesion, case.raters[rater])


def test_an_array_that_is_missing_fails(case: PreparedCase) -> None:
    with pytest.raises(KeyError):
        decode(only(encode(case), {"image", "liver", "loss_mask", "meta"}))
