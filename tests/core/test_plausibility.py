"""Bounds of what a case may look like: each on both sides of its limit."""

import numpy as np
import pytest

from liverseg.core.data.measurements import measure, volume_ml
from liverseg.core.data.plausibility import (
    SpacingRange,
    judge,
    judge_slice_axis,
    judge_spacing,
)
from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.settings import PlausibilitySettings

SHAPE = (10, 20, 20)
BOUNDS = PlausibilitySettings()


def volume(voxels, voxel_ml=1.0):
    spacing = (voxel_ml * 10, 10.0, 10.0)
    return Volume(voxels, Geometry(SHAPE, spacing, (0, 0, 0), tuple(np.eye(3).ravel()), (1, 2, 3)))


def first(count, start=0):
    """A mask of so many voxels in scan order, from one on."""
    voxels = np.zeros(SHAPE, bool)
    voxels.flat[start : start + count] = True
    return voxels


def judged(
    liver, voxel_ml=1.0, image=None, other_labels=None, bounds=BOUNDS, labels=None, **raters
):
    """(file, severity) and text of everything that is said."""
    measured = measure(
        None if image is None else volume(image),
        None if liver is None else volume(liver, voxel_ml),
        {name: volume(voxels) for name, voxels in raters.items()},
        other_labels,
    )
    return [((i.file, i.severity), i.text) for i in judge(measured, bounds, labels)]


def kinds(*arguments, **others):
    return [kind for kind, _ in judged(*arguments, **others)]


ERROR, WARNING = [("liver", "error")], [("liver", "warning")]


@pytest.mark.parametrize(
    ("voxels", "voxel_ml", "expected"),
    [
        (19, 1, ERROR),
        (20, 1, WARNING),
        (299, 1, WARNING),
        (300, 1, []),
        (1200, 5, []),
        (1201, 5, WARNING),
        (1500, 1e-3, ERROR),  # spacings in cm
        (1500, 1000, WARNING),  # and in micrometres, read as mm
    ],
)
def test_the_volume_of_the_liver(voxels, voxel_ml, expected):
    assert kinds(first(voxels), voxel_ml) == expected


def test_the_volume_is_shown_with_its_bound_and_what_to_do():
    ((_, small),) = judged(first(19))
    assert "19 ml" in small
    assert "plausibility.smallest_liver_ml (20 ml); look at the mask" in small
    ((_, large),) = judged(first(1300), 5)
    assert "6500 ml, outside plausibility.liver_ml (300 to 6000 ml)" in large


def test_an_empty_liver_is_left_to_the_preparation():
    assert kinds(first(0), R1=first(5)) == []
    image = np.arange(4000, dtype=np.float32).reshape(SHAPE)
    assert kinds(first(0), image=image, R1=first(5)) == []


def test_a_volume_in_ml_is_that_of_its_voxels_whose_sides_differ():
    geometry = Geometry(SHAPE, (5.0, 0.5, 0.8), (0, 0, 0), tuple(np.eye(3).ravel()), (1, 2, 3))
    assert volume_ml(Volume(first(300), geometry)) == pytest.approx(300 * 2.0 / 1000)


@pytest.mark.parametrize(("lesion", "expected"), [(900, []), (901, [("R1", "error")])])
def test_how_much_of_the_liver_lesions_may_fill(lesion, expected):
    assert kinds(first(1000), R1=first(lesion)) == expected


def test_only_what_lies_inside_the_liver_fills_it():
    assert kinds(first(1000), R1=first(1500, 500)) == [("R1", "warning")]


def test_swapped_masks_and_a_liver_in_the_place_of_lesions_are_refused():
    assert ("R1", "error") in kinds(first(50), R1=first(1000))
    assert kinds(first(1000), R1=first(1000), R2=first(9)) == [("R1", "error")]


@pytest.mark.parametrize(
    ("outside", "expected"),
    [(0, []), (20, []), (21, [("R1", "warning")]), (99, [("R1", "warning")]),
     (100, [("R1", "error")])],
)  # fmt: skip
def test_how_much_of_a_lesion_may_lie_outside_the_liver(outside, expected):
    assert kinds(first(1000), R1=first(100, 900 + outside)) == expected


def test_an_empty_contour_lies_nowhere():
    assert kinds(first(1000), R1=first(0), R2=first(0)) == []
    # Nor does it keep the next rater's from being judged.
    assert kinds(first(1000), R1=first(0), R2=first(9, 2000)) == [("R2", "error")]


def test_what_lies_outside_is_shown_with_both_counts():
    ((_, some),) = judged(first(1000), R1=first(100, 950))
    assert "50 of 100 lesion voxels (50%) lie outside" in some
    assert "plausibility.outside_share (20%)" in some
    ((_, all_of_it),) = judged(first(1000), R1=first(100, 1000))
    assert "all 100 lesion voxels lie outside the liver (1000 voxels)" in all_of_it
    assert "data.liver_labels" in all_of_it


def test_raters_with_the_same_mask_are_warned_of_and_empty_ones_are_not():
    same = {"R1": first(50), "R2": first(50), "R3": first(51)}
    ((kind, text),) = judged(first(1000), **same)
    assert kind == ("R2", "warning")
    assert "identical to that of R1" in text


def test_raters_who_share_no_voxel_are_warned_of():
    apart = {"R1": first(50), "R2": first(50, 50), "R3": first(60, 45)}
    ((kind, text),) = judged(first(1000), **apart)
    assert kind == ("R2", "warning")
    assert "none of its 50 voxels is one of the 50 of R1" in text
    assert kinds(first(1000), R1=first(50), R2=first(0)) == []
    ((_, counted),) = judged(first(1000), R1=first(30), R2=first(7, 50))
    assert "none of its 7 voxels is one of the 30 of R1" in counted


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1000), (-3, 7)])
def test_a_mask_in_the_place_of_the_image_is_refused(low, high):
    image = np.where(first(50), high, low).astype(np.float32)
    assert ("image", "error") in kinds(first(1000), image=image, R1=first(50), R2=first(60, 5))


def test_a_liver_in_the_place_of_the_image_is_refused_without_any_lesion():
    image = first(1000).astype(np.float32)
    ((kind, text),) = judged(first(1000), image=image, R1=first(0))
    assert kind == ("image", "error")
    assert "where the mask of liver is" in text


def test_an_image_that_is_0_outside_the_liver_and_a_mask_of_everything_are_accepted():
    grey = np.arange(4000, dtype=np.float32).reshape(SHAPE) + 5
    assert kinds(first(1000), image=grey * first(1000), R1=first(50)) == []
    assert kinds(first(4000), image=grey) == []
    constant = np.ones(SHAPE, np.float32)  # which the preparation refuses
    assert kinds(first(4000), image=constant) == []


def test_an_image_is_no_mask_because_a_lesion_has_one_grey_value():
    image = np.where(first(50), 7, 3).astype(np.float32)
    image.flat[700] = 4
    assert kinds(first(1000), image=image, R1=first(50)) == []
    dark = np.where(first(50), 0, 3).astype(np.float32)
    assert kinds(first(1000), image=dark, R1=first(50)) == []


def test_chosen_labels_that_a_file_does_not_have_are_warned_of():
    labels = {"lesion": (2, 4), "liver": (1,)}
    ((kind, text),) = judged(first(1000), R1=first(0), other_labels={"R1": (1, 3)}, labels=labels)
    assert kind == ("R1", "warning")
    assert "has the labels 1, 3, and none of data.lesion_labels (2, 4)" in text
    ((kind, text),) = judged(first(0), other_labels={"liver": (255,)}, labels=labels)
    assert kind == ("liver", "error")
    assert "the mask is empty: the file has the label 255, and none of data.liver_labels" in text
    assert "(1); say with --liver-label" in text


def test_without_a_liver_raters_are_compared_with_each_other():
    assert kinds(None, R1=first(50), R2=first(50)) == [("R2", "warning")]


def test_bounds_are_the_settings():
    loose = PlausibilitySettings((0.0, 1e6), 0.0, 1.0, 1.0)
    assert kinds(first(9), R1=first(9), R2=first(9, 1), bounds=loose) == []


@pytest.mark.parametrize(
    ("spacing", "axis", "refused"),
    [
        ((5.0, 1.0, 1.2), "auto", ""),
        ((1.0, 1.0, 1.0), "auto", ""),
        ((1.0, 1.0009, 1.0), "auto", ""),
        ((1.0, 1.0, 1.002), "auto", "x"),
        ((1.2, 7.7, 1.2), "auto", "y"),
        ((0.8, 0.8, 6.0), "auto", "x"),
        ((1.2, 7.7, 1.2), "z", ""),
        ((7.7, 1.2, 1.2), "y", ""),
    ],
)
def test_the_coarsest_axis_is_z_unless_a_setting_says_which_one_slices_follow(
    spacing, axis, refused
):
    remarks = judge_slice_axis(spacing, axis)
    assert [(i.file, i.severity) for i in remarks] == ([("image", "error")] if refused else [])
    if refused:
        assert f"preparation.slice_axis={refused}" in remarks[0].text
        assert " x ".join(f"{mm:.4g}" for mm in spacing) in remarks[0].text


@pytest.mark.parametrize("axis", ["y", "x"])
def test_an_axial_image_among_coronal_ones_is_warned_of(axis):
    ((file, severity, text),) = [
        (i.file, i.severity, i.text) for i in judge_slice_axis((1.2, 1.2, 7.7), axis)
    ]
    assert (file, severity) == ("image", "warning")
    assert f"preparation.slice_axis={axis} says" in text


@pytest.mark.parametrize(
    ("spacing", "series"),
    [((1.2, 7.7, 1.2), "coronal, along y"), ((1.2, 1.2, 7.7), "sagittal, along x")],
)
def test_a_coarse_axis_is_named_as_its_series(spacing, series):
    (remark,) = judge_slice_axis(spacing, "auto")
    assert f"its slices are {series}" in remark.text


def test_two_axes_that_are_as_coarse_as_each_other_are_no_series():
    (remark,) = judge_slice_axis((1.2, 3.0, 3.0), "auto")
    assert "its coarsest axis is not z; if its slices are axial" in remark.text
    assert "preparation.slice_axis=z" in remark.text


TRAINED = SpacingRange((2.0, 5.0), (0.8, 1.6))


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((3.0, 1.0, 1.0), []),
        ((7.5, 2.4, 2.4), []),
        ((1.4, 0.6, 0.6), []),
        ((7.6, 1.0, 1.0), ["slice distance of 7.6 mm, the training cases have 2 to 5 mm"]),
        ((1.3, 1.0, 1.0), ["slice distance of 1.3 mm"]),
        ((3.0, 1.0, 2.5), ["in-plane spacing of 1 to 2.5 mm, the training cases have 0.8 to"]),
        ((3.0, 0.5, 0.9), ["in-plane spacing of 0.5 to 0.9 mm"]),
        ((30.0, 9.0, 9.0), ["slice distance", "in-plane spacing"]),
    ],
)
def test_a_spacing_far_from_the_training_s_is_warned_of(spacing, expected):
    remarks = judge_spacing(spacing, TRAINED, BOUNDS)
    assert {(i.file, i.severity) for i in remarks} <= {("image", "warning")}
    assert len(remarks) == len(expected)
    assert all(words in i.text for words, i in zip(expected, remarks, strict=True))
    assert all("plausibility.spacing_factor is 1.5" in i.text for i in remarks)


def test_the_range_is_that_of_the_cases_and_nothing_is_said_without_one():
    cases = [(3.0, 0.8, 1.0), (5.0, 1.2, 1.2)]
    assert SpacingRange.of(cases) == SpacingRange((3.0, 5.0), (0.8, 1.2))
    assert SpacingRange.of([(3.0, 0.8, 1.6), (5.0, 1.2, 0.5)]).in_plane == (0.5, 1.6)
    assert SpacingRange.of(cases).to_mapping() == {
        "between_slices": [3.0, 5.0], "in_plane": [0.8, 1.2],
    }  # fmt: skip
    assert SpacingRange.of([]) is None
    assert judge_spacing((99.0, 9.0, 9.0), None, BOUNDS) == []
