import numpy as np
import pytest

from liverseg.core.phantom.phantom import phantom


@pytest.fixture(scope="module")
def cases():
    return [phantom(0, index) for index in range(6)]


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_the_same_seed_and_index_give_the_same_case(cases):
    again = phantom(0, 4)
    assert np.array_equal(again.image.voxels, cases[4].image.voxels)
    assert again.image.geometry == cases[4].image.geometry
    for name, volume in cases[4].raters.items():
        assert np.array_equal(again.raters[name].voxels, volume.voxels)


def test_another_seed_gives_another_case(cases):
    other = phantom(1, 4)
    assert other.image.voxels.shape != cases[4].image.voxels.shape or np.any(
        other.image.voxels != cases[4].image.voxels
    )


def test_the_fourth_case_has_no_lesion_but_three_raters_who_say_so(cases):
    assert sorted(cases[3].raters) == ["R1", "R2", "R3"]
    assert not any(volume.voxels.any() for volume in cases[3].raters.values())


def test_the_third_case_has_no_third_rater(cases):
    assert sorted(cases[2].raters) == ["R1", "R2"]


def test_raters_disagree_as_people_do(cases):
    for case in (cases[0], cases[1], cases[4], cases[5]):
        r1, r2, r3 = (case.raters[name].voxels for name in ("R1", "R2", "R3"))
        for pair in ((r1, r2), (r1, r3), (r2, r3)):
            assert 0.65 < dice(*pair) < 0.95
        assert r2.sum() > r3.sum()  # R2 contours wide, R3 tight


def test_lesions_lie_in_the_liver_and_fill_a_small_part_of_it(cases):
    for case in cases:
        liver = case.liver.voxels
        for volume in case.raters.values():
            assert not (volume.voxels & ~liver).any()
        if case is not cases[3]:
            assert 0.02 < case.raters["R1"].voxels.sum() / liver.sum() < 0.15


def test_grids_are_anisotropic_tilted_and_stored_in_several_orientations(cases):
    for case in cases:
        z, y, x = case.image.spacing_mm
        assert z > 3 * y == 3 * x
        assert case.image.voxels.dtype == np.int16
        direction = np.array(case.image.geometry.direction).reshape(3, 3)
        assert np.allclose(direction @ direction.T, np.eye(3))
        assert 0 < np.degrees(np.arccos(direction[2, 2])) < 15
    assert {case.image.geometry.file_axes for case in cases} == {(1, 2, 3), (-1, -2, 3), (1, -2, 3)}


def test_lesions_are_darker_than_liver_but_vessels_are_as_dark(cases):
    case = cases[0]
    image, liver = case.image.voxels.astype(float), case.liver.voxels
    lesion = case.raters["R1"].voxels
    assert image[lesion].mean() < 0.85 * image[liver & ~lesion].mean()
    dark = (image < np.median(image[lesion])) & liver
    assert (dark & ~lesion).sum() > (dark & lesion).sum()
