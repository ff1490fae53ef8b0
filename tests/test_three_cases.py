"""What the network is given, and what it has learned, on the three cases of tests/three_cases.py.

Expected values are worked out from the cases' geometry, by another way than the code's.
"""

import time
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from liverseg.core.data.case import PreparedCase
from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.postprocessing import clean
from liverseg.core.volumes.threshold import fit
from liverseg.imaging.resampling import probability_to_original
from liverseg.network.checkpoint import BEST, encode, load_network
from liverseg.network.prediction import Predictor
from liverseg.network.training import Training, train
from liverseg.settings import Settings, from_mapping
from liverseg.steps.data import scan
from liverseg.steps.data.cases import load_case, load_labelled, load_training
from liverseg.steps.results.evaluate import _entry
from liverseg.steps.results.postprocess import segment
from liverseg.storage.memory import MemoryStore
from tests.three_cases import SPACING_MM, write_cases

CPU = torch.device("cpu")
LEARNING = {
    "network": {
        "features": [6, 12, 16],
        "z_convolutions": [False, False, True],
        "pooling": [[1, 2, 2], [1, 2, 2]],
        "batch_norm_momentum": 0.1,
    },
    "training": {"patch": [12, 76, 76], "validation_interval": 40, "learning_rate": 3e-3},
}
LEARNING_CPU_SECONDS = 60
"""What the learning test may take, on any machine that is not older than these tests."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return from_mapping(LEARNING)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def keys(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings, store: MemoryStore
) -> Mapping[str, str]:
    """Keys of the prepared cases by role."""
    data = write_cases(tmp_path_factory.mktemp("three") / "data")
    dataset = scan.run(data, store, settings, keep_prepared=True).dataset
    assert dataset is not None
    return {case.role: case.key for case in dataset.cases}


@pytest.fixture(scope="module")
def cases(keys: Mapping[str, str], store: MemoryStore) -> Mapping[str, PreparedCase]:
    """The prepared cases by role."""
    return {role: load_case(store, key) for role, key in keys.items()}


def centre_mm(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    centre: np.ndarray = np.argwhere(mask).mean(axis=0) * spacing_mm
    return centre


def test_masks_keep_their_place_and_volume_on_the_network_s_grid(
    cases: Mapping[str, PreparedCase],
) -> None:
    for case in cases.values():
        pairs = [(case.liver, case.original_liver)]
        pairs += [(case.raters[r], case.original_raters[r]) for r in ("R1", "R2")]
        for prepared, original in pairs:
            before, after = centre_mm(original, SPACING_MM), centre_mm(prepared, case.spacing_mm)
            assert after == pytest.approx(before, abs=0.8)
            volume = np.prod(case.spacing_mm) / np.prod(SPACING_MM)
            assert prepared.sum() * volume == pytest.approx(original.sum(), rel=0.05)


def test_the_image_lies_under_its_masks(cases: Mapping[str, PreparedCase]) -> None:
    case = cases["training"]
    # Vessels are as dark, the streak is bright: the lesions stand out in the median.
    lesion = case.raters["R1"] & case.liver
    assert np.median(case.image[lesion]) < 0.1
    assert np.median(case.image[case.liver & ~case.raters["R1"]]) > 0.25


def test_the_loss_mask_is_the_liver_and_10_mm_around_it_within_each_slice(
    cases: Mapping[str, PreparedCase],
) -> None:
    case = cases["training"]
    for liver, loss_mask in zip(case.liver, case.loss_mask, strict=True):
        if not liver.any():
            assert not loss_mask.any()
            continue
        everywhere = np.argwhere(np.ones_like(liver)) * case.spacing_mm[1:]
        distance, _ = KDTree(np.argwhere(liver) * case.spacing_mm[1:]).query(everywhere)
        np.testing.assert_array_equal(loss_mask.ravel(), distance <= 10)


def test_a_mask_comes_back_to_the_file_s_grid_where_it_was(
    cases: Mapping[str, PreparedCase],
) -> None:
    case = cases["test"]
    soft = probability_to_original(
        case.raters["R1"].astype(np.float32), case.spacing_mm, case.original_geometry
    )
    original = case.original_raters["R1"]
    assert dice(soft > 0.5, original) > 0.95
    inside = original & case.original_liver
    back = segment(case.raters["R1"].astype(np.float32), case)
    assert centre_mm(back, SPACING_MM) == pytest.approx(centre_mm(inside, SPACING_MM), abs=0.5)
    assert not (back & ~case.original_liver).any()


def test_a_bright_streak_on_the_liver_s_border_is_no_lesion(
    cases: Mapping[str, PreparedCase],
) -> None:
    case = cases["test"]
    streak = (case.image > 0.8) & case.liver
    assert streak.sum() > 300
    kept = clean(streak.astype(np.float32), case.liver) > 0.5
    assert kept.sum() < 0.5 * streak.sum()


def test_lesions_are_measured_in_the_file_s_millimetres(cases: Mapping[str, PreparedCase]) -> None:
    case = cases["test"]
    entry = _entry("three", {"multi": case.original_raters["R2"]}, case)
    assert entry["spacing_mm"] == pytest.approx(SPACING_MM)
    # Balls of 8, 9 and 8 mm radius: their diameters, as far as voxels can tell.
    assert sorted(entry["lesion_diameters_mm"]["R1"]) == pytest.approx([16, 16, 18], abs=0.5)
    assert sorted(entry["lesion_diameters_mm"]["R2"]) == pytest.approx([14, 16], abs=0.5)
    compared = entry["algorithms"]["A1"]
    assert compared["dice"]["R2"] == 1.0
    assert 0.5 < compared["dice"]["R1"] < 0.75
    assert compared["hd_mm"]["R1"] > 20  # R2 lacks a lesion


@pytest.mark.parametrize("rater", ["R1", "R2"])
def test_the_training_rater_teaches_and_nobody_else(
    cases: Mapping[str, PreparedCase], keys: Mapping[str, str], store: MemoryStore, rater: str
) -> None:
    for load in (load_training, load_labelled):
        loaded = load(store, keys["training"], rater)
        np.testing.assert_array_equal(loaded.lesion, cases["training"].raters[rater])
    assert (cases["training"].raters["R1"] != cases["training"].raters["R2"]).sum() > 1000


@pytest.mark.slow
def test_a_tiny_network_learns_more_than_a_threshold_sees(
    cases: Mapping[str, PreparedCase],
    keys: Mapping[str, str],
    store: MemoryStore,
    settings: Settings,
) -> None:
    """Any mistake in data, patches, loss, network or prediction costs the Dice asked for here."""
    torch.set_num_threads(1)
    teaching = load_training(store, keys["training"], "R1")
    validating = {"two": load_labelled(store, keys["validation"], "R1")}
    test = cases["test"]
    reference = test.original_raters["R1"]
    threshold = fit([lambda: (teaching.image, teaching.liver, teaching.lesion)])
    seen = dice(segment(threshold.probability(test.image, test.liver), test), reference)
    start = time.process_time()
    training = Training(settings, 0, [teaching], validating, CPU)
    train(training, 320, lambda validation: None)
    network = load_network(settings.network, encode(training)[BEST])
    learned = Predictor.build(network, CPU).probabilities(test.image, test.liver)
    score = dice(segment(learned, test), reference)
    assert time.process_time() - start < LEARNING_CPU_SECONDS
    assert score > 0.5
    assert score > seen + 0.1
