"""Folding facts into a state, and planning from it: the rules, without a clock or a store."""

import dataclasses
import math

import pytest

from liverseg.core.race.halving import Rung
from liverseg.core.race.ledger import Sample, Span
from liverseg.errors import StudyError
from liverseg.race.decide.checkpoint_retention import needed_reports, useless
from liverseg.race.decide.reconcile import Actions, Capacity, reached, reconcile
from liverseg.race.decide.state import ATTEMPTS, LOST_ATTEMPTS, RaceState, fold
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import Checkpoint
from liverseg.race.records.job import Job, JobState, own_jobs
from liverseg.race.records.reports import ReportKey
from liverseg.race.records.snapshot import Snapshot, rests_on
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED, RaceSettings
from tests.race.rehearsal import DATASET, NONCE, SETTINGS

RACE = RaceSettings(seeds=4, minimum_iterations=2, maximum_iterations=8)
RUNGS = (Rung(4, 2), Rung(2, 4), Rung(1, 8))
NOTHING = Snapshot((), (), frozenset(), (), {}, frozenset(), {})
GENERATION = 1
STUDY = Study("s", SETTINGS, DATASET, NONCE)


def report(seed: int, jaccard: float | None, rung: int = 0, attempt: int = 0) -> ReportKey:
    # A value that is not finite cannot be part of a key.
    value = jaccard if jaccard is None or math.isfinite(jaccard) else None
    return ReportKey(seed, rung, attempt, value, 2, value, f"sha-{rung}-{seed}-{attempt}")


def failure(
    seed: int,
    attempt: int = 0,
    *,
    exit_code: int | None = 1,
    iteration: int = 0,
    generation: int = GENERATION,
) -> Failure:
    kind = "model" if exit_code == 78 else "infrastructure"
    return Failure(seed, 0, attempt, exit_code, "broke", kind, iteration, generation)


def snapshot(*recorded: ReportKey | Failure | Promotion | Decision, **more: object) -> Snapshot:
    def only(kind: type) -> tuple:
        return tuple(r for r in recorded if isinstance(r, kind))

    return dataclasses.replace(
        NOTHING,
        reports=only(ReportKey),
        failures=only(Failure),
        promotions=frozenset((p.rung, p.seed) for p in only(Promotion)),
        decisions=only(Decision),
        named=rests_on(only(Promotion) + only(Decision)),
        **more,
    )


def state_of(*recorded: ReportKey | Failure | Promotion | Decision) -> RaceState:
    return fold(RUNGS, RACE, snapshot(*recorded), GENERATION)


def planned(
    *recorded: ReportKey | Failure | Promotion | Decision,
    running: tuple[Job, ...] = (),
    ended: dict[Job, int | None] | None = None,
    gpus: int = 2,
    compare_baseline: bool = False,
    **more: object,
) -> Actions:
    seen = snapshot(*recorded, **more)
    states = {job.name: JobState(job.name, running=True) for job in running}
    for job, code in (ended or {}).items():
        states[job.name] = JobState(job.name, running=False, exit_code=code)
    capacity = Capacity(gpus, compare_baseline)
    jobs, state = own_jobs(STUDY, states), fold(RUNGS, RACE, seen, GENERATION)
    return reconcile(STUDY, state, seen, jobs, capacity, GENERATION)


def job(seed: int, rung: int = 0, attempt: int = 0) -> Job:
    return Job.of("s", NONCE, seed, rung, attempt, RUNGS[rung].iterations)


ALL = tuple(report(seed, 0.1 * seed) for seed in range(4))
DECIDED = Decision(
    0, 2, tuple(Input(s, 0, 0.1 * s, f"sha-0-{s}-0") for s in range(4)), (3, 2), (1, 0)
)


def seeds(actions: Actions) -> list[int]:
    return [j.seed for j in actions.jobs]


def test_at_the_start_the_lowest_seeds_get_the_gpus():
    assert planned(gpus=3).jobs == (job(0), job(1), job(2))


def test_running_jobs_occupy_gpus_whatever_they_are():
    assert seeds(planned(running=(job(0), job(3)), gpus=3)) == [1]
    assert planned(running=(job(0), job(1)), gpus=1).jobs == ()


def test_an_evicted_job_has_failed_and_is_cancelled_and_one_that_has_reported_is_cancelled_only():
    span = Span(0, 0, 0, (Sample(2, 100.0),), False, None, "")
    jobs = {job(0).at: JobState(job(0).name, running=True, suspended=True)}

    def after(*recorded: ReportKey | Failure) -> Actions:
        seen = snapshot(*recorded, spans={job(0).at: span})
        state = fold(RUNGS, RACE, seen, GENERATION)
        return reconcile(STUDY, state, seen, jobs, Capacity(1, False), GENERATION, (), [job(0).at])

    (failed,) = after().failures
    assert (failed.exit_code, failed.iteration) == (-15, 2)
    assert "suspended after it had begun" in failed.reason
    assert after(failed).cancelled == (job(0).at,)
    reported = after(report(0, 0.5))
    assert (reported.failures, reported.cancelled) == ((), (job(0).at,))


def test_a_job_that_stalls_for_too_long_has_failed_and_is_cancelled():
    jobs = {job(0).at: JobState(job(0).name, running=True, message="on node-1")}

    def after(*recorded: Failure) -> Actions:
        seen = snapshot(*recorded)
        state = fold(RUNGS, RACE, seen, GENERATION)
        return reconcile(STUDY, state, seen, jobs, Capacity(1, False), GENERATION, jobs)

    (failed,) = after().failures
    assert (failed.exit_code, failed.kind) == (None, "stalled")
    assert failed.reason == "has made no progress for too long; on node-1"
    assert after(failed).cancelled == (job(0).at,)


def test_an_attempt_of_a_seed_that_failed_for_good_is_cancelled_and_fails_no_more():
    failures = [failure(0, attempt) for attempt in range(ATTEMPTS)]
    late = job(0, attempt=ATTEMPTS)
    assert planned(*failures, running=(late,)).cancelled == (late.at,)
    assert planned(*failures, ended={late: -9}).failures == ()


def test_a_seed_that_runs_gets_no_second_job():
    assert seeds(planned(running=(job(1),), gpus=8)) == [0, 2, 3]


def test_a_rung_is_decided_when_all_have_reported():
    assert planned(*ALL).decisions == (DECIDED,)
    assert planned(*ALL[1:]).decisions == ()


def test_no_job_starts_in_a_reconcile_that_records_a_fact():
    actions = planned(*ALL, gpus=8)
    assert actions.facts == 1
    assert actions.jobs == ()


def test_the_decision_sends_the_better_half_on():
    actions = planned(*ALL, DECIDED)
    assert actions.jobs == (job(2, 1), job(3, 1))


def test_later_rungs_go_first_and_then_lower_seeds():
    promotions = [Promotion(0, s, ()) for s in (1, 2)]
    actions = planned(report(1, 0.5), report(2, 0.4), *promotions, gpus=8)
    assert [(j.rung, j.seed) for j in actions.jobs] == [(1, 1), (1, 2), (0, 0), (0, 3)]


def test_a_seed_is_promoted_as_soon_as_enough_are_worse_and_names_all_it_rests_on():
    actions = planned(report(0, 0.1), report(2, 0.5), report(3, 0.3))
    assert [p.seed for p in actions.promotions] == [2]
    assert [(i.seed, i.sha256) for i in actions.promotions[0].inputs] == [
        (0, "sha-0-0-0"),
        (2, "sha-0-2-0"),
        (3, "sha-0-3-0"),
    ]


def test_a_promotion_at_the_second_rung_counts_those_who_may_still_come():
    promoted = Promotion(0, 3, ())
    actions = planned(report(3, 0.3), report(3, 0.9, rung=1), promoted)
    assert actions.promotions == ()


def test_the_winner_is_never_promoted_early():
    # At the last rung there is nothing to go on to; its decision is the result.
    rungs = (Rung(4, 8),)
    seen = snapshot(report(0, 0.9), failure(1, exit_code=78), failure(2, exit_code=78))
    actions = reconcile(STUDY, fold(rungs, RACE, seen, 1), seen, {}, Capacity(1, False), 1)
    assert actions.promotions == ()
    assert actions.decisions == ()


def test_a_job_that_ended_without_a_report_failed_even_with_exit_code_0():
    for code in (0, 1, -9, 75, 76, None):
        (failed,) = planned(ended={job(0): code}).failures
        assert (failed.seed, failed.attempt, failed.exit_code) == (0, 0, code)
        assert failed.kind == "infrastructure"


def test_a_loss_that_is_not_finite_is_the_models_own_failure():
    (failed,) = planned(ended={job(0): 78}).failures
    assert failed.kind == "model"


def test_an_exit_code_that_only_the_trainer_knew_is_taken_from_its_span():
    spans = {job(0).at: Span(0, 0, 0, (Sample(0, 5.0), Sample(1, 6.0)), True, 78)}
    (failed,) = planned(ended={job(0): None}, spans=spans).failures
    assert (failed.exit_code, failed.kind) == (78, "model")


def test_a_job_that_reported_has_not_failed_however_it_ended():
    assert planned(report(0, 0.1), ended={job(0): -9}).failures == ()


def test_a_failure_is_recorded_once():
    assert planned(failure(0), ended={job(0): 1}).failures == ()


def test_after_a_failure_the_next_attempt_is_due():
    ended = {job(0): 1, job(0, 0, 1): 1}
    closed = frozenset(job.at for job in ended)
    actions = planned(failure(0), failure(0, 1), ended=ended, closed=closed)
    assert actions.jobs == (job(0, attempt=2), job(1))


def test_every_job_that_has_ended_is_closed_once():
    ended = {job(0): 0, job(1): 0}
    actions = planned(*ALL, DECIDED, ended=ended, closed=frozenset({job(0).at}))
    assert actions.closed == (job(1).at,)


def test_after_three_attempts_that_got_no_further_a_seed_has_failed_for_good():
    failures = [failure(0, attempt) for attempt in range(ATTEMPTS)]
    assert not state_of(*failures[:-1]).rungs[0].seeds[0].lost
    assert state_of(*failures).rungs[0].seeds[0].lost
    assert 0 not in seeds(planned(*failures, gpus=8))


def test_an_attempt_that_got_further_starts_a_new_count():
    reached_iterations = (0, 0, 1, 1, 1)
    failures = [failure(0, a, iteration=i) for a, i in enumerate(reached_iterations)]
    assert not state_of(*failures).rungs[0].seeds[0].lost
    assert state_of(*failures, failure(0, 5, iteration=1)).rungs[0].seeds[0].lost


@pytest.mark.parametrize("code", [75, 76, 77, -15, -9, None])
def test_a_trainer_that_others_end_again_and_again_fails_much_later(code):
    failures = [failure(0, attempt, exit_code=code) for attempt in range(LOST_ATTEMPTS)]
    assert not state_of(*failures[:-1]).rungs[0].seeds[0].lost
    assert state_of(*failures).rungs[0].seeds[0].lost


def test_its_own_failures_and_those_of_its_nodes_are_counted_apart():
    codes = (1, None, 1, -9, None)
    failures = [failure(0, attempt, exit_code=code) for attempt, code in enumerate(codes)]
    assert not state_of(*failures).rungs[0].seeds[0].lost
    assert state_of(*failures, failure(0, 5, exit_code=1)).rungs[0].seeds[0].lost


def test_a_person_who_starts_again_gets_all_attempts_anew():
    failures = [failure(0, attempt, generation=GENERATION - 1) for attempt in range(ATTEMPTS)]
    assert not state_of(*failures).rungs[0].seeds[0].lost
    assert state_of(failure(0, exit_code=78, generation=GENERATION - 1)).rungs[0].seeds[0].lost


def test_a_seed_that_a_decision_counted_as_failed_stays_out_for_good():
    inputs = (Input(0, None, None, None), *DECIDED.inputs[1:])
    decision = dataclasses.replace(DECIDED, inputs=inputs)
    old = [failure(0, attempt, generation=GENERATION - 1) for attempt in range(ATTEMPTS)]
    assert state_of(*old, decision).rungs[0].seeds[0].lost
    # Not even a report that comes late brings it back.
    assert state_of(*ALL, *old, decision).rungs[0].seeds[0].report is None


def test_a_late_report_of_a_seed_that_failed_for_good_does_not_count():
    failures = [failure(0, attempt) for attempt in range(ATTEMPTS)]
    assert state_of(report(0, 0.9), *failures).rungs[0].scores[0] is None


def test_of_two_reports_the_lower_attempts_counts():
    state = state_of(report(0, 0.2, attempt=1), report(0, 0.1))
    assert state.rungs[0].scores[0] == 0.1


def test_a_report_that_was_named_counts_even_against_a_lower_attempts():
    named = Promotion(0, 3, (Input(0, 1, 0.2, "sha-0-0-1"),))
    state = state_of(report(0, 0.2, attempt=1), report(0, 0.9), named)
    assert state.rungs[0].scores[0] == 0.2


def test_a_recorded_decision_stands_whatever_comes_later():
    other = dataclasses.replace(DECIDED, promoted=(0, 1), pruned=(3, 2))
    assert planned(*ALL, other).jobs == (job(0, 1), job(1, 1))


def test_fewer_survivors_than_promotion_slots_are_all_promoted_and_nobody_is_added():
    lost = [failure(seed, exit_code=78) for seed in (0, 1, 2)]
    (decision,) = planned(report(3, 0.1), *lost).decisions
    assert decision.promoted == (3,)
    assert decision.pruned == (0, 1, 2)


def test_a_seed_without_a_finite_jaccard_does_not_go_on():
    reports = [report(0, None), *ALL[1:]]
    (decision,) = planned(*reports).decisions
    assert decision.promoted == (3, 2)
    assert decision.pruned == (1, 0)


def test_if_all_seeds_of_a_rung_failed_every_failure_is_named():
    lost = [failure(seed, exit_code=78) for seed in range(4)]
    with pytest.raises(
        StudyError, match=r"(?s)all 4 seeds failed at rung 0.*seed 0: broke.*seed 3"
    ):
        planned(*lost)


def test_a_stray_attempt_of_a_pruned_seed_is_cancelled():
    stray = job(0, attempt=1)
    assert planned(*ALL, DECIDED, running=(stray,)).cancelled == (stray.at,)


def test_a_job_that_has_just_reported_is_left_to_end_by_itself():
    assert planned(*ALL, DECIDED, running=(job(0), job(3))).cancelled == ()


def test_a_job_of_a_rung_that_its_seed_never_reached_is_cancelled():
    assert planned(*ALL, DECIDED, running=(job(0, 1),)).cancelled == (job(0, 1).at,)


def test_jobs_of_other_studies_and_other_names_are_not_touched():
    other = Job.of("other", NONCE, 0, 2, 5, 8)
    actions = planned(running=(other,), gpus=4)
    assert actions.cancelled == ()
    assert len(actions.jobs) == 4


def baseline_job() -> Job:
    return Job.of("s", NONCE, BASELINE_SEED, 2, 0, 8)


def test_the_baseline_waits_while_the_race_could_use_all_gpus():
    # 3 and 2 may go on, 1 cannot any more.
    before = planned(*ALL, DECIDED, running=(job(2, 1), job(3, 1)), gpus=2, compare_baseline=True)
    assert before.jobs == ()
    roomy = planned(*ALL, DECIDED, running=(job(2, 1), job(3, 1)), gpus=3, compare_baseline=True)
    assert roomy.jobs == (baseline_job(),)


def test_the_baseline_leaves_a_gpu_free_that_the_race_will_need():
    # Seed 3 is ahead and has paused; when seed 0 reports, two seeds need two slots.
    ahead = (*ALL[1:], Promotion(0, 3, ()), report(3, 0.3, rung=1))
    assert planned(*ahead, running=(job(0),), gpus=2, compare_baseline=True).jobs == ()
    # Of the last two only one goes on.
    final = (*ALL, DECIDED, report(3, 0.3, rung=1))
    assert planned(*final, running=(job(2, 1),), gpus=2, compare_baseline=True).jobs == (
        baseline_job(),
    )


def test_the_baseline_does_not_wait_for_slots_that_nobody_can_take():
    lost = [failure(seed, exit_code=78) for seed in (0, 1, 2)]
    actions = planned(*lost, running=(job(3),), gpus=2, compare_baseline=True)
    assert actions.jobs == (baseline_job(),)


def test_a_baseline_that_reported_or_failed_for_good_gets_no_job():
    lost = Failure(BASELINE_SEED, "baseline", 0, 78, "broke", "model", 0, GENERATION)
    done = dataclasses.replace(report(BASELINE_SEED, 0.5), rung="baseline")
    written = frozenset({"baseline"})
    for recorded in (lost, done):
        actions = planned(*ALL, DECIDED, recorded, results=written, gpus=8, compare_baseline=True)
        assert seeds(actions) == [2, 3]


def test_the_baseline_starts_beside_the_last_survivor():
    final = Decision(1, 4, (), (3,), (2,))
    recorded = (*ALL, DECIDED, report(2, 0.2, 1), report(3, 0.3, 1), final)
    assert planned(*recorded, gpus=2, compare_baseline=True).jobs == (job(3, 2), baseline_job())
    assert planned(*recorded, gpus=2, compare_baseline=False).jobs == (job(3, 2),)
    assert planned(*recorded, gpus=1, compare_baseline=True).jobs == (job(3, 2),)


def test_a_closed_span_is_due_for_a_job_that_ended_without_a_report():
    begun = {job(0).at: Span(0, 0, 0, (Sample(0, 5.0),), False, None)}
    actions = planned(report(0, 0.1), ended={job(0): -9}, spans=begun)
    assert actions.closed == (job(0).at,)
    running = planned(running=(job(0),), spans=begun)
    assert running.closed == ()


def test_what_a_promoted_seed_resumes_from_is_kept_and_what_a_pruned_one_left_is_not():
    # Rung 0 is not among the last three, whose reports name what is kept of everybody.
    rungs = (*RUNGS, Rung(1, 16), Rung(1, 32))
    state = fold(rungs, RACE, snapshot(*ALL, DECIDED), GENERATION)
    assert needed_reports(state) == []
    saved = {seed: [Checkpoint(2, 0, f"{seed}/")] for seed in range(4)}
    assert [checkpoint.prefix for checkpoint in useless(state, saved, ())] == ["0/", "1/"]


def test_a_rung_is_reached_by_its_decision_and_the_end_by_the_result():
    seen = snapshot(*ALL, DECIDED)
    state = fold(RUNGS, RACE, seen, GENERATION)
    assert reached(state, seen, 0)
    assert not reached(state, seen, 1)
    assert not reached(state, seen, "end")
    done = dataclasses.replace(seen, results=frozenset({"multi"}))
    for until in ("end", 2, 99):
        assert not reached(state, seen, until)
        assert reached(state, done, until)
    assert not reached(state, done, "baseline")
    assert reached(
        state, dataclasses.replace(seen, results=frozenset({"multi", "baseline"})), "baseline"
    )


def test_the_last_value_can_be_the_one_that_ranks():
    race = dataclasses.replace(RACE, rung_metric="last")
    seen = snapshot(dataclasses.replace(report(0, 0.9), last_jaccard=0.1))
    assert fold(RUNGS, race, seen, GENERATION).rungs[0].scores == {0: 0.1}
    assert fold(RUNGS, RACE, seen, GENERATION).rungs[0].scores == {0: 0.9}
