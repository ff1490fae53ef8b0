import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from liverseg.core.data.case import TrainingCase
from liverseg.core.volumes.grid import NetworkGrid
from liverseg.errors import CaseError
from liverseg.network.augmentation import Augmentation, change_grey_values, sample
from liverseg.network.patches import PatchSampler, gather, reflected_indices
from liverseg.network.sampled_case import PackedMask, Voxels
from liverseg.settings import Settings, TrainingSettings
from tests.network.plain_sampler import PlainSampler


def sampler(cases: Mapping[str, TrainingCase], settings: Settings, seed: int = 3) -> PatchSampler:
    return PatchSampler(cases.values(), settings.network, settings.training, seed)


def test_ninety_percent_of_the_patches_hold_a_lesion_voxel_in_the_output_window(
    cases: dict[str, TrainingCase], tiny: Settings
) -> None:
    source = sampler({"one": cases["one"], "none": cases["none"]}, tiny)
    shares = [bool(source.patch(i).lesion.any()) for i in range(300)]
    # The other tenth comes from either case and may see a lesion by chance.
    assert 0.85 < np.mean(shares) < 0.98


def test_every_other_patch_holds_a_liver_voxel(
    cases: dict[str, TrainingCase], tiny: Settings
) -> None:
    only_liver = replace(tiny, training=replace(tiny.training, lesion_fraction=0.0))
    source = sampler(cases, only_liver)
    assert all(source.patch(i).loss_mask.any() for i in range(50))


def test_patches_come_from_all_cases(cases: dict[str, TrainingCase], tiny: Settings) -> None:
    still = replace(tiny.training, contrast=(1.0, 1.0), brightness_sd=0.0)
    constant = {
        name: replace(case, image=np.full_like(case.image, number))
        for number, (name, case) in enumerate(cases.items())
    }
    source = sampler(constant, replace(tiny, training=still))
    drawn = [float(source.patch(i).image[0, 0, 0]) for i in range(100)]
    # Nine tenths from the two cases with a lesion, one tenth from all three.
    assert 30 < drawn.count(0.0) < 70
    assert 30 < drawn.count(1.0) < 70
    assert 0 < drawn.count(2.0) < 15


def test_a_patch_depends_on_seed_and_index_alone(
    cases: dict[str, TrainingCase], tiny: Settings
) -> None:
    first, second = sampler(cases, tiny), sampler(cases, tiny)
    second.patch(0)
    np.testing.assert_array_equal(first.patch(7).image, second.patch(7).image)
    assert not np.array_equal(first.patch(7).image, sampler(cases, tiny, 4).patch(7).image)


def test_image_and_masks_of_a_patch_lie_on_each_other(
    cases: dict[str, TrainingCase], tiny: Settings
) -> None:
    case = cases["one"]
    marked = replace(case, image=case.lesion.astype(np.float32))
    still = replace(tiny.training, contrast=(1.0, 1.0), brightness_sd=0.0)
    source = sampler({"one": marked}, replace(tiny, training=still))
    halo = NetworkGrid(tiny.network).halo
    inner = tuple(slice(h, -h) for h in halo)
    for index in range(40):
        patch = source.patch(index)
        np.testing.assert_array_equal(patch.image[inner], patch.lesion)


def random_cases(rng: np.random.Generator) -> list[TrainingCase]:
    """Cases of several sizes; livers small or large, at the border or not, masks of any shape."""
    cases = []
    for number in range(3):
        shape = tuple(rng.integers((4, 20, 20), (40, 150, 150)))
        liver, loss_mask, lesion = np.zeros((3, *shape), bool)
        start = [int(rng.integers(0, size - 3)) for size in shape]
        box = tuple(slice(s, s + int(rng.integers(3, 40))) for s in start)
        liver[box] = rng.random(liver[box].shape) < 0.6
        liver[tuple(start)] = loss_mask[tuple(start)] = True
        loss_mask |= liver & (rng.random(shape) < 0.9)
        if number != 1:
            lesion[box] = rng.random(liver[box].shape) < 0.1
            # Beside the liver too, and in the last voxel of the volume.
            lesion |= rng.random(shape) < 0.0005
            lesion[tuple(start)] = lesion[-1, -1, -1] = True
        image = rng.standard_normal(shape, dtype=np.float32)
        cases.append(TrainingCase(image, liver, lesion, loss_mask))
    return cases


@pytest.mark.parametrize("seed", range(6))
def test_patches_are_those_of_whole_volumes_bit_for_bit(tiny: Settings, seed: int) -> None:
    settings = replace(tiny, training=replace(tiny.training, lesion_fraction=0.5))
    cases = random_cases(np.random.default_rng(seed))
    source = PatchSampler(iter(cases), settings.network, settings.training, seed)
    plain = PlainSampler(cases, settings, seed)
    for index in range(60):
        for own, expected in zip(
            vars(source.patch(index)).values(), vars(plain.patch(index)).values(), strict=True
        ):
            assert (own.dtype, own.flags.c_contiguous) == (expected.dtype, True)
            np.testing.assert_array_equal(own, expected)


def test_a_sampler_keeps_a_tenth_of_a_volume_of_which_patches_reach_a_tenth(
    tiny: Settings,
) -> None:
    shape = (12, 600, 600)
    liver = np.zeros(shape, bool)
    liver[4:8, 300:340, 300:340] = True
    made = []

    def cases() -> Iterator[TrainingCase]:
        for _ in range(3):
            # What is left of the cases before is counted when the next one is made.
            made.append(tracemalloc.get_traced_memory()[0])
            yield TrainingCase(np.zeros(shape, np.float32), liver.copy(), liver.copy(), liver)

    tracemalloc.start()
    try:
        PatchSampler(cases(), tiny.network, tiny.training, 0)
    finally:
        tracemalloc.stop()
    whole = 4 * liver.size
    assert made[2] - made[1] < whole / 10


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_packed_masks_and_runs_are_the_mask(share: float) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (3, 7, 8), (4, 9, 17), (2, 3, 40)):
        mask = rng.random(shape) < share
        packed, voxels = PackedMask.of(mask), Voxels.of(mask)
        indices = [rng.integers(0, size, 2 * size) for size in shape]
        np.testing.assert_array_equal(packed.gather(indices), mask[np.ix_(*indices)])
        assert [voxels.flat_index(n) for n in range(voxels.size)] == np.flatnonzero(mask).tolist()


def test_no_training_case_with_a_lesion_is_refused(
    cases: dict[str, TrainingCase], tiny: Settings
) -> None:
    with pytest.raises(CaseError, match="none of the 1 training cases has a lesion"):
        sampler({"none": cases["none"]}, tiny)


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (-6, 8, [3, 3, 3, 3, 2, 1, 0, 1]),
        (2, 8, [2, 3, 2, 1, 0, 0, 0, 0]),
        (0, 4, [0, 1, 2, 3]),
    ],
)
def test_outside_the_image_reflects_to_size_minus_one_then_edge(
    start: int, count: int, expected: list[int]
) -> None:
    assert reflected_indices(start, count, 4).tolist() == expected


def test_a_single_slice_can_be_padded() -> None:
    assert reflected_indices(-2, 5, 1).tolist() == [0] * 5


def test_gather_equals_plain_indexing() -> None:
    volume = np.random.default_rng(0).random((5, 7, 9))
    indices = [np.array([4, 0, 0]), np.array([6, 5, 4, 3]), np.array([8, 2, 2, 7])]
    np.testing.assert_array_equal(gather(volume, indices), volume[np.ix_(*indices)])


def test_contrast_turns_about_the_mean_and_brightness_is_added() -> None:
    patch = np.array([[[0.0, 1.0, 2.0]]], dtype=np.float32)
    changed = change_grey_values(patch, Augmentation((False,) * 3, 0.5, 0.25))
    np.testing.assert_allclose(changed, [[[0.75, 1.25, 1.75]]])


def test_drawn_changes_have_the_paper_s_distributions() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample(rng, TrainingSettings()) for _ in range(4000)]
    assert np.mean([d.flips for d in drawn], axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    contrast = [d.contrast for d in drawn]
    assert 0.75 <= min(contrast) < 0.76
    assert 1.24 < max(contrast) <= 1.25
    assert np.std([d.brightness for d in drawn]) == pytest.approx(0.25, abs=0.01)
