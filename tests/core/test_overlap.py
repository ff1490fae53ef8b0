import numpy as np
import pytest

from liverseg.core.evaluation.overlap import dice, jaccard

EMPTY = np.zeros((2, 3, 4), bool)


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    drawn = EMPTY.copy()
    for voxel in voxels:
        drawn[voxel] = True
    return drawn


def test_both_are_counted_from_voxels() -> None:
    first = mask((0, 0, 0), (0, 0, 1), (0, 0, 2))
    second = mask((0, 0, 2), (1, 2, 3))
    assert dice(first, second) == pytest.approx(2 * 1 / 5)
    assert jaccard(first, second) == pytest.approx(1 / 4)
    assert dice(first, second) == dice(second, first)


@pytest.mark.parametrize("measure", [dice, jaccard])
def test_two_empty_masks_agree_and_one_empty_mask_does_not(measure) -> None:
    some = mask((0, 0, 0))
    assert measure(EMPTY, EMPTY) == 1
    assert measure(EMPTY, some) == measure(some, EMPTY) == 0
    assert measure(some, some) == 1


@pytest.mark.parametrize("measure", [dice, jaccard])
def test_masks_that_would_broadcast_are_refused_with_both_shapes(measure) -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(1, 3, 4\)"):
        measure(EMPTY, EMPTY[:1])
