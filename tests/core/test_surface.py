import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from medpy.metric import binary
from scipy import ndimage

from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.evaluation.surface import SurfaceDistances, surface_distances
from tests.core.masks import flips, pairs, spacings


def distances(first: np.ndarray, second: np.ndarray, spacing) -> SurfaceDistances:
    one, other = (Delineation.of(m, spacing).surface for m in (first, second))
    return surface_distances(one, other)


def numbers(measured: SurfaceDistances) -> tuple[float | None, ...]:
    return measured.hd_mm, measured.hd95_mm, measured.assd_mm


def test_two_slabs_by_hand_with_unequal_spacing() -> None:
    first, second = np.zeros((2, 9, 4, 4), bool)
    first[1:3], second[6:8] = True, True
    # Slabs two voxels thick are all border. Slices 1, 2 against 6, 7, of 2.5 mm each.
    assert numbers(distances(first, second, (2.5, 1, 1))) == pytest.approx((12.5, 12.5, 11.25))


def test_a_voxel_beside_a_voxel_is_as_far_as_that_axis_says() -> None:
    spacing = (5.0, 1.5, 0.75)
    for axis, step in enumerate(spacing):
        first, second = np.zeros((2, 4, 4, 4), bool)
        first[1, 1, 1] = True
        second[tuple(2 if a == axis else 1 for a in range(3))] = True
        assert numbers(distances(first, second, spacing)) == (step, step, step)


def test_a_hole_has_a_surface() -> None:
    whole = np.zeros((9, 9, 9), bool)
    whole[1:8, 1:8, 1:8] = True
    hollow = whole.copy()
    hollow[4, 4, 4] = False
    assert distances(whole, whole, (1, 1, 1)).hd_mm == 0
    # The six voxels around the hole are two steps from the outer border.
    assert distances(hollow, whole, (1, 1, 1)).hd_mm == 2


def test_an_empty_mask_has_no_distance() -> None:
    some, none = np.ones((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    for first, second in ((some, none), (none, some), (none, none)):
        assert numbers(distances(first, second, (1, 1, 1))) == (None, None, None)


@pytest.mark.slow
def test_hd_and_hd95_are_monais_and_assd_is_medpys() -> None:
    import monai.metrics  # here, since the fast lane does without it
    import torch

    @given(pairs, spacings)
    def same(masks, spacing) -> None:
        first, second = masks
        assume(first.any() and second.any())
        measured = distances(first, second, spacing)
        one_hot = [torch.from_numpy(mask)[None, None] for mask in masks]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, about the versions of their neighbours
            for percentile, ours in ((None, measured.hd_mm), (95, measured.hd95_mm)):
                theirs = monai.metrics.compute_hausdorff_distance(
                    *one_hot, True, percentile=percentile, spacing=spacing
                )
                assert ours == pytest.approx(float(theirs), rel=1e-5)
            pooled = monai.metrics.compute_average_surface_distance(
                *one_hot, True, symmetric=True, spacing=spacing
            )
        assert measured.assd_mm == pytest.approx(float(pooled), rel=1e-5)
        assert measured.assd_mm == pytest.approx(binary.assd(first, second, spacing))
        assert measured.hd_mm == pytest.approx(binary.hd(first, second, spacing))

    same()


def test_hd95_is_not_medpys_which_pools_both_directions_first() -> None:
    first, second = np.zeros((2, 2, 2, 60), bool)
    first[:, :, :40], second[:, :, :50] = True, True
    assert distances(first, second, (1, 1, 1)).hd95_mm == 8  # 200 voxels: the 10 farthest cut
    assert binary.hd95(first, second) < 8


@given(pairs, spacings, flips)
def test_surface_distances_are_symmetric_bounded_and_blind_to_flips(masks, spacing, axes) -> None:
    first, second = masks
    measured = distances(first, second, spacing)
    assert numbers(distances(second, first, spacing)) == pytest.approx(numbers(measured))
    turned = distances(np.flip(first, axes), np.flip(second, axes), spacing)
    assert numbers(turned) == pytest.approx(numbers(measured))
    if measured.hd_mm is not None:
        assert 0 <= measured.hd95_mm <= measured.hd_mm
        assert 0 <= measured.assd_mm <= measured.hd_mm
        assert measured.hd_mm <= np.linalg.norm(np.multiply(first.shape, spacing))


@pytest.mark.slow
@given(pairs, spacings)
def test_distances_are_those_of_a_distance_transform_of_the_whole_volume(masks, spacing) -> None:
    first, second = masks
    assume(first.any() and second.any())
    borders = [m & ~ndimage.binary_erosion(m) for m in masks]
    far = [ndimage.distance_transform_edt(~b, sampling=spacing) for b in borders]
    first_to_second, second_to_first = far[1][borders[0]], far[0][borders[1]]
    assert numbers(distances(first, second, spacing)) == pytest.approx(
        (
            max(first_to_second.max(), second_to_first.max()),
            max(np.percentile(first_to_second, 95), np.percentile(second_to_first, 95)),
            np.concatenate((first_to_second, second_to_first)).mean(),
        )
    )


@pytest.mark.slow
@given(pairs, spacings)
def test_a_search_and_a_transform_give_the_same_distances(masks, spacing) -> None:
    assume(masks[0].any() and masks[1].any())
    first, second = (Delineation.of(m, spacing).surface for m in masks)
    assert first.searched(second) == pytest.approx(first.transformed(second))


def test_only_large_masks_far_apart_are_worth_a_transform() -> None:
    noise = np.random.default_rng(0).random((20, 80, 80)) < 0.05
    ball = np.linalg.norm(np.indices(noise.shape).T - (10, 20, 20), axis=-1).T < 8
    shifted = np.roll(ball, 2, axis=2)
    of_noise, of_ball, near = (Delineation.of(m, (1, 1, 1)).surface for m in (noise, ball, shifted))
    assert of_noise.far_from(of_ball)
    assert not of_ball.far_from(near)
    assert not of_ball.far_from(of_noise)  # a voxel of noise is always near
