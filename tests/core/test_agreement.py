import pytest
from hypothesis import given
from hypothesis import strategies as st

from liverseg.core.evaluation.agreement import AS_GOOD_AS_RATERS, mean, pairs, phi, raters_identical

shares = st.floats(0, 1)


def test_the_pairs_of_three_raters() -> None:
    assert pairs(["R1", "R2", "R3"]) == [("R1", "R2"), ("R1", "R3"), ("R2", "R3")]
    assert pairs(["R1"]) == []


def test_as_far_from_the_raters_as_they_are_from_each_other_is_the_line() -> None:
    assert phi([0.8, 0.6], [0.7]) == pytest.approx(AS_GOOD_AS_RATERS)
    # The means count: e(A) = 0.4, e(R) = 0.2.
    assert phi([0.5, 0.6, 0.7], [0.7, 0.8, 0.9]) == pytest.approx(0.8)
    assert phi([1, 1], [0.7]) == 1
    assert phi([0, 0], [0.95]) == 0  # 1 - 0.1 * 1 / 0.05 would be -1


def test_raters_that_agree_wholly_leave_no_scale_and_are_reported() -> None:
    assert phi([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1
    assert phi([0.99, 0.99], [1.0]) == 0
    assert raters_identical([1.0, 1.0, 1.0])
    assert not raters_identical([1.0, 0.99, 1.0])


def test_one_rater_has_no_phi_instead_of_zero() -> None:
    assert phi([0.9], []) is None
    assert not raters_identical([])


def test_the_mean_is_over_the_defined_values() -> None:
    assert mean([None, 0.5, 1.0]) == 0.75
    assert mean([None]) is None


@given(st.lists(shares, min_size=2, max_size=5), st.lists(shares, min_size=1, max_size=6))
def test_phi_lies_between_0_and_1(with_raters, between) -> None:
    value = phi(with_raters, between)
    assert value is not None
    assert 0 <= value <= 1


@given(st.lists(shares, min_size=1, max_size=6).filter(lambda b: min(b) < 1), shares, shares)
def test_a_better_dice_never_lowers_phi(between, one, other) -> None:
    low, high = phi([min(one, other)], between), phi([max(one, other)], between)
    assert low is not None
    assert high is not None
    assert low <= high
