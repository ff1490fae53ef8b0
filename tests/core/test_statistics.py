import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from liverseg.core.evaluation.statistics import (
    RESAMPLES,
    adjusted,
    bootstrap_interval,
    exact_p,
    summarise,
    wilcoxon,
)


def differences_with_rank_sum(total: int, n: int) -> list[float]:
    """Differences without ties, whose positive ranks add up to `total`."""
    positive, left = set(), total
    for rank in range(n, 0, -1):
        if rank <= left:
            positive.add(rank)
            left -= rank
    assert left == 0
    return [rank / 100 if rank in positive else -rank / 100 for rank in range(1, n + 1)]


@pytest.mark.parametrize(
    ("rank_sum", "published"),
    [(17, 0.0017), (40, 0.0269), (21, 0.0029), (20, 0.0025), (19, 0.0022)],
)
def test_the_five_p_values_of_table_1(rank_sum, published) -> None:
    differences = differences_with_rank_sum(rank_sum, 19)
    result = wilcoxon(differences, [0.0] * 19)
    assert result.statistic == rank_sum
    assert result.p is not None
    assert round(result.p, 4) == published
    # Without ties scipy's own exact distribution is the same one.
    assert result.p_exact == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def by_all_sign_flips(differences: list[float]) -> float:
    """Every one of the 2^n ways to give signs, counted."""
    values = np.array([d for d in differences if d != 0])
    ranks = stats.rankdata(np.abs(values))
    middle = ranks.sum() / 2
    seen = abs(ranks[values > 0].sum() - middle)
    sums = [
        sum(r for r, taken in zip(ranks, flips, strict=True) if taken)
        for flips in itertools.product((False, True), repeat=len(ranks))
    ]
    return sum(abs(s - middle) >= seen - 1e-9 for s in sums) / len(sums)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9).filter(any))
def test_the_exact_p_counts_all_sign_flips_with_ties_and_zeros(differences) -> None:
    assert exact_p(differences) == pytest.approx(by_all_sign_flips(differences))


def test_a_hundred_cases_are_no_2_to_the_100() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 1, 100)
    result = wilcoxon(values.tolist(), [0.0] * 100)
    assert result.p_exact == pytest.approx(result.p, rel=0.1)


def test_all_differences_zero_is_p_1() -> None:
    result = wilcoxon([0.7, 0.8, 0.9], [0.7, 0.8, 0.9])
    assert (result.p, result.p_exact, result.reason, result.n) == (1.0, 1.0, None, 3)


def test_thirds_that_differ_in_their_last_bit_share_a_rank() -> None:
    assert 1 - 2 / 3 != 1 / 3
    result = wilcoxon([1.0, 1 / 3, 0.0], [2 / 3, 0.0, 1 / 3])
    assert result.statistic == 2.0  # three mid-ranks of 2


@pytest.mark.parametrize(
    ("first", "second", "n"), [([0.5], [0.6], 1), ([], [], 0), ([0.5, None], [0.1, 0.2], 1)]
)
def test_under_two_cases_there_is_a_reason_instead_of_a_p_value(first, second, n) -> None:
    result = wilcoxon(first, second)
    assert (result.p, result.p_exact, result.statistic) == (None, None, None)
    assert (result.n, result.n_nan) == (n, len(first) - n)
    assert result.reason is not None
    assert "a paired test needs 2" in result.reason


def test_cases_without_a_value_are_left_out_of_the_test_and_counted() -> None:
    result = wilcoxon([0.1, None, 0.3, 0.9], [0.2, 0.5, None, 0.1])
    assert (result.n, result.n_nan) == (2, 2)


def test_adjusted_p_by_hand() -> None:
    # p * 4 / rank, from the largest p down and never rising; here it is 0.04 for every rank.
    assert adjusted([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.04, 0.04, 0.04])
    assert adjusted([0.001, 0.5]) == pytest.approx([0.002, 0.5])


def test_a_test_without_p_is_in_no_family() -> None:
    assert adjusted([0.01, None, 0.5]) == [pytest.approx(0.02), None, pytest.approx(0.5)]
    assert adjusted([None, None]) == [None, None]
    assert adjusted([]) == []


def test_a_summary_by_hand() -> None:
    summary = summarise([1.0, None, 2.0, 6.0])
    assert (summary.mean, summary.median, summary.n, summary.n_nan) == (3.0, 2.0, 3, 1)
    assert summary.sd == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert summary.ci95 is not None
    assert summary.ci95[0] < 3 < summary.ci95[1]


def test_one_value_has_no_spread_and_none_no_mean() -> None:
    one = summarise([0.5])
    assert (one.mean, one.sd, one.ci95, one.n) == (0.5, None, None, 1)
    assert summarise([None]).mean is None


def test_the_interval_is_the_same_every_time_and_close_to_the_normal_one() -> None:
    values = np.random.default_rng(5).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) != bootstrap_interval(values, seed=1)
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert RESAMPLES == 10_000


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_an_interval_lies_within_the_values(values) -> None:
    interval = summarise(values).ci95
    assert interval is not None
    assert min(values) - 1e-12 <= interval[0] <= interval[1] <= max(values) + 1e-12
