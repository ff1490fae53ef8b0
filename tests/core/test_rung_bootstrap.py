import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liverseg.core.race import rung_bootstrap
from liverseg.core.race.halving import decide


def constant(value: float, cases: int = 5, validations: int = 1) -> np.ndarray:
    return np.full((validations, cases), value)


def test_seeds_that_are_better_on_every_case_are_promoted_in_every_resample() -> None:
    rng = np.random.default_rng(1)
    cases = rng.uniform(0.2, 0.6, 6)
    curves = {seed: cases[None] + 0.05 * seed for seed in range(4)}
    assessment = rung_bootstrap.assess(curves, {2, 3}, 2, "best")
    assert assessment.promoted == {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}
    assert assessment.repeated == 1.0
    assert assessment.inside_noise == ()


def test_near_tied_seeds_are_flagged_and_those_far_from_the_cut_are_not() -> None:
    rng = np.random.default_rng(2)
    curves = {0: constant(0.9), 3: constant(0.1)}
    # The same mean but for a hair, on cases that differ much.
    cases = rng.normal(0.5, 0.1, 5)
    curves |= {1: cases[None] + 0.001, 2: cases[None, ::-1]}
    assessment = rung_bootstrap.assess(curves, {0, 1}, 2, "best")
    assert assessment.promoted[0] == 1.0
    assert assessment.promoted[3] == 0.0
    assert 0.3 < assessment.promoted[1] < 0.7
    assert assessment.inside_noise == (1, 2)
    assert assessment.repeated == pytest.approx(assessment.promoted[1])


def test_the_frequency_is_that_of_all_resamples_counted_by_hand() -> None:
    # Seed 0 is ahead by 0.2 on one case, behind by 0.1 on another, equal on three: it loses where
    # the second is drawn more than twice as often as the first, wins the tie otherwise.
    curves = {0: np.array([[0.5, 0.3, 0.4, 0.4, 0.4]]), 1: np.array([[0.3, 0.4, 0.4, 0.4, 0.4]])}
    assessment = rung_bootstrap.assess(curves, {0}, 1, "best", resamples=100_000)
    never_first = 0.8**5 - 0.6**5  # and the second at least once
    once = 20 * 0.2 * 0.2**3 * 0.6 + 5 * 0.2 * 0.2**4  # and the second three or four times
    assert assessment.promoted[0] == pytest.approx(1 - never_first - once, abs=0.006)
    assert assessment.promoted[1] == pytest.approx(1 - assessment.promoted[0])


def test_each_resample_chooses_the_best_iteration_anew() -> None:
    # At either iteration seed 0 is bad on half of the cases; on most resamples one of them is
    # above the constant seed, while the mean over all cases never is.
    early, late = [0.8, 0.8, 0.8, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.8, 0.8, 0.8]
    curves = {0: np.array([early, late]), 1: constant(0.51, 6)}
    assessment = rung_bootstrap.assess(curves, {1}, 1, "best")
    only_late = rung_bootstrap.assess(curves, {1}, 1, "last")
    # One of the two is above 0.51 unless three are drawn of each half, 20 of 64 resamples.
    assert assessment.promoted[0] == pytest.approx(44 / 64, abs=0.02)
    assert only_late.promoted[0] == pytest.approx(22 / 64, abs=0.02)


def test_equal_seeds_tie_to_the_lower_one_as_in_the_race() -> None:
    cases = np.random.default_rng(3).uniform(size=(3, 7))
    curves = {5: cases, 2: cases.copy(), 9: cases.copy()}
    assessment = rung_bootstrap.assess(curves, {2}, 1, "best", resamples=1000)
    assert assessment.promoted == {2: 1.0, 5: 0.0, 9: 0.0}


def test_the_same_random_seed_gives_the_same_frequencies_and_another_one_others() -> None:
    rng = np.random.default_rng(4)
    curves = {seed: rng.uniform(size=(4, 5)) for seed in range(6)}
    one, same, other = (
        rung_bootstrap.assess(curves, {0, 1, 2}, 3, "best", resamples=1000, random_seed=n)
        for n in (0, 0, 1)
    )
    assert one == same != other


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4\] cases"):
        rung_bootstrap.assess({0: constant(0.5, 4)}, {0}, 1, "best")
    with pytest.raises(ValueError, match=r"\[5, 6\] cases"):
        rung_bootstrap.assess({0: constant(0.5, 5), 1: constant(0.5, 6)}, {0}, 1, "best")


@settings(deadline=None, max_examples=60)
@given(
    seeds=st.integers(1, 8),
    promotion_slots=st.integers(1, 8),
    cases=st.integers(5, 9),
    metric=st.sampled_from(["best", "last"]),
    random=st.integers(0, 2**32 - 1),
)
def test_the_frequencies_add_up_to_the_promotion_slots(
    seeds, promotion_slots, cases, metric, random
) -> None:
    rng = np.random.default_rng(random)
    curves = {seed: rng.uniform(size=(rng.integers(1, 5), cases)).round(1) for seed in range(seeds)}
    means = {s: float((v if metric == "best" else v[-1:]).mean(1).max()) for s, v in curves.items()}
    promoted = decide(means, promotion_slots).promoted
    assessment = rung_bootstrap.assess(curves, promoted, promotion_slots, metric, resamples=200)
    assert sum(assessment.promoted.values()) == pytest.approx(min(promotion_slots, seeds))
    assert all(0 <= share <= 1 for share in assessment.promoted.values())
    assert assessment.repeated <= min(assessment.promoted[seed] for seed in promoted)
    if seeds <= promotion_slots:
        assert assessment.inside_noise == ()
