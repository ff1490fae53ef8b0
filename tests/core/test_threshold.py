from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes import threshold
from liverseg.core.volumes.grey_values import quantiles
from liverseg.core.volumes.postprocessing import border_of, clean, open_in_border, opened_in_border
from liverseg.core.volumes.threshold import Case, Threshold
from tests.core import plain_threshold

SHAPE = (4, 30, 30)


def fit(cases: list[Case], at_a_time: int = 1) -> Threshold:
    return threshold.fit([lambda case=case: case for case in cases], at_a_time)


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


def random_case(rng: np.random.Generator) -> Case:
    """Liver, lesions and grey values of any shape; at the border, and with ties or none."""
    shape = tuple(rng.integers((1, 3, 3), (5, 26, 26)))
    liver = ndimage.gaussian_filter(rng.standard_normal(shape), (0.5, 3, 3)) > -0.05
    if rng.random() < 0.2 or not liver.any():
        liver[:] = True
    lesion = ndimage.gaussian_filter(rng.standard_normal(shape), (0.5, 2, 2)) > 0.15
    image = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 1, 1)) - 0.4 * lesion
    if rng.random() < 0.3:
        image = np.round(image, 1)  # many voxels of one value, minus zero among them
    return image.astype(np.float32), liver, lesion & (rng.random() < 0.9)


@pytest.mark.slow
def test_it_is_the_threshold_that_trying_every_candidate_on_every_case_gives() -> None:
    rng = np.random.default_rng(0)
    signs = set()
    for number in range(30):
        cases = [random_case(rng) for _ in range(rng.integers(1, 6))]
        if number % 3 == 0:
            cases = [(-image, liver, lesion) for image, liver, lesion in cases]
        expected = plain_threshold.fit(cases)
        assert fit(cases, at_a_time=1 + number % 2) == expected
        signs.add(expected.sign)
    assert signs == {-1, 1}


def test_a_case_of_one_grey_value_is_fitted_as_well() -> None:
    image, liver, lesion = case(0, -0.6)
    flat = (np.full_like(image, 0.25), liver, lesion)
    assert fit([flat]) == plain_threshold.fit([flat])


def test_any_cut_of_the_opened_grey_values_is_the_opened_cut() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        image, liver, _ = random_case(rng)
        opened = opened_in_border(image, liver, border_of(liver))
        for limit in np.quantile(image, [0, 0.2, 0.5, 0.9, 1]).astype(np.float32):
            expected = open_in_border((image < limit) & liver, liver)
            np.testing.assert_array_equal(opened < limit, expected)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.random.default_rng(0).standard_normal(5000), id="of both signs"),
        pytest.param(np.random.default_rng(1).integers(-3, 4, 999), id="ties"),
        pytest.param(np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 1.0]), id="extremes"),
        pytest.param(np.array([2.0, 2.0, 2.0]), id="one value"),
    ],
)
def test_quantiles_of_parts_are_those_of_all_values(values: np.ndarray, parts: int) -> None:
    every = values.astype(np.float32)
    shares = np.linspace(0, 1, 64)
    result = quantiles(lambda count: (count(part) for part in np.array_split(every, parts)), shares)
    np.testing.assert_array_equal(result, np.quantile(every, shares))


def test_one_case_is_read_at_a_time() -> None:
    cases = [case(seed, -0.6) for seed in range(4)]
    alive: set[int] = set()
    most = []

    class Image(np.ndarray):
        """Knows when it is no longer used."""

        def __del__(self) -> None:
            alive.discard(id(self))

    def read(number: int) -> Case:
        image, liver, lesion = cases[number]
        own = image.copy().view(Image)
        alive.add(id(own))
        most.append(len(alive))
        return own, liver, lesion

    threshold.fit([partial(read, number) for number in range(4)])
    assert len(most) == 12
    assert max(most) <= 2  # the last one may wait for its successor
