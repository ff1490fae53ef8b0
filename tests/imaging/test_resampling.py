from dataclasses import replace

import numpy as np
import pytest

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.imaging.resampling import (
    in_plane,
    nearest,
    probability_to_original,
    to_network_grid,
    voxels_outside,
)
from liverseg.settings import PreparationSettings

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


def on_grid(voxels, spacing_mm, direction=OBLIQUE):
    geometry = Geometry(voxels.shape, spacing_mm, (7.0, -3.0, 11.0), direction, (1, 2, 3))
    return Volume(voxels, geometry)


def ramp(shape, spacing_mm):
    """A value that is linear in millimetres: linear interpolation must reproduce it."""
    z, y, x = np.indices(shape)
    return (100 * z + 3 * y * spacing_mm[1] - 2 * x * spacing_mm[2] + 5).astype(np.float32)


@pytest.mark.parametrize("spacing_mm", [(5.0, 1.25, 1.25), (2.0, 0.74, 0.9), (4.0, 1.76, 1.2)])
def test_centres_stay_where_they_are(spacing_mm):
    image = on_grid(ramp((3, 21, 26), spacing_mm), spacing_mm)
    grey, _, spacing = to_network_grid(image, {}, PreparationSettings())
    assert spacing == (spacing_mm[0], 1.0, 1.0)
    reach_y, reach_x = 20 * spacing_mm[1], 25 * spacing_mm[2]  # beyond, the last value counts
    inside = grey[:, : int(reach_y) + 1, : int(reach_x) + 1]
    assert inside == pytest.approx(ramp(inside.shape, spacing), abs=1e-3)
    # the grid reaches the last centre, and not a whole voxel further
    assert [n - 1 for n in grey.shape[1:]] == [np.ceil(reach_y), np.ceil(reach_x)]


def test_a_ramp_survives_the_way_there_and_back():
    spacing_mm = (5.0, 0.74, 1.25)
    image = on_grid(ramp((2, 30, 20), spacing_mm), spacing_mm)
    grey, _, spacing = to_network_grid(image, {}, PreparationSettings())
    back = probability_to_original(grey, spacing, image.geometry)
    assert back.shape == image.voxels.shape
    # all but the last row and column, which touch the part of the grid that was made up
    assert back[:, :-2, :-2] == pytest.approx(image.voxels[:, :-2, :-2], abs=1e-3)


def test_a_grid_that_has_the_spacing_already_is_unchanged():
    voxels = np.random.default_rng(0).random((3, 9, 8)).astype(np.float32)
    mask = voxels > 0.5
    image = on_grid(voxels, (4.0, 1.0, 1.0))
    grey, masks, _ = to_network_grid(
        image, {"liver": on_grid(mask, (4.0, 1.0, 1.0))}, PreparationSettings()
    )
    assert np.array_equal(grey, voxels)
    assert np.array_equal(masks["liver"], mask)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_slices_do_not_see_each_other(interpolation):
    voxels = np.random.default_rng(0).random((4, 16, 14)).astype(np.float32)
    changed = voxels.copy()
    changed[2] += 1
    arguments = ((1.3, 1.2), (20, 17), (1.0, 1.0), interpolation)
    first, second = in_plane(voxels, *arguments), in_plane(changed, *arguments)
    assert np.array_equal(first[[0, 1, 3]], second[[0, 1, 3]])
    assert second[2] == pytest.approx(first[2] + 1, abs=1e-5)


def test_bspline_and_linear_differ_but_agree_on_shared_centres():
    voxels = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    linear, spline = (
        in_plane(voxels, (2.0, 2.0), (31, 31), (1.0, 1.0), i) for i in ("linear", "bspline")
    )
    assert spline[:, ::2, ::2] == pytest.approx(voxels, abs=1e-4)
    assert linear[:, ::2, ::2] == pytest.approx(voxels, abs=1e-6)
    assert np.abs(spline - linear).max() > 0.01


def test_a_mask_is_cut_above_one_half_and_half_way_is_outside():
    mask = np.array([[[True, True, False, False]] * 2] * 2)
    image = on_grid(np.zeros(mask.shape, np.float32), (4.0, 1.0, 2.0))
    _, masks, _ = to_network_grid(
        image, {"m": on_grid(mask, (4.0, 1.0, 2.0))}, PreparationSettings()
    )
    # centres at 0 1 2 3 4 5 6 mm; 3 mm lies half-way between the second and the third voxel
    assert masks["m"][0, 0].tolist() == [True, True, True, False, False, False, False]


def test_a_tilt_changes_no_number():
    voxels = np.random.default_rng(0).random((3, 20, 20)).astype(np.float32)
    axis_aligned = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    results = [
        to_network_grid(on_grid(voxels, (4.0, 1.3, 1.3), d), {}, PreparationSettings())[0]
        for d in (OBLIQUE, axis_aligned)
    ]
    assert np.array_equal(*results)


def test_rounded_spacing_adds_no_voxel():
    image = on_grid(np.zeros((2, 11, 11), np.float32), (4.0, 1.0000001, 1.0000001))
    assert to_network_grid(image, {}, PreparationSettings())[0].shape == (2, 11, 11)


def test_another_network_spacing_is_respected():
    image = on_grid(np.zeros((2, 11, 21), np.float32), (4.0, 1.0, 1.0))
    grey, _, spacing = to_network_grid(image, {}, PreparationSettings(in_plane_mm=2.0))
    assert grey.shape == (2, 6, 11)
    assert spacing == (4.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("moved_voxels", "outside"),
    [
        ((0, 0, 0), 0),
        ((0.49, -0.49, 0.49), 0),
        ((1, 0, 0), 5 * 6),  # along z: its last slice
        ((0, 0.51, 0), 4 * 6),
        ((0, 0, -2), 4 * 5 * 2),
        ((1, 1, 1), 4 * 5 * 6 - 3 * 4 * 5),
        ((90, 0, 0), 4 * 5 * 6),
    ],
)
def test_voxels_are_outside_another_grid_where_their_centre_is(moved_voxels, outside):
    """Of a full grid that is moved against an oblique one, as many as `nearest` cannot place."""
    full = on_grid(np.ones((4, 5, 6), bool), (3.0, 0.75, 1.25))
    steps = np.reshape(OBLIQUE, (3, 3)) * (1.25, 0.75, 3.0)
    origin = np.array(full.geometry.origin_mm) + steps @ np.array(moved_voxels[::-1])
    moved = Volume(full.voxels, replace(full.geometry, origin_mm=tuple(origin)))
    assert voxels_outside(moved, full.geometry) == outside
    assert np.count_nonzero(~nearest(moved, full.geometry).voxels) == outside


def test_an_empty_mask_has_nothing_outside():
    empty = on_grid(np.zeros((2, 3, 4), bool), (3.0, 1.0, 1.0))
    far = replace(empty.geometry, origin_mm=(999.0, 0.0, 0.0))
    assert voxels_outside(empty, far) == 0
