import pytest

from liverseg.core.race.ledger import (
    OUTCOMES,
    Cost,
    RungName,
    Sample,
    Span,
    Spent,
    cost_by_attempt,
    decision_times,
    most_at_once,
    total,
)


def span(*samples: tuple[int, float], attempt: int = 0, exit_code: int = 0) -> Span:
    """A process of seed 0 at rung 0 that has ended."""
    return Span(0, 0, attempt, tuple(Sample(i, t) for i, t in samples), True, exit_code)


def cost_of(*spans: Span, covered: int, decided: float | None = None) -> Cost:
    times = {} if decided is None else {0: decided}
    return total(cost_by_attempt(spans, {0: covered}, times).values())


def test_the_stretches_of_a_span_begin_where_it_resumed():
    samples = (Sample(0, 10.0), Sample(500, 25.0), Sample(600, 35.0), Sample(700, 55.0))
    assert Span(0, 0, 0, samples, False, None).stretches == [(100, 10.0), (100, 20.0)]
    assert Span(0, 0, 0, samples[:1], False, None).stretches == []


def test_a_clean_training_is_useful_but_for_its_start_and_end():
    cost = cost_of(span((0, 0), (0, 7), (5, 17), (10, 27), (10, 28)), covered=10)
    assert cost["useful"] == Spent(10, 20)
    assert cost["startup"] == Spent(0, 8)
    assert cost["repeated"] == cost["pruned"] == Spent()


def test_a_resumed_training_counts_from_where_it_resumed():
    cost = cost_of(span((0, 0), (5, 4), (10, 14), (10, 15)), covered=10)
    assert cost["useful"] == Spent(5, 10)
    assert cost["startup"] == Spent(0, 5)


def test_iterations_that_are_done_again_are_repeated():
    first = span((0, 0), (0, 1), (5, 11), (5, 14), exit_code=-9)
    second = span((0, 20), (0, 21), (5, 31), (10, 41), (10, 41), attempt=1)
    cost = cost_of(first, second, covered=10)
    assert cost["useful"] == Spent(10, 20)
    # 3 seconds of work died with the first process, 5 iterations were done twice.
    assert cost["repeated"] == Spent(5, 13)
    assert cost["startup"] == Spent(0, 2)


def test_a_stretch_that_is_partly_new_is_shared_out():
    first = span((0, 0), (0, 0), (6, 6), (6, 6), exit_code=75)
    second = span((0, 10), (4, 10), (8, 14), (8, 14), attempt=1)
    cost = cost_of(first, second, covered=8)
    assert cost["useful"] == Spent(8, 8)
    assert cost["repeated"] == Spent(2, 2)


def test_what_no_report_covers_is_not_useful():
    cost = cost_of(span((0, 0), (0, 1), (5, 11), (5, 11)), covered=0)
    assert cost["useful"] == Spent()
    assert cost["startup"] == Spent(5, 11)


def test_time_after_the_decision_against_a_seed_is_pruned():
    cost = cost_of(span((0, 0), (0, 1), (5, 11), (10, 21), (10, 22)), covered=5, decided=15)
    assert cost["useful"] == Spent(5, 10)
    assert cost["pruned"] == Spent(5, 11)


def test_an_interrupted_process_that_saved_has_lost_nothing():
    cost = cost_of(span((0, 0), (0, 1), (3, 4), (3, 5), exit_code=75), covered=0)
    assert cost["repeated"] == Spent()


def test_a_running_process_is_counted_to_its_last_mark():
    running = Span(0, 0, 0, (Sample(0, 0), Sample(0, 1), Sample(5, 11)), False, None)
    assert cost_of(running, covered=0)["startup"] == Spent(5, 11)


@pytest.mark.parametrize("decided", [None, 0.0, 12.0, 35.0])
@pytest.mark.parametrize("covered", [0, 3, 7, 10])
def test_outcomes_add_up_to_the_spans(covered, decided):
    spans = [
        span((0, 0), (0, 2), (5, 11), (5, 14), exit_code=-9),
        span((0, 20), (3, 21), (5, 31), (10, 41), (10, 45), attempt=1),
    ]
    cost = cost_of(*spans, covered=covered, decided=decided)
    assert sum(cost[o].seconds for o in OUTCOMES) == pytest.approx(14 + 25)
    assert sum(cost[o].iterations for o in OUTCOMES) == 5 + 7


def test_seeds_rungs_and_attempts_have_costs_of_their_own():
    samples = (Sample(0, 0), Sample(0, 1), Sample(5, 11))
    attempts = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1))
    spans = [Span(*ids, samples, True, 0) for ids in attempts]
    costs = cost_by_attempt(spans, {0: 5, 1: 5}, {})
    assert set(costs) == set(attempts)
    assert costs[1, 0, 0]["useful"] == Spent(5, 10)
    assert costs[1, 1, 0]["repeated"] == costs[1, 1, 1]["repeated"] == Spent(5, 10)


def test_a_decision_falls_when_the_last_process_it_rests_on_has_ended():
    spans = [
        Span(s, 0, 0, (Sample(0, 0), Sample(0, end)), True, 0) for s, end in ((0, 10.0), (1, 12.0))
    ]
    decision = (0, {0: 0, 1: 0, 2: None}, (1, 2))
    assert decision_times([decision], spans) == {1: 12.0, 2: 12.0}


def life(start: float, end: float, ended: bool = True, rung: RungName = 0) -> Span:
    return Span(0, rung, 0, (Sample(0, start), Sample(2, end)), ended, 0)


def test_who_lives_at_the_same_time_is_counted_without_the_baseline():
    assert most_at_once([]) == 0
    one_after_another = [life(0, 5), life(5, 9)]
    assert most_at_once(one_after_another) == 1
    baseline = life(0, 9, rung="baseline")
    assert most_at_once([*one_after_another, life(6, 7, ended=False), baseline]) == 2
