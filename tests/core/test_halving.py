import itertools

import numpy as np
import pytest

from liverseg.core.race.halving import (
    Rung,
    decide,
    figures,
    guaranteed,
    hopeful,
    makespan,
    promotion_slots,
    rank,
    schedule,
)
from liverseg.errors import SettingsError

PAPER = schedule(16, 5_000, 80_000, 2)
PAPER_SECONDS_PER_ITERATION = 0.763


def hours_and_minutes(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def test_sixteen_seeds_become_one_at_the_papers_rungs():
    expected = [(16, 5_000), (8, 10_000), (4, 20_000), (2, 40_000), (1, 80_000)]
    assert [(rung.size, rung.iterations) for rung in PAPER] == expected


def test_the_papers_race_takes_240k_iterations_and_24_seeds_would_take_340k():
    assert figures(PAPER, 4, 1.0).iterations == 240_000
    assert figures(schedule(24, 5_000, 80_000, 2), 4, 1.0).iterations == 340_000


def test_on_four_gpus_the_longest_chain_is_100k_iterations_or_21_hours_11():
    cost = figures(PAPER, 4, PAPER_SECONDS_PER_ITERATION)
    assert cost.longest_chain_iterations == 100_000
    assert cost.makespan_seconds == pytest.approx(76_300)
    assert hours_and_minutes(cost.makespan_seconds) == "21:11"


def test_240k_iterations_are_50_gpu_hours_52():
    cost = figures(PAPER, 4, PAPER_SECONDS_PER_ITERATION)
    assert hours_and_minutes(cost.gpu_seconds) == "50:52"


def test_one_model_of_80k_iterations_takes_16_hours_57():
    cost = figures(schedule(1, 80_000, 80_000, 2), 4, PAPER_SECONDS_PER_ITERATION)
    assert cost.longest_chain_iterations == cost.iterations == 80_000
    assert hours_and_minutes(cost.makespan_seconds) == "16:57"


def test_one_gpu_does_everything_in_a_row_and_sixteen_only_the_winners_way():
    assert figures(PAPER, 1, 1.0).longest_chain_iterations == 240_000
    assert figures(PAPER, 16, 1.0).longest_chain_iterations == 80_000
    assert figures(PAPER, 1_000, 1.0).longest_chain_iterations == 80_000


@pytest.mark.parametrize(("gpus", "seconds"), [(0, 1.0), (-1, 1.0), (4, 0.0), (4, float("nan"))])
def test_figures_refuse_no_gpus_and_no_time(gpus, seconds):
    with pytest.raises(SettingsError, match=r"gpus \(|seconds per iteration \("):
        figures(PAPER, gpus, seconds)


def test_a_single_seed_goes_through_every_rung():
    assert schedule(1, 5, 20, 2) == (Rung(1, 5), Rung(1, 10), Rung(1, 20))


def test_three_seeds_become_one():
    assert schedule(3, 5, 20, 2) == (Rung(3, 5), Rung(1, 10), Rung(1, 20))


def test_minimum_equal_to_maximum_is_one_rung_that_has_one_winner():
    rungs = schedule(16, 80, 80, 2)
    assert rungs == (Rung(16, 80),)
    assert promotion_slots(rungs, 0) == 1


def test_the_last_rung_is_the_maximum_even_where_it_is_no_power():
    assert [rung.iterations for rung in schedule(8, 5, 30, 2)] == [5, 10, 20, 30]


def test_rungs_are_counted_with_integers_where_a_floating_logarithm_rounds_down():
    # math.log(243, 3) is 4.999..., which would lose the rung at 81.
    iterations = [rung.iterations for rung in schedule(243, 1, 243, 3)]
    assert iterations == [1, 3, 9, 27, 81, 243]
    assert [rung.size for rung in schedule(243, 1, 243, 3)] == [243, 81, 27, 9, 3, 1]


def test_promotion_slots_are_the_next_rungs_size_and_one_at_the_last():
    assert [promotion_slots(PAPER, rung) for rung in range(5)] == [8, 4, 2, 1, 1]


def test_rank_puts_the_highest_first_ties_to_the_lower_seed_and_the_failed_last():
    assert rank({0: 0.5, 1: None, 2: 0.7, 3: 0.5, 4: 0.0}) == [2, 0, 3, 4, 1]


def test_a_decision_splits_the_rung_best_first():
    standing = decide({0: 0.1, 1: 0.4, 2: 0.3, 3: 0.4}, promotion_slots=2)
    assert standing.promoted == (1, 3)
    assert standing.pruned == (2, 0)


def test_a_failed_seed_does_not_go_on_even_where_there_is_room():
    standing = decide({0: None, 1: 0.4, 2: None, 3: None}, promotion_slots=2)
    assert standing.promoted == (1,)
    assert standing.pruned == (0, 2, 3)


def test_a_promotion_is_guaranteed_as_soon_as_enough_others_are_worse():
    scores = {0: 0.5, 1: 0.1}
    assert guaranteed(scores, waiting=2, promotion_slots=2) == []
    assert guaranteed(scores | {2: 0.2}, waiting=1, promotion_slots=2) == [0]
    assert guaranteed(scores | {2: 0.2, 3: 0.4}, waiting=0, promotion_slots=2) == [0, 3]


def test_a_failed_seed_counts_as_worse_but_is_never_guaranteed_promotion():
    assert guaranteed({0: 0.5, 1: None}, waiting=1, promotion_slots=2) == [0]
    assert guaranteed({0: None, 1: None}, waiting=0, promotion_slots=2) == []


def test_where_there_is_room_for_all_a_seed_goes_on_at_once():
    assert guaranteed({3: 0.0}, waiting=7, promotion_slots=8) == [3]


def test_guaranteed_seeds_are_always_among_those_that_waiting_would_have_promoted():
    rng = np.random.default_rng(20220720)
    # Few different values, so that there are many ties.
    values = [None, 0.1, 0.2, 0.3]
    for _ in range(500):
        seeds = int(rng.integers(1, 10))
        room = int(rng.integers(1, seeds + 1))
        scores = {seed: values[rng.integers(4)] for seed in range(seeds)}
        promoted = decide(scores, room).promoted
        order = [int(seed) for seed in rng.permutation(seeds)]
        for known in range(seeds + 1):
            so_far = {seed: scores[seed] for seed in order[:known]}
            assert set(guaranteed(so_far, seeds - known, room)) <= set(promoted)
        assert tuple(guaranteed(scores, 0, room)) == promoted


def test_hope_ends_only_when_enough_others_are_better():
    assert hopeful({0: 0.1, 1: 0.3, 2: 0.2, 4: None}, waiting=[3], promotion_slots=2) == {1, 2, 3}


def test_no_outcome_of_the_waiting_promotes_a_seed_without_hope():
    scores = {0: 0.1, 1: 0.3, 2: 0.2}
    hope = hopeful(scores, waiting=[3, 4], promotion_slots=2)
    for late in itertools.product([None, 0.0, 0.15, 0.25, 1.0], repeat=2):
        everybody = scores | dict(zip([3, 4], late, strict=True))
        assert set(decide(everybody, 2).promoted) <= hope


def test_jobs_are_assigned_to_gpus_longest_first():
    assert makespan([], 3) == 0
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([1.0] * 5, 4) == 2
