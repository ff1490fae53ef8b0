import numpy as np
import pytest

from liverseg.core.volumes.postprocessing import binarise, clean, open_in_border

SHAPE = (3, 40, 50)


@pytest.fixture
def liver():
    mask = np.zeros(SHAPE, bool)
    mask[:, 5:35, 8:42] = True
    return mask


def shifted(mask, dy, dx):
    """The slice moved by (dy, dx), background coming in: written out, without scipy."""
    moved = np.zeros_like(mask)
    h, w = mask.shape
    ys, xs = slice(max(0, dy), min(h, h + dy)), slice(max(0, dx), min(w, w + dx))
    yt, xt = slice(max(0, -dy), min(h, h - dy)), slice(max(0, -dx), min(w, w - dx))
    moved[ys, xs] = mask[yt, xt]
    return moved


def neighbourhood(mask, radius, combine):
    steps = range(-radius, radius + 1)
    return combine([shifted(mask, dy, dx) for dy in steps for dx in steps], axis=0)


def by_the_letter(tumour, liver):
    """docs/method.md section 12, steps 2 and 3, slice by slice."""
    result = np.zeros_like(tumour)
    for z in range(len(tumour)):
        border = liver[z] & ~neighbourhood(liver[z], 3, np.all)
        opened = neighbourhood(neighbourhood(tumour[z], 1, np.all), 1, np.any)
        result[z] = (tumour[z] & ~border) | (opened & border)
    return result


@pytest.mark.parametrize("seed", range(5))
def test_the_result_is_the_one_that_the_rule_spells_out(seed):
    rng = np.random.default_rng(seed)
    liver = rng.random(SHAPE) < 0.98
    liver[:, :3] = False
    tumour = (rng.random(SHAPE) < 0.7) & liver
    assert np.array_equal(open_in_border(tumour, liver), by_the_letter(tumour, liver))


def test_a_thin_line_vanishes_in_the_border_and_stays_inside(liver):
    tumour = np.zeros(SHAPE, bool)
    tumour[1, 20, 8:42] = True
    kept = np.flatnonzero(open_in_border(tumour, liver)[1, 20])
    assert kept.tolist() == list(range(11, 39))  # a ring of 3 voxels, half of the 7 x 7 kernel


def test_a_blob_of_3_x_3_in_the_border_stays(liver):
    tumour = np.zeros(SHAPE, bool)
    tumour[1, 5:8, 20:23] = True
    assert np.array_equal(open_in_border(tumour, liver), tumour)


def test_slices_do_not_see_each_other(liver):
    tumour = np.zeros(SHAPE, bool)
    tumour[:, 5:7, 20:22] = True  # 2 x 2 x 3: a kernel with depth would treat it otherwise
    assert not open_in_border(tumour, liver).any()


def test_outside_the_image_is_background():
    liver = np.ones((1, 20, 20), bool)
    tumour = np.zeros_like(liver)
    tumour[0, 0, :] = True
    tumour[0, 10, :3] = True
    assert not open_in_border(tumour, liver).any()


def test_removed_voxels_become_0_and_all_others_keep_their_probability(liver):
    probability = np.full(SHAPE, 0.3, np.float32)
    probability[1, 20, :] = 0.9
    cleaned = clean(probability, liver)
    assert cleaned.dtype == np.float32
    assert not cleaned[~liver].any()
    assert not cleaned[1, 20, 8:11].any()  # removed in the border
    assert np.all(cleaned[1, 20, 11:39] == np.float32(0.9))
    assert np.all(cleaned[0][liver[0]] == np.float32(0.3))  # below the threshold, but true


def test_a_probability_of_exactly_one_half_is_no_tumour(liver):
    probability = np.zeros(SHAPE, np.float32)
    probability[1, 20, :] = 0.5  # a line that the opening would remove, were it tumour
    assert not binarise(probability, liver).any()
    assert np.array_equal(clean(probability, liver), np.where(liver, probability, 0))


def test_cropping_to_the_liver_changes_nothing(liver):
    rng = np.random.default_rng(7)
    probability = rng.random(SHAPE, dtype=np.float32)
    tumour = (probability > 0.5) & liver
    removed = tumour & ~by_the_letter(tumour, liver)
    assert np.array_equal(clean(probability, liver), np.where(liver & ~removed, probability, 0))


def test_an_empty_liver_leaves_nothing():
    probability = np.ones(SHAPE, np.float32)
    assert not clean(probability, np.zeros(SHAPE, bool)).any()
