import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from liverseg.core.evaluation import disagreement as step
from liverseg.core.evaluation.disagreement import Lesion

SHAPE = (3, 4, 6)
EMPTY = np.zeros(SHAPE, bool)
MASKS = st.lists(arrays(bool, SHAPE), min_size=2, max_size=5)


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = EMPTY.copy()
    mask[z, y, x] = True
    return mask


ONE = box(slice(1, 2), slice(0, 2), slice(0, 2))
WIDER = box(slice(1, 2), slice(0, 2), slice(0, 4))


def test_four_networks_counted_by_hand() -> None:
    masks = [ONE, ONE, WIDER, EMPTY]
    counted = step.votes(masks)
    assert counted[1, 0].tolist() == [3, 3, 1, 1, 0, 0]
    # 4 x 3/4 x 1/4 either way; three against one is as uneven as one against three.
    per_voxel = step.disagreement(counted, 4)
    assert per_voxel[1, 0].tolist() == [0.75, 0.75, 0.75, 0.75, 0, 0]
    assert per_voxel.dtype == np.float32
    # Dice of the pairs: the same masks 1, one in the other 2 x 4 / 12 twice, with none 0 thrice.
    assert step.case_uncertainty(masks) == pytest.approx(1 - (1 + 2 * 2 / 3) / 6)


def test_half_against_half_is_the_most_and_all_of_one_mind_is_none() -> None:
    counted = step.votes([ONE, ONE, EMPTY, EMPTY])
    assert step.disagreement(counted, 4)[ONE].tolist() == [1, 1, 1, 1]
    assert step.disagreement(step.votes([ONE] * 4), 4).max() == 0
    assert step.case_uncertainty([ONE] * 4) == 0
    assert step.case_uncertainty([EMPTY] * 4) == 0
    assert step.case_uncertainty([EMPTY, ONE]) == 1


def test_a_lesion_has_the_share_of_votes_against_its_voxels() -> None:
    far = box(slice(0, 3), slice(3, 4), slice(5, 6))
    far[1, 3, 4] = True
    segmentation = WIDER | far
    counted = step.votes([ONE, WIDER, WIDER, WIDER])
    first, second = step.lesions(segmentation, counted, 4)
    # In scan order: the far one begins in the first slice, and nobody else sees it.
    assert first == Lesion(1, 4, 1, 1.0)
    assert second == Lesion(2, 8, 1, pytest.approx((4 * 0 + 4 * 0.25) / 8))


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    corner = EMPTY.copy()
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert len(step.lesions(corner, step.votes([corner]), 1)) == 1
    assert step.lesions(EMPTY, step.votes([corner]), 1) == []


@settings(max_examples=100)
@given(masks=MASKS)
def test_what_holds_for_any_masks(masks) -> None:
    counted = step.votes(masks)
    per_voxel = step.disagreement(counted, len(masks))
    assert 0 <= per_voxel.min() <= per_voxel.max() <= 1
    np.testing.assert_array_equal(per_voxel > 0, np.any(masks, axis=0) & ~np.all(masks, axis=0))
    uncertainty = step.case_uncertainty(masks)
    assert -1e-12 <= uncertainty <= 1
    assert uncertainty == pytest.approx(step.case_uncertainty(masks[::-1]))
    flipped = step.case_uncertainty([mask[:, ::-1] for mask in masks])
    assert uncertainty == pytest.approx(flipped)
    lesions = step.lesions(masks[0], counted, len(masks))
    assert sum(lesion.voxels for lesion in lesions) == masks[0].sum()
    # The network's own vote is one of them.
    assert all(-1e-12 <= lesion.uncertainty <= 1 - 1 / len(masks) + 1e-12 for lesion in lesions)


@settings(max_examples=100)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12).filter(
        lambda pairs: all(len(set(side)) > 1 for side in zip(*pairs, strict=True))
    )
)
def test_the_rank_correlation_is_scipy_s_also_with_ties(pairs) -> None:
    first, second = ([float(p[side]) for p in pairs] for side in (0, 1))
    expected = stats.spearmanr(first, second).statistic
    assert step.rank_correlation(first, second) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])],
)
def test_a_rank_correlation_that_is_not_defined_is_none(first, second) -> None:
    assert step.rank_correlation(first, second) is None


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        step.votes([EMPTY, EMPTY[:1]])
    with pytest.raises(ValueError, match="shapes differ"):
        step.lesions(EMPTY[:1], step.votes([EMPTY]), 1)
    with pytest.raises(ValueError, match="256 masks"):
        step.votes([EMPTY] * 256)
    with pytest.raises(ValueError, match="1 values and 2"):
        step.rank_correlation([1], [1, 2])
