import numpy as np
import pytest

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.postprocessing import clean
from liverseg.core.volumes.threshold import Threshold, fit

SHAPE = (4, 30, 30)


def case(seed: int, contrast: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A liver of mean 0.5 with one lesion whose grey value differs by `contrast`."""
    rng = np.random.default_rng(seed)
    _, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    liver = np.broadcast_to((y - 15) ** 2 + (x - 15) ** 2 < 13**2, SHAPE).copy()
    lesion = np.broadcast_to((y - 14) ** 2 + (x - 17) ** 2 < 5**2, SHAPE).copy()
    image = rng.normal(0.5, 0.05, SHAPE) + contrast * lesion
    # What lies outside the liver is far darker and far brighter than any lesion.
    image[~liver] = rng.choice([-9.0, 9.0], int((~liver).sum()))
    return image.astype(np.float32), liver, lesion


@pytest.mark.parametrize(("contrast", "sign"), [(-0.6, -1), (0.6, 1)])
def test_it_finds_dark_lesions_and_bright_ones(contrast: float, sign: int) -> None:
    cases = [case(seed, contrast) for seed in range(3)]
    best = fit(cases)
    assert best.sign == sign
    assert 0.1 < sign * (best.value - 0.5) < 0.5
    assert best.training_dice > 0.95


def test_the_training_dice_is_that_of_its_own_segmentations() -> None:
    cases = [case(seed, -0.12) for seed in range(3)]
    best = fit(cases)
    own = [
        dice(clean(best.probability(image, liver), liver) > 0.5, lesion)
        for image, liver, lesion in cases
    ]
    assert best.training_dice == pytest.approx(np.mean(own))
    assert 0.2 < best.training_dice < 0.95


def test_no_other_quantile_is_better() -> None:
    """The best of all grey values, tried one by one, is at most a step of the search away."""
    cases = [case(seed, -0.12) for seed in range(2)]
    best = fit(cases)
    inside = np.concatenate([image[liver] for image, liver, _ in cases])
    every = np.quantile(inside, np.linspace(0, 1, 200))
    means = [
        np.mean([dice(clean(t.probability(i, m), m) > 0.5, lesion) for i, m, lesion in cases])
        for t in (Threshold(float(v), sign, 0) for v in every for sign in (-1, 1))
    ]
    assert best.training_dice == pytest.approx(max(means), abs=0.02)


def test_it_sees_nothing_outside_the_liver() -> None:
    image, liver, _ = case(0, -0.6)
    probability = Threshold(100.0, -1, 0).probability(image, liver)
    assert probability.dtype == np.float32
    assert np.array_equal(probability == 1, liver)
