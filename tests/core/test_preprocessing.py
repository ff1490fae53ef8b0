import numpy as np
import pytest

from liverseg.core.volumes.preprocessing import dilate_in_plane, normalise
from liverseg.errors import CaseError


def test_the_percentiles_inside_the_liver_become_0_and_1_and_nothing_is_clipped():
    rng = np.random.default_rng(1)
    image = rng.normal(300, 50, (4, 30, 25)).astype(np.float32)
    liver = rng.random(image.shape) < 0.3
    image[~liver] += 1_000  # what lies outside must not matter
    result = normalise(image, liver, 2, 98)
    assert np.percentile(result[liver], [2, 98]) == pytest.approx([0, 1], abs=1e-5)
    assert result.dtype == np.float32
    assert result[liver].min() < 0
    assert result.max() > 3


def test_the_percentiles_interpolate_linearly_between_voxels():
    image = np.array([[[0, 10, 20, 30, 999]]], np.float32)
    liver = np.array([[[True, True, True, True, False]]])
    # numpy's linear method: the 25th of four values is at index 0.75, hence 7.5; the 75th at 22.5
    assert normalise(image, liver, 25, 75)[0, 0, :2] == pytest.approx([-0.5, (10 - 7.5) / 15])


def test_a_large_offset_costs_no_grey_values():
    image = (30_000 + np.arange(100, dtype=np.float32)).reshape(1, 10, 10)
    result = normalise(image, np.ones(image.shape, bool), 0, 100)
    assert result.ravel() == pytest.approx(np.arange(100) / 99, abs=1e-6)


def test_an_empty_liver_is_refused():
    with pytest.raises(CaseError, match="liver mask is empty"):
        normalise(np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), bool), 2, 98)


def test_an_image_that_is_constant_inside_the_liver_is_refused_with_the_value():
    image = np.full((2, 10, 10), 7, np.float32)
    liver = np.zeros(image.shape, bool)
    liver[:, 2:8, 2:8] = True
    image[~liver] = np.arange((~liver).sum())
    with pytest.raises(CaseError, match=r"percentiles 2 and 98 are both 7"):
        normalise(image, liver, 2, 98)


def test_dilation_reaches_as_far_in_millimetres_along_both_axes_and_not_between_slices():
    mask = np.zeros((3, 31, 31), bool)
    mask[1, 15, 15] = True
    grown = dilate_in_plane(mask, (4.0, 1.0, 2.0), 10.0)
    assert np.flatnonzero(grown[1, :, 15]).tolist() == list(range(5, 26))  # 10 mm = 10 voxels
    assert np.flatnonzero(grown[1, 15, :]).tolist() == list(range(10, 21))  # 10 mm = 5 voxels
    assert not grown[0].any()
    assert not grown[2].any()
    assert not grown[1, 15 + 8, 15 + 4]  # 8 mm and 8 mm: 11.3 mm away, a disc and no square
    assert grown[1, 15 + 8, 15 + 3]  # exactly 10 mm away


def test_dilating_nothing_gives_nothing():
    assert not dilate_in_plane(np.zeros((2, 5, 5), bool), (4.0, 1.0, 1.0), 10.0).any()
