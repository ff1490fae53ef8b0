import math

import numpy as np
import pytest
from hypothesis import given

from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.evaluation.overlap import dice, dice_of_counts, jaccard, jaccard_of_counts
from tests.core.masks import flips, pairs
from tests.core.test_detection import components

ONE = (1.0, 1.0, 1.0)


@given(pairs)
def test_cropped_masks_count_what_whole_ones_do(masks) -> None:
    first, second = masks
    one, other = Delineation.of(first, ONE), Delineation.of(second, ONE)
    counts = one.shared_with(other), one.voxels, other.voxels
    assert counts == ((first & second).sum(), first.sum(), second.sum())
    assert dice_of_counts(*counts) == dice(first, second)
    assert jaccard_of_counts(*counts) == jaccard(first, second)


@given(pairs, flips)
def test_overlap_is_symmetric_bounded_and_blind_to_flips(masks, axes) -> None:
    first, second = masks
    for measure in (dice, jaccard):
        value = measure(first, second)
        assert 0 <= value <= 1
        assert value == measure(second, first)
        assert value == measure(np.flip(first, axes), np.flip(second, axes))
    assert jaccard(first, second) == pytest.approx(dice(first, second) / (2 - dice(first, second)))


@given(pairs)
def test_lesions_are_the_components_in_scan_order_with_their_overlaps(masks) -> None:
    first, second = (components(m) for m in masks)
    one, other = (Delineation.of(m, ONE).lesions for m in masks)
    assert one.voxels.tolist() == [len(c) for c in first]
    assert one.overlap(other).toarray().tolist() == [[len(a & b) for b in second] for a in first]


def test_a_lesion_is_as_wide_as_the_sphere_of_its_volume() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[0, 0, 0], mask[3:5, 3:5, 3:5] = True, True
    spacing = (5.0, 2.0, 1.0)
    one, eight = Delineation.of(mask, spacing).lesions.diameters_mm(spacing)
    assert math.pi / 6 * one**3 == pytest.approx(10)
    assert eight == pytest.approx(2 * one)


def test_what_lies_within_another_mask() -> None:
    mask, half = np.zeros((2, 4, 4, 4), bool)
    mask[1:3, 1:3, 1:3], half[:, :, 2:] = True, True
    inside = Delineation.of(mask, ONE).within(half)
    assert (inside.voxels, inside.shape) == (4, (4, 4, 4))
    assert inside.shared_with(Delineation.of(mask & half, ONE)) == 4
    assert inside.within(np.zeros_like(half)).voxels == 0


def test_volumes_of_two_shapes_are_refused() -> None:
    first, second = (Delineation.of(np.ones((2, 2, n), bool), ONE) for n in (2, 3))
    with pytest.raises(ValueError, match=r"\(2, 2, 2\) and \(2, 2, 3\)"):
        first.shared_with(second)
